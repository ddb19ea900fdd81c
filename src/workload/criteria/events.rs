//! The time from sending an event to the moment at which another connection sees its
//! effect.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::tasks::{submit, task_path};
use crate::client::{self, Answer, Client, EventStream, segment};
use crate::clock::Stopwatch;
use crate::workload::error::Error;
use crate::workload::event::{cloud_event, post_event};
use crate::workload::load::{Figures, Latencies};

/// How long a lease request waits for the task that was just submitted.
const LEASE_WAIT: Duration = Duration::from_secs(10);
/// Longest time until the effect of an event is visible; a later one counts as failed.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between tasks, because latency is measured here, not throughput.
const PAUSE: Duration = Duration::from_millis(20);

/// Figures of the events, or the reason for which there are none.
#[derive(Debug, Serialize)]
pub struct EventFigures {
    /// Latencies from an event to its visible effect.
    pub figures: Option<Figures>,
    /// Why nothing, or no more, was measured.
    pub not_measured: Option<String>,
}

/// Takes tasks through their lives, one after another, and waits for the effect of each
/// event.
pub(super) struct EventBench<'a> {
    /// Sends the events.
    pub(super) sender: &'a Client,
    /// Observes the effects, over connections of its own.
    pub(super) watcher: &'a Client,
    pub(super) project: &'a str,
    pub(super) tier: &'a str,
}

impl EventBench<'_> {
    /// Measures for `duration`, and for at least one task.
    pub(super) async fn measure(&self, duration: Duration) -> Result<EventFigures, Error> {
        let started = Stopwatch::start();
        let mut latencies = Latencies::default();
        let mut not_measured = None;
        for number in 0.. {
            match self.lease(number).await? {
                Ok(leased) => self.complete(&leased, &mut latencies).await?,
                Err(reason) => not_measured = Some(reason),
            }
            if not_measured.is_some() || started.elapsed() >= duration {
                break;
            }
            sleep(PAUSE).await;
        }
        let figures = latencies.figures(started.elapsed());
        let has_events = figures.count + figures.failed > 0;
        Ok(EventFigures { figures: has_events.then_some(figures), not_measured })
    }

    /// Submits a task and leases it. The inner error is the reason for which the bench can't
    /// lease it.
    async fn lease(&self, number: u64) -> Result<Result<Value, String>, Error> {
        let client = self.sender;
        // Checks that leasing is possible before a task is submitted in vain.
        let path = format!("/queues/{}/lease", segment(self.tier));
        let ask = |seconds: u64| json!({"worker_id": "bench", "max": 1, "lease_seconds": 60, "wait_seconds": seconds});
        if number == 0
            && let Some(reason) = self.own_task(client.post(&path, &ask(0)).await).await?.err()
        {
            return Ok(Err(reason));
        }
        submit(client, self.project, self.tier, "consensus", number).await?;
        match self.own_task(client.post(&path, &ask(LEASE_WAIT.as_secs())).await).await? {
            Ok(Some(task)) => Ok(Ok(task)),
            Ok(None) => Ok(Err(format!(
                "the bench got no task of tier {}: other workers took it, or the tier is paused",
                self.tier
            ))),
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// Returns the leased task if it belongs to the bench. Another's task is released.
    async fn own_task(&self, answer: Result<Answer, client::Error>) -> Result<Result<Option<Value>, String>, Error> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(client::Error::Problem(problem)) if problem.status == 409 => return Ok(Err(problem.to_string())),
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
        Ok(Err(format!("other tasks wait on tier {}; the leased one was released", self.tier)))
    }

    /// Sends output and verdict of a leased task and records the time to each effect.
    async fn complete(&self, task: &Value, latencies: &mut Latencies) -> Result<(), Error> {
        let id = task["task_id"].as_str().unwrap_or_default();
        let mut steps = self.watcher.stream(&format!("{}/stream", task_path(id)), None).await?;
        // The stream begins with the earlier steps.
        let leased = timeout(EFFECT_TIMEOUT, wait_for_phase(&mut steps, "leased")).await;
        leased.map_err(|_| Error::Failed(format!("task {id} was leased, but its stream does not show it")))??;
        let artifact = format!("bench-{}", Uuid::now_v7());
        for (event, phase) in [(output(task, &artifact), "validating"), (verdict(task, &artifact), "completed")] {
            let sent = Stopwatch::start();
            let (answer, seen) = tokio::join!(post_event(self.sender, &event), async {
                let seen = timeout(EFFECT_TIMEOUT, wait_for_phase(&mut steps, phase)).await;
                seen.map(|seen| seen.map(|()| sent.elapsed()))
            });
            answer?;
            let Ok(seen) = seen else {
                latencies.record_failure(&format!("task {id} was not {phase} within {} s", EFFECT_TIMEOUT.as_secs()));
                return Ok(());
            };
            latencies.record(seen?);
        }
        Ok(())
    }
}

/// Reads the steps of a task until it is in a phase.
async fn wait_for_phase(steps: &mut EventStream, phase: &str) -> Result<(), client::Error> {
    while let Some(event) = steps.next().await? {
        let step: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if step["phase"] == phase {
            return Ok(());
        }
    }
    Err(client::Error::Protocol(format!("the stream of a task ended before it was {phase}")))
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
    use crate::client::fake_server::serve;

    /// Measures against a server that gives this answer to every request, and returns the
    /// paths of the requests too.
    async fn measure_with(status: u16, answer: Value) -> (EventFigures, Vec<String>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&asked);
        let address = serve(move |request| {
            received.lock().unwrap().push(request.uri.clone());
            (status, answer.to_string())
        })
        .await;
        let client = Client::new(&address, None).unwrap();
        let bench = EventBench { sender: &client, watcher: &client, project: "bench-x", tier: "tiny" };
        let events = bench.measure(Duration::ZERO).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        (events, asked)
    }

    #[tokio::test]
    async fn without_leasing_nothing_is_measured_and_nothing_submitted() {
        let refusal = json!({"status": 409, "code": "leasing_not_available", "detail": "workers are on RabbitMQ"});
        let (events, asked) = measure_with(409, refusal).await;
        assert!(events.figures.is_none());
        assert!(events.not_measured.is_some_and(|reason| reason.contains("workers are on RabbitMQ")));
        assert_eq!(asked, ["/api/v1/queues/tiny/lease"]);
    }

    #[tokio::test]
    async fn the_task_of_another_client_is_released() {
        let lease = json!({"leases": [{"lease_id": "l-1", "task": {"task_id": "t", "project_id": "theirs"}}]});
        let (events, asked) = measure_with(200, lease).await;
        assert!(events.not_measured.is_some_and(|reason| reason.contains("other tasks")));
        assert_eq!(asked, ["/api/v1/queues/tiny/lease", "/api/v1/leases/l-1/release"]);
    }
}
