//! Tasks under load: submissions and status queries at the same time, each at its own pace,
//! and a count of the acknowledged tasks afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client::{self, Client, segment, with_query};
use crate::workload::error::Error;
use crate::workload::load::{Figures, Measured, Pace, run_open_loop};
use crate::workload::random::mixed;
use crate::workload::server::PrivateServer;

/// Most ids of lost tasks in a report.
const MAX_LISTED: usize = 20;
/// How long the load runs before the server is killed.
const TIME_TO_KILL: Duration = Duration::from_secs(1);

/// Tasks of the bench's project.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    project: String,
    tier: String,
    /// Ids of the acknowledged tasks.
    acknowledged: Arc<Mutex<Vec<String>>>,
}

/// Counts of the acknowledged tasks.
#[derive(Debug, Default, Serialize)]
pub struct TaskCounts {
    /// Submissions that were acknowledged.
    pub acknowledged: u64,
    /// Submissions without an acknowledgement, whose tasks may exist or not.
    pub unanswered: u64,
    /// Tasks that the server counts in the project.
    pub counted: u64,
    /// Acknowledged tasks that the server does not have.
    pub lost: u64,
    /// Ids of some of the lost tasks.
    pub lost_ids: Vec<String>,
    /// The kill under load before the count; `None` on a server that was running before.
    pub killed: Option<KillReport>,
}

/// A kill of the server (SIGKILL) under load.
#[derive(Debug, Serialize)]
pub struct KillReport {
    /// Submissions of that load that were acknowledged before the kill.
    pub acknowledged_before: u64,
    /// Submissions under way at the kill, which got no answer.
    pub under_way: u64,
    /// Time from the start of the new process to its readiness.
    pub started_again_in_ms: f64,
}

/// A connection of a load: its tasks and its client.
type TaskConnection = (Tasks, Client);

impl Tasks {
    pub(super) fn new(project: &str, tier: &str) -> Self {
        Self { project: project.to_owned(), tier: tier.to_owned(), acknowledged: Arc::default() }
    }

    /// Submits one task.
    pub(super) async fn submit(&self, client: &Client, number: u64) -> Result<(), client::Error> {
        let id = submit(client, &self.project, &self.tier, "none", number).await?;
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        Ok(())
    }

    /// Requests the status of one of the tasks acknowledged so far.
    async fn query_one(&self, client: &Client, number: u64) -> Result<(), client::Error> {
        let id = {
            let ids = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            let place = usize::try_from(mixed(number)).unwrap_or(0).checked_rem(ids.len());
            place.and_then(|place| ids.get(place).cloned())
        };
        let id = id.ok_or_else(|| client::Error::Protocol("no task was acknowledged yet".to_owned()))?;
        client.get(&task_path(&id)).await.map(drop)
    }

    /// Sends submissions and status queries at the same time, each at this pace.
    pub(super) async fn load(&self, client: &Client, pace: Pace, bar: &ProgressBar) -> (Figures, Figures) {
        let never = CancellationToken::new();
        let (submissions, queries) = tokio::join!(
            self.submissions(client, pace, bar, &never),
            run_open_loop(pace, self.connections(client, pace), bar, &never, |(tasks, client), number| async move {
                let result = tasks.query_one(&client, number).await;
                ((tasks, client), result.map_err(|error| error.to_string()))
            }),
        );
        (submissions.figures(), queries.figures())
    }

    async fn submissions(&self, client: &Client, pace: Pace, bar: &ProgressBar, stop: &CancellationToken) -> Measured {
        run_open_loop(pace, self.connections(client, pace), bar, stop, |(tasks, client), number| async move {
            let result = tasks.submit(&client, number).await;
            ((tasks, client), result.map_err(|error| error.to_string()))
        })
        .await
    }

    fn connections(&self, client: &Client, pace: Pace) -> Vec<TaskConnection> {
        (0..pace.connections).map(|_| (self.clone(), client.clone())).collect()
    }

