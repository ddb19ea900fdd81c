//! From an event that comes in to the moment another connection sees its effect.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::load::{submit, task_path};
use super::pace::{Figures, Latencies};
use crate::cli::client::{Client, Error, EventStream, segment};
use crate::cli::exit::Failure;
use crate::cli::simulate::message::{cloud_event, post};
use crate::clock::Stopwatch;

/// How long a lease waits for the task that was just submitted.
const LEASE_WAIT: Duration = Duration::from_secs(10);
/// An effect that does not show within this time is one that failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between tasks: this is about latency, not about load.
const PAUSE: Duration = Duration::from_millis(20);

/// What was measured, or why nothing was.
#[derive(Debug, Serialize)]
pub(super) struct Events {
    pub(super) figures: Option<Figures>,
    pub(super) not_measured: Option<String>,
}

/// Lets tasks live, one after another, and waits for the effect of each event.
pub(super) struct Watched<'a> {
    /// Sends the events.
    pub(super) sender: &'a Client,
    /// Sees their effects: on connections of its own.
    pub(super) watcher: &'a Client,
    pub(super) project: &'a str,
    pub(super) tier: &'a str,
}

impl Watched<'_> {
    /// For so long, and at least one task's life.
    pub(super) async fn measure(&self, duration: Duration) -> Result<Events, Failure> {
        let started = Stopwatch::start();
        let mut latencies = Latencies::new()?;
        let mut not_measured = None;
        for number in 0.. {
            match self.lease(number).await? {
                Ok(leased) => self.life(&leased, &mut latencies).await?,
                Err(reason) => not_measured = Some(reason),
            }
            if not_measured.is_some() || started.elapsed() >= duration {
                break;
            }
            sleep(PAUSE).await;
        }
        let figures = latencies.figures(started.elapsed());
        let is_any = figures.count + figures.failed > 0;
        Ok(Events { figures: is_any.then_some(figures), not_measured })
    }

    /// Submits a task and leases it; the reason where it can't be had.
    async fn lease(&self, number: u64) -> Result<Result<Value, String>, Failure> {
        let client = self.sender;
        // Before a submission that nobody could work on.
        let path = format!("/queues/{}/lease", segment(self.tier));
        let ask = |seconds: u64| json!({"worker_id": "bench", "max": 1, "lease_seconds": 60, "wait_seconds": seconds});
        if number == 0
            && let Some(reason) = self.own(client.post(&path, &ask(0)).await).await?.err()
        {
            return Ok(Err(reason));
        }
        submit(client, self.project, self.tier, "consensus", number).await?;
        match self.own(client.post(&path, &ask(LEASE_WAIT.as_secs())).await).await? {
            Ok(Some(task)) => Ok(Ok(task)),
            Ok(None) => {
                Ok(Err(format!("workers of the server, or a pause, kept the bench from a task of tier {}", self.tier)))
            }
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// The task of a lease, if it is one of the bench. Another's is given back.
    async fn own(
        &self,
        answer: Result<crate::cli::client::Answer, Error>,
    ) -> Result<Result<Option<Value>, String>, Failure> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(Error::Problem(problem)) if problem.status == 409 => return Ok(Err(problem.to_string())),
            Err(error) => return Err(error.into()),
        };
        let lease = &answer.json["leases"][0];
        if lease.is_null() {
            return Ok(Ok(None));
        }
        if lease["task"]["project_id"] == self.project {
            return Ok(Ok(Some(lease["task"].clone())));
        }
        let id = lease["lease_id"].as_str().unwrap_or_default();
        self.sender.post(&format!("/leases/{}/release", segment(id)), &json!({})).await?;
        Ok(Err(format!("tasks of others wait on tier {}; the one that was leased was given back", self.tier)))
    }

    /// Output and verdict of a leased task, each with the time to its effect.
    async fn life(&self, task: &Value, latencies: &mut Latencies) -> Result<(), Failure> {
        let id = task["task_id"].as_str().unwrap_or_default();
        let mut steps = self.watcher.stream(&format!("{}/stream", task_path(id)), None).await?;
        // What happened before is told first.
        let leased = timeout(PATIENCE, reached(&mut steps, "leased")).await;
        leased.map_err(|_| Failure::Failed(format!("task {id} was leased, and its stream does not tell so")))??;
        let artifact = format!("bench-{}", Uuid::now_v7());
        for (event, phase) in [(output(task, &artifact), "validating"), (verdict(task, &artifact), "completed")] {
            let sent = Stopwatch::start();
            let (answer, seen) = tokio::join!(post(self.sender, &event), async {
                let seen = timeout(PATIENCE, reached(&mut steps, phase)).await;
                seen.map(|seen| seen.map(|()| sent.elapsed()))
            });
            answer?;
            let Ok(seen) = seen else {
                latencies.add_failure(&format!("task {id} was not {phase} within {} s", PATIENCE.as_secs()));
                return Ok(());
            };
            latencies.add(seen?);
        }
        Ok(())
    }
}

