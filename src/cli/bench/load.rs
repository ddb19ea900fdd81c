//! Tasks under load: submissions and status queries at the same time, each at its
//! own pace, and whether every acknowledged task is there afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::pace::{Figures, Pace, mixed, paced};
use super::private::Private;
use crate::cli::client::{Client, Error, segment, with_query};
use crate::cli::exit::Failure;

/// Most ids of lost tasks that a report lists.
const MAX_LISTED: usize = 20;

/// How long the load goes on in which the server is killed, until it is.
const UNTIL_KILLED: Duration = Duration::from_secs(1);

/// Tasks of the bench's project, and who submits them.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    pub(super) project: String,
    pub(super) tier: String,
    /// Those that were acknowledged.
    acknowledged: Arc<Mutex<Vec<String>>>,
}

/// What became of the acknowledged tasks.
#[derive(Debug, Default, Serialize)]
pub(super) struct Kept {
    /// Submissions that were acknowledged.
    pub(super) acknowledged: u64,
    /// Submissions without an acknowledgement: their tasks may be there or not.
    pub(super) unanswered: u64,
    /// Tasks that the server counts in the project.
    pub(super) counted: u64,
    /// Acknowledged tasks that are not there.
    pub(super) lost: u64,
    /// Some of those.
    pub(super) lost_ids: Vec<String>,
    /// The server was killed in the middle of a load before these were counted.
    pub(super) killed: Option<Killed>,
}

/// `kill -9` under load.
#[derive(Debug, Serialize)]
pub(super) struct Killed {
    /// Submissions that were acknowledged in that load before the end.
    pub(super) acknowledged_before: u64,
    /// Submissions that were under way, and got no answer.
    pub(super) under_way: u64,
    /// From the start of the new process to its readiness.
    pub(super) started_again_in_ms: f64,
}

impl Tasks {
    pub(super) fn new(project: &str, tier: &str) -> Self {
        Self { project: project.to_owned(), tier: tier.to_owned(), acknowledged: Arc::default() }
    }

    /// Submits one, which nobody but the bench decides about: no Agent is asked.
    pub(super) async fn submit(self, client: Client, number: u64) -> Result<(), Error> {
        let id = submit(&client, &self.project, &self.tier, "none", number).await?;
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        Ok(())
    }

    /// Asks for one of those that were acknowledged so far.
    async fn look_at_one(self, client: Client, number: u64) -> Result<(), Error> {
        let id = {
            let ids = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            let place = usize::try_from(mixed(number)).unwrap_or(0).checked_rem(ids.len());
            place.and_then(|place| ids.get(place).cloned())
        };
        let id = id.ok_or_else(|| Error::Protocol("no task was acknowledged yet".to_owned()))?;
        client.get(&task_path(&id)).await.map(drop)
    }

    fn ids(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Submissions and status queries at the same time, each at this pace.
    pub(super) async fn load(
        &self,
        client: &Client,
        pace: Pace,
        bar: &ProgressBar,
    ) -> Result<(Figures, Figures), Failure> {
        let never = CancellationToken::new();
        let submissions = paced(pace, bar, &never, asking(self, client, Self::submit));
        let queries = paced(pace, bar, &never, asking(self, client, Self::look_at_one));
        let (submissions, queries) = tokio::join!(submissions, queries);
        Ok((submissions?, queries?))
    }

    /// Submissions without a pause until the server is killed, and a start again.
    pub(super) async fn kill(&self, server: &mut Private, connections: u32) -> Result<Killed, Failure> {
        // More a second than can be answered: every connection waits for an answer.
        let pace = Pace { per_second: 100_000, duration: 2 * UNTIL_KILLED, connections };
        let (stop, hidden) = (CancellationToken::new(), ProgressBar::hidden());
        let client = server.client.clone();
        let load = paced(pace, &hidden, &stop, asking(self, &client, Self::submit));
        let kill = async {
            sleep(UNTIL_KILLED).await;
            server.kill();
            stop.cancel();
        };
        let (submissions, ()) = tokio::join!(load, kill);
        let submissions = submissions?;
        let started_again_in_ms = server.start_again().await?.as_secs_f64() * 1000.0;
        Ok(Killed { acknowledged_before: submissions.count, under_way: submissions.failed, started_again_in_ms })
    }

    /// Looks up every acknowledged task, and has the project's counted.
    pub(super) async fn look_up(&self, client: &Client, connections: u32, bar: &ProgressBar) -> Result<Kept, Failure> {
        let ids = self.ids();
        let missing = each(client, &ids, connections, bar, |client, id| async move {
            match client.get(&task_path(&id)).await {
                Ok(_) => Ok(false),
                Err(Error::Problem(problem)) if problem.status == 404 => Ok(true),
                Err(error) => Err(error),
            }
        })
        .await?;
        let query = [("project_id", Some(self.project.clone())), ("limit", Some("1".to_owned()))];
        let page = client.get(&with_query("/tasks", &query)).await?;
        let counted = page.json["total"].as_u64().unwrap_or(0);
        let acknowledged = count(ids.len());
        // What is found one by one and not in the list is lost to who lists.
        let lost = count(missing.len()).max(acknowledged.saturating_sub(counted));
        let lost_ids = missing.into_iter().take(MAX_LISTED).collect();
        Ok(Kept { acknowledged, counted, lost, lost_ids, ..Kept::default() })
    }
}

/// A question for the pace, with what it needs.
fn asking<Asked>(
    tasks: &Tasks,
    client: &Client,
    ask: fn(Tasks, Client, u64) -> Asked,
) -> impl Fn(u64) -> Asked + Clone + Send + 'static
where
    Asked: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (tasks, client) = (tasks.clone(), client.clone());
    move |number| ask(tasks.clone(), client.clone(), number)
}

/// Submits a task and gives its id. With domain, tier and QA profile named and
/// `decompose` off, no Agent is waited for.
pub(super) async fn submit(
    client: &Client,
    project: &str,
    tier: &str,
    qa_profile: &str,
    number: u64,
) -> Result<String, Error> {
    let body = json!({
        "description": format!("Task {number} of a bench"), "project_id": project,
        "options": {"tier": tier, "domain": "code-general", "qa_profile": qa_profile, "decompose": false},
    });
    let answer = client.post("/tasks", &body).await?;
    let id = answer.json["task_id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Error::Protocol("a submission was answered without a task_id".to_owned()))
}

/// Asks about each of the ids, so many at once; those that are said to be so.
pub(super) async fn each<Asked>(
    client: &Client,
    ids: &[String],
    connections: u32,
    bar: &ProgressBar,
    ask: fn(Client, String) -> Asked,
) -> Result<Vec<String>, Failure>
where
    Asked: Future<Output = Result<bool, Error>> + Send + 'static,
{
    bar.set_length(count(ids.len()));
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
            Ok::<_, Error>(found)
        });
    }
    let mut found = Vec::new();
    while let Some(ended) = asking.join_next().await {
        found.extend(ended.map_err(|error| Failure::Failed(format!("a connection stopped: {error}")))??);
    }
    Ok(found)
}

pub(super) fn task_path(id: &str) -> String {
    format!("/tasks/{}", segment(id))
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