    /// Submits without a pause until the server is killed, and restarts it.
    pub(super) async fn kill(&self, server: &mut PrivateServer, connections: u32) -> Result<KillReport, Error> {
        // More a second than can be answered, so that every connection waits for an answer.
        let pace = Pace { per_second: 100_000, duration: 2 * TIME_TO_KILL, connections };
        let (stop, hidden) = (CancellationToken::new(), ProgressBar::hidden());
        let client = server.client.clone();
        let kill = async {
            sleep(TIME_TO_KILL).await;
            server.kill();
            stop.cancel();
        };
        let (submissions, ()) = tokio::join!(self.submissions(&client, pace, &hidden, &stop), kill);
        let started_again_in_ms = server.restart().await?.as_secs_f64() * 1000.0;
        let (acknowledged_before, under_way) = (submissions.latencies.count(), submissions.latencies.failed());
        Ok(KillReport { acknowledged_before, under_way, started_again_in_ms })
    }

    /// Looks up every acknowledged task, and compares their number with the server's count.
    pub(super) async fn look_up(
        &self,
        client: &Client,
        connections: u32,
        bar: &ProgressBar,
    ) -> Result<TaskCounts, Error> {
        let ids = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let missing = filter_ids(client, &ids, connections, bar, |client, id| async move {
            match client.get(&task_path(&id)).await {
                Ok(_) => Ok(false),
                Err(client::Error::Problem(problem)) if problem.status == 404 => Ok(true),
                Err(error) => Err(error),
            }
        })
        .await?;
        let query = [("project_id", Some(self.project.clone())), ("limit", Some("1".to_owned()))];
        let page = client.get(&with_query("/tasks", &query)).await?;
        let counted = page.json["total"].as_u64().unwrap_or(0);
        let acknowledged = to_u64(ids.len());
        // A task that is found by its id but missing in the list counts as lost, too.
        let lost = to_u64(missing.len()).max(acknowledged.saturating_sub(counted));
        let lost_ids = missing.into_iter().take(MAX_LISTED).collect();
        Ok(TaskCounts { acknowledged, counted, lost, lost_ids, ..TaskCounts::default() })
    }
}

/// Submits a task and returns its id. The submission names domain, tier and QA profile and
/// turns `decompose` off, so that it does not depend on an Agent.
pub(super) async fn submit(
    client: &Client,
    project: &str,
    tier: &str,
    qa_profile: &str,
    number: u64,
) -> Result<String, client::Error> {
    let body = json!({
        "description": format!("Task {number} of a bench"), "project_id": project,
        "options": {"tier": tier, "domain": "code-general", "qa_profile": qa_profile, "decompose": false},
    });
    let answer = client.post("/tasks", &body).await?;
    let id = answer.json["task_id"].as_str().map(str::to_owned);
    id.ok_or_else(|| client::Error::Protocol("a submission was answered without a task_id".to_owned()))
}

/// Calls `ask` for each id, with `connections` calls at once, and returns the ids for which
/// it returned true.
pub(super) async fn filter_ids<Asked>(
    client: &Client,
    ids: &[String],
    connections: u32,
    bar: &ProgressBar,
    ask: fn(Client, String) -> Asked,
) -> Result<Vec<String>, Error>
where
    Asked: Future<Output = Result<bool, client::Error>> + Send + 'static,
{
    bar.set_length(to_u64(ids.len()));
    let (ids, next) = (Arc::new(ids.to_vec()), Arc::new(AtomicUsize::new(0)));
    let mut asking = JoinSet::new();
    for _ in 0..connections {
        let (client, ids, next, bar) = (client.clone(), Arc::clone(&ids), Arc::clone(&next), bar.clone());
        asking.spawn(async move {
            let mut found = Vec::new();
            while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                if ask(client.clone(), id.clone()).await? {
                    found.push(id.clone());
                }
                bar.inc(1);
            }
            Ok::<_, client::Error>(found)
        });
    }
    let mut found = Vec::new();
    while let Some(ended) = asking.join_next().await {
        found.extend(ended.map_err(|error| Error::Failed(format!("a connection stopped: {error}")))??);
    }
    Ok(found)
}

/// Returns the path of a task.
pub(super) fn task_path(id: &str) -> String {
    format!("/tasks/{}", segment(id))
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
