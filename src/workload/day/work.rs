//! Workers over HTTP: some work in time, others are slow, crash, report late or twice, or
//! lose their leases.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;
use uuid::Uuid;

use super::context::{Context, Reply, UnjudgedOutput};
use super::delivery::send_event;
use super::ledger::{Ledger, Output, Submitted};
use super::observe::is_open;
use super::plan::{Day, Hour, WorkerBehaviour};
use super::verdicts::send_verdict;
use crate::client::{Call, segment};
use crate::task::hex;
use crate::workload::event::cloud_event;
use crate::workload::random::Random;

/// Length of the lease of a worker that reports in time, in seconds.
const LONG_LEASE: u64 = 20;
/// Pause after a lease request without an answer.
const TRY_PAUSE: Duration = Duration::from_millis(200);
/// Longest time of a task for a worker that reports in time.
const MAX_WORK_TIME: Duration = Duration::from_millis(150);

/// A worker of one tier.
pub(super) struct DayWorker {
    pub(super) context: Arc<Context>,
    pub(super) tier: &'static str,
    pub(super) id: String,
    pub(super) random: Random,
}

/// A leased task.
pub(super) struct LeasedTask {
    /// Id of the lease; empty for a task from a broker.
    lease: String,
    pub(super) task: String,
    pub(super) project: String,
    pub(super) attempt: u64,
    inputs: Vec<String>,
}

impl LeasedTask {
    /// Reads a lease from an answer, or a task from a broker with an empty `lease_id`.
    pub(super) fn parse(lease: &Value) -> Option<Self> {
        let task = &lease["task"];
        let inputs = task["inputs"].as_array().map_or(&[][..], Vec::as_slice);
        let input = |item: &Value| item.as_str().or_else(|| item["artifact_id"].as_str()).map(str::to_owned);
        Some(Self {
            lease: lease["lease_id"].as_str()?.to_owned(),
            task: task["task_id"].as_str()?.to_owned(),
            project: task["project_id"].as_str()?.to_owned(),
            attempt: task["attempt"].as_u64()?,
            inputs: inputs.iter().filter_map(input).collect(),
        })
    }

    /// Adds the id of the lease, if there is one, to the data of an event.
    fn add_lease_id(&self, data: &mut Value) {
        if !self.lease.is_empty() {
            data["lease_id"] = json!(self.lease);
        }
    }
}

impl DayWorker {
    /// Works until the end of the day.
    pub(super) async fn run(mut self) {
        while !self.context.is_ended() {
            let behaviour = if self.context.is_working() {
                Day::worker_behaviour(&mut self.random)
            } else {
                WorkerBehaviour::Sound
            };
            let (seconds, max) = match behaviour {
                WorkerBehaviour::Dies => (self.random.between(1, 2), 1),
                WorkerBehaviour::LateOutput | WorkerBehaviour::LateFailure => (1, 1),
                WorkerBehaviour::Slow => (3, 1),
                _ => (LONG_LEASE, self.random.between(1, 3)),
            };
            for lease in self.lease(seconds, max).await {
                self.carry_out(behaviour, &lease).await;
            }
        }
    }

    async fn lease(&mut self, seconds: u64, max: u64) -> Vec<LeasedTask> {
        let wait = Duration::from_secs(self.random.between(1, 3));
        let body = json!({
            "worker_id": self.id, "max": max, "lease_seconds": seconds, "wait_seconds": wait.as_secs(),
        });
        let call = Call::new(Method::POST, format!("/queues/{}/lease", segment(self.tier))).json(&body).wait(wait);
        let reply = self.context.send("lease", call, &[]).await.filter(Reply::is_ok);
        let Some(reply) = reply else {
            sleep(TRY_PAUSE).await;
            return Vec::new();
        };
        let items = reply.json["leases"].as_array().map_or(&[][..], Vec::as_slice);
        let leased: Vec<LeasedTask> = items.iter().filter_map(LeasedTask::parse).collect();
        let now = self.context.now();
        // Half of the lease, because part of it passed before the answer arrived.
        let certain_until = now + Duration::from_secs(seconds) / 2;
        for each in &leased {
            let result = {
                let mut ledger = self.context.ledger();
                // Subtasks and the re-runs of a rollback appear here first.
                let submitted = Submitted { sent: Duration::ZERO, acknowledged: now };
                ledger.record_submission(&each.task, &each.project, None, submitted);
                ledger.record_lease(&each.task, &each.lease, certain_until)
            };
            // A task that ended while the answer was under way may be in the answer.
            if let Err(what) = result
                && is_open(&self.context, &each.task).await
            {
                self.context.report_reply("ledger", what, &reply);
            }
        }
        if leased.is_empty() {
            // Limits the requests to a server that answers without waiting.
            sleep(Duration::from_millis(50)).await;
        }
        leased
    }

    async fn carry_out(&mut self, behaviour: WorkerBehaviour, leased: &LeasedTask) {
        match behaviour {
            WorkerBehaviour::Sound => {
                self.work().await;
                self.report_output(leased, false).await;
            }
            WorkerBehaviour::Slow => {
                if self.keep_lease(leased).await {
                    self.report_output(leased, false).await;
                }
            }
            WorkerBehaviour::Dies => {}
            WorkerBehaviour::LateOutput => {
                sleep(Duration::from_millis(self.random.between(1200, 3000))).await;
                self.report_output(leased, false).await;
            }
            WorkerBehaviour::LateFailure => {
                sleep(Duration::from_millis(self.random.between(1200, 4000))).await;
                self.report_failure(leased).await;
            }
            WorkerBehaviour::ReportsTwice => {
                self.work().await;
                self.report_output(leased, true).await;
            }
            WorkerBehaviour::Fails => {
                self.work().await;
                self.report_failure(leased).await;
            }
            WorkerBehaviour::Releases => {
                self.context.ledger().record_lease_end(&leased.task, &leased.lease);
                let path = format!("/leases/{}/release", segment(&leased.lease));
                let call = Call::new(Method::POST, path).json(&json!({}));
                self.context.send("release", call, &[404, 409]).await;
            }
            WorkerBehaviour::VerdictFirst => {
                self.work().await;
                self.report_after_verdict(leased).await;
            }
        }
    }