/// Reads a task's steps until it is in this phase.
async fn reached(steps: &mut EventStream, phase: &str) -> Result<(), Error> {
    while let Some(event) = steps.next().await? {
        let step: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if step["phase"] == phase {
            return Ok(());
        }
    }
    Err(Error::Protocol(format!("the stream of a task ended before it was {phase}")))
}

fn output(task: &Value, artifact: &str) -> Value {
    let data = json!({
        "task_id": task["task_id"], "project_id": task["project_id"], "attempt": task["attempt"],
        "artifact_id": artifact,
        "output": {"content": "measured\n", "artifacts": [{"id": artifact, "type": "document", "path": "bench.md"}]},
        "inputs_consumed": [], "model_used": "none", "worker_id": "bench", "tokens_input": 1, "tokens_output": 1,
        "execution_time_ms": 1,
    });
    cloud_event("/bench", "task.output.created", &data)
}

fn verdict(task: &Value, artifact: &str) -> Value {
    let data = json!({
        "task_id": task["task_id"], "artifact_id": artifact, "score": 0.9,
        "validation_id": Uuid::now_v7().to_string(), "validators": ["bench"], "profile": "consensus",
    });
    cloud_event("/bench", "task.validated", &data)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::cli::fake_server::serve;

    /// What is measured where every lease is answered like this, and what was asked.
    async fn answered(status: u16, answer: Value) -> (Events, Vec<String>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        let address = serve(move |request| {
            told.lock().unwrap().push(request.uri.clone());
            (status, answer.to_string())
        })
        .await;
        let client = Client::new(&address, None).unwrap();
        let watched = Watched { sender: &client, watcher: &client, project: "bench-x", tier: "tiny" };
        let events = watched.measure(Duration::ZERO).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        (events, asked)
    }

    #[tokio::test]
    async fn where_leasing_is_not_available_nothing_is_measured_and_nothing_submitted() {
        let refusal = json!({"status": 409, "code": "leasing_not_available", "detail": "workers are on RabbitMQ"});
        let (events, asked) = answered(409, refusal).await;
        assert!(events.figures.is_none());
        assert!(events.not_measured.is_some_and(|reason| reason.contains("workers are on RabbitMQ")));
        assert_eq!(asked, ["/api/v1/queues/tiny/lease"]);
    }

    #[tokio::test]
    async fn the_task_of_another_is_given_back() {
        let lease = json!({"leases": [{"lease_id": "l-1", "task": {"task_id": "t", "project_id": "theirs"}}]});
        let (events, asked) = answered(200, lease).await;
        assert!(events.not_measured.is_some_and(|reason| reason.contains("tasks of others")));
        assert_eq!(asked, ["/api/v1/queues/tiny/lease", "/api/v1/leases/l-1/release"]);
    }
}