    /// Sends the verdict before the output.
    pub(super) async fn report_after_verdict(&mut self, leased: &LeasedTask) {
        let artifact = Uuid::now_v7().to_string();
        send_verdict(&self.context, &leased.task, &artifact, true).await;
        self.report(leased, &artifact, false).await;
    }

    /// Waits as long as a worker that reports in time.
    pub(super) async fn work(&mut self) {
        let most = if self.context.hour() == Hour::Rush { MAX_WORK_TIME / 8 } else { MAX_WORK_TIME };
        sleep(self.random.time(most)).await;
    }

    /// Works longer than the lease lasts and renews it; `false` if the lease was lost.
    async fn keep_lease(&mut self, leased: &LeasedTask) -> bool {
        for _ in 0..self.random.between(3, 6) {
            sleep(Duration::from_secs(1)).await;
            let path = format!("/leases/{}/renew", segment(&leased.lease));
            let call = Call::new(Method::POST, path).json(&json!({"lease_seconds": 3}));
            let reply = self.context.send("renew", call, &[404, 409]).await;
            if reply.is_some_and(|reply| matches!(reply.status, 404 | 409)) {
                return false;
            }
        }
        true
    }

    /// Reports an output, and repeats the report if `is_twice`.
    pub(super) async fn report_output(&mut self, leased: &LeasedTask, is_twice: bool) {
        self.report(leased, &Uuid::now_v7().to_string(), is_twice).await;
    }

    async fn report(&mut self, leased: &LeasedTask, artifact: &str, is_twice: bool) {
        let content = {
            let size = Day::output_size(self.context.hour(), &mut self.random);
            self.random.text(size)
        };
        let output = Output {
            task: leased.task.clone(),
            artifact: artifact.to_owned(),
            bytes: content.len(),
            digest: hex(Sha256::digest(&content)),
        };
        let event = cloud_event("/day/worker", "task.output.created", &self.output_data(leased, artifact, &content));
        let before = self.context.ledger().known_before(&leased.task, &leased.lease);
        self.context.ledger().record_lease_end(&leased.task, &leased.lease);
        let Some(first) = send_event(&self.context, "output", &event).await else { return };
        let now = self.context.now();
        let result = self.context.ledger().record_output(output, before, &first.outcome, now);
        self.context.check(result, &first.reply);
        if matches!(first.outcome.as_str(), "applied" | "duplicate") {
            self.context.queue_for_qa(UnjudgedOutput { task: leased.task.clone(), artifact: artifact.to_owned() });
        }
        if is_twice {
            self.repeat(event, &leased.task).await;
        }
    }

    /// Sends an output again: under its id it is a duplicate, under another id it is too
    /// late.
    async fn repeat(&self, mut event: Value, task: &str) {
        if let Some(second) = send_event(&self.context, "output", &event).await
            && second.outcome != "duplicate"
        {
            let what = format!("an event about task {task} was sent again under its id and was {}", second.outcome);
            self.context.report_reply("ledger", what, &second.reply);
        }
        event["id"] = json!(Uuid::now_v7().to_string());
        if let Some(third) = send_event(&self.context, "output", &event).await
            && third.outcome == "applied"
        {
            let what = format!("a second output of one attempt of task {task} was applied");
            self.context.report_reply("ledger", what, &third.reply);
        }
    }

    /// Returns the data of an output event.
    pub(super) fn output_data(&mut self, leased: &LeasedTask, artifact: &str, content: &str) -> Value {
        let mut inputs = leased.inputs.clone();
        if self.random.chance(30) {
            inputs.extend(self.context.ledger().pick_output(&mut self.random).map(|output| output.artifact));
        }
        let mut data = json!({
            "task_id": leased.task, "project_id": leased.project, "attempt": leased.attempt,
            "worker_id": self.id, "artifact_id": artifact,
            "output": {
                "content": content,
                "artifacts": [{"id": artifact, "type": "code", "path": "main.py", "language": "python"}],
            },
            "inputs_consumed": inputs, "model_used": "none", "tokens_input": 1, "tokens_output": 1,
            "execution_time_ms": 1, "confidence": 0.5,
        });
        leased.add_lease_id(&mut data);
        data
    }

    /// Reports a failure of the attempt.
    pub(super) async fn report_failure(&mut self, leased: &LeasedTask) {
        let mut data = json!({
            "task_id": leased.task, "attempt": leased.attempt, "worker_id": self.id,
            "error": "the model gave no usable answer", "retryable": self.random.chance(90),
        });
        leased.add_lease_id(&mut data);
        let event = cloud_event("/day/worker", "task.failed", &data);
        let before = self.context.ledger().known_before(&leased.task, &leased.lease);
        self.context.ledger().record_lease_end(&leased.task, &leased.lease);
        if let Some(answer) = send_event(&self.context, "failure", &event).await {
            self.context.check(Ledger::check_failure(&leased.task, before, &answer.outcome), &answer.reply);
        }
    }
}
