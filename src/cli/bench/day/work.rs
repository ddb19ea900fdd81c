//! Workers over HTTP: sound ones, and those that are slow, die, come back late, report
//! twice or lose their leases.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;
use uuid::Uuid;

use super::ledger::{Ledger, Output};
use super::world::{Reply, Waiting, World};
use crate::cli::client::{Call, segment};
use crate::cli::simulate::message::cloud_event;
use crate::workload::{Day, Hour, Random, Worker};

/// Seconds of a lease that its holder means to keep.
const LONG_LEASE: u64 = 20;
/// Tries of an event whose answer was lost.
const TRIES: u32 = 30;
const TRY_PAUSE: Duration = Duration::from_millis(200);
/// What a sound worker takes for a task, at most.
const WORK: Duration = Duration::from_millis(150);

/// One worker of a tier.
pub(super) struct Hand {
    pub(super) world: Arc<World>,
    pub(super) tier: &'static str,
    pub(super) id: String,
    pub(super) random: Random,
}

/// A leased task.
pub(super) struct Leased {
    lease: String,
    pub(super) task: String,
    pub(super) project: String,
    pub(super) attempt: u64,
    inputs: Vec<String>,
}

impl Leased {
    /// From a lease; behind a broker with an empty `lease_id`.
    pub(super) fn of(lease: &Value) -> Option<Self> {
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

    /// Names the lease in the data of an event; behind a broker there is none.
    fn name_in(&self, data: &mut Value) {
        if !self.lease.is_empty() {
            data["lease_id"] = json!(self.lease);
        }
    }
}

/// What became of an event that was sent.
pub(super) struct Delivered {
    pub(super) outcome: String,
    pub(super) reply: Reply,
}

/// Posts an event until its outcome is known; the service knows it by its id.
pub(super) async fn deliver(world: &World, kind: &'static str, event: &Value) -> Option<Delivered> {
    for _ in 0..TRIES {
        let call = Call::new(Method::POST, "/events").json(event).header(CONTENT_TYPE, "application/cloudevents+json");
        // 404: a task of a rollback's re-run may be unknown; 409: too many parked verdicts.
        match world.ask(kind, call, &[409]).await {
            Some(reply) if reply.is_ok() => {
                return Some(Delivered { outcome: reply.text("outcome").to_owned(), reply });
            }
            Some(reply) if !matches!(reply.status, 429 | 503) => return None,
            _ => sleep(TRY_PAUSE).await,
        }
        if world.is_ended() {
            return None;
        }
    }
    None
}

impl Hand {
    /// Works until the end of the day.
    pub(super) async fn run(mut self) {
        while !self.world.is_ended() {
            let manner = if self.world.is_working() { Day::worker(&mut self.random) } else { Worker::Sound };
            let (seconds, max) = match manner {
                Worker::Dies => (self.random.between(1, 2), 1),
                Worker::LateOutput | Worker::LateFailure => (1, 1),
                Worker::Slow => (3, 1),
                _ => (LONG_LEASE, self.random.between(1, 3)),
            };
            for lease in self.lease(seconds, max).await {
                self.carry_out(manner, &lease).await;
            }
        }
    }

    async fn lease(&mut self, seconds: u64, max: u64) -> Vec<Leased> {
        let wait = Duration::from_secs(self.random.between(1, 3));
        let body = json!({
            "worker_id": self.id, "max": max, "lease_seconds": seconds, "wait_seconds": wait.as_secs(),
        });
        let call = Call::new(Method::POST, format!("/queues/{}/lease", segment(self.tier))).json(&body).wait(wait);
        let reply = self.world.ask("lease", call, &[]).await.filter(Reply::is_ok);
        let Some(reply) = reply else {
            sleep(TRY_PAUSE).await;
            return Vec::new();
        };
        let given = reply.json["leases"].as_array().map_or(&[][..], Vec::as_slice);
        let leased: Vec<Leased> = given.iter().filter_map(Leased::of).collect();
        let now = self.world.now();
        // Half of it: the answer took its time, too.
        let certain_until = now + Duration::from_secs(seconds) / 2;
        for each in &leased {
            let result = {
                let mut ledger = self.world.ledger();
                // Parts and re-runs of a rollback are seen here first.
                ledger.submitted(&each.task, &each.project, None, [Duration::ZERO, now]);
                ledger.granted(&each.task, &each.lease, certain_until)
            };
            // A task that ended while the answer was under way may be leased in it.
            if let Err(what) = result
                && super::read::is_open(&self.world, &each.task).await
            {
                self.world.wrong("ledger", what, &reply);
            }
        }
        if leased.is_empty() {
            // A server that does not wait for work must not be run over.
            sleep(Duration::from_millis(50)).await;
        }
        leased
    }

    async fn carry_out(&mut self, manner: Worker, leased: &Leased) {
        match manner {
            Worker::Sound => {
                self.work().await;
                self.output(leased, false).await;
            }
            Worker::Slow => {
                if self.keep(leased).await {
                    self.output(leased, false).await;
                }
            }
            Worker::Dies => {}
            Worker::LateOutput => {
                sleep(Duration::from_millis(self.random.between(1200, 3000))).await;
                self.output(leased, false).await;
            }
            Worker::LateFailure => {
                sleep(Duration::from_millis(self.random.between(1200, 4000))).await;
                self.fail(leased).await;
            }
            Worker::ReportsTwice => {
                self.work().await;
                self.output(leased, true).await;
            }
            Worker::Fails => {
                self.work().await;
                self.fail(leased).await;
            }
            Worker::Releases => {
                self.world.ledger().lease_over(&leased.task, &leased.lease);
                let path = format!("/leases/{}/release", segment(&leased.lease));
                let call = Call::new(Method::POST, path).json(&json!({}));
                self.world.ask("release", call, &[404, 409]).await;
            }
            Worker::VerdictFirst => {
                self.work().await;
                self.verdict_first(leased).await;
            }
        }
    }

    /// QA has seen the output before the service.
    pub(super) async fn verdict_first(&mut self, leased: &Leased) {
        let artifact = Uuid::now_v7().to_string();
        super::qa::say(&self.world, &leased.task, &artifact, true).await;
        self.report(leased, &artifact, false).await;
    }

    /// Takes a sound worker's time.
    pub(super) async fn work(&mut self) {
        let most = if self.world.hour() == Hour::Rush { WORK / 8 } else { WORK };
        sleep(self.random.time(most)).await;
    }

    /// Works longer than the lease lasts and renews it; `false`: it was lost.
    async fn keep(&mut self, leased: &Leased) -> bool {
        for _ in 0..self.random.between(3, 6) {
            sleep(Duration::from_secs(1)).await;
            let path = format!("/leases/{}/renew", segment(&leased.lease));
            let call = Call::new(Method::POST, path).json(&json!({"lease_seconds": 3}));
            let reply = self.world.ask("renew", call, &[404, 409]).await;
            if reply.is_some_and(|reply| matches!(reply.status, 404 | 409)) {
                return false;
            }
        }
        true
    }

    pub(super) async fn output(&mut self, leased: &Leased, is_twice: bool) {
        self.report(leased, &Uuid::now_v7().to_string(), is_twice).await;
    }

    async fn report(&mut self, leased: &Leased, artifact: &str, is_twice: bool) {
        let content = {
            let size = Day::output_size(self.world.hour(), &mut self.random);
            self.random.text(size)
        };
        let output = Output {
            task: leased.task.clone(),
            artifact: artifact.to_owned(),
            bytes: content.len(),
            digest: hex(&Sha256::digest(&content)),
        };
        let event = cloud_event("/day/worker", "task.output.created", &self.data(leased, artifact, &content));
        let before = self.world.ledger().before(&leased.task, &leased.lease);
        self.world.ledger().lease_over(&leased.task, &leased.lease);
        let Some(first) = deliver(&self.world, "output", &event).await else { return };
        let now = self.world.now();
        let result = self.world.ledger().output(output, before, &first.outcome, now);
        self.world.check(result, &first.reply);
        if matches!(first.outcome.as_str(), "applied" | "duplicate") {
            self.world.leave_to_qa(Waiting { task: leased.task.clone(), artifact: artifact.to_owned() });
        }
        if is_twice {
            self.again(event, &leased.task).await;
        }
    }

    /// The same event again is known, and under another id it comes too late.
    async fn again(&self, mut event: Value, task: &str) {
        if let Some(second) = deliver(&self.world, "output", &event).await
            && second.outcome != "duplicate"
        {
            let what = format!("an event about task {task} came again under its id and was {}", second.outcome);
            self.world.wrong("ledger", what, &second.reply);
        }
        event["id"] = json!(Uuid::now_v7().to_string());
        if let Some(third) = deliver(&self.world, "output", &event).await
            && third.outcome == "applied"
        {
            let what = format!("a second output of one attempt of task {task} was applied");
            self.world.wrong("ledger", what, &third.reply);
        }
    }

    /// The data of an output.
    pub(super) fn data(&mut self, leased: &Leased, artifact: &str, content: &str) -> Value {
        let mut inputs = leased.inputs.clone();
        if self.random.chance(30) {
            inputs.extend(self.world.ledger().pick_output(&mut self.random).map(|output| output.artifact));
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
        leased.name_in(&mut data);
        data
    }

    /// Reports a failure of the attempt.
    pub(super) async fn fail(&mut self, leased: &Leased) {
        let mut data = json!({
            "task_id": leased.task, "attempt": leased.attempt, "worker_id": self.id,
            "error": "the model gave no usable answer", "retryable": self.random.chance(90),
        });
        leased.name_in(&mut data);
        let event = cloud_event("/day/worker", "task.failed", &data);
        let before = self.world.ledger().before(&leased.task, &leased.lease);
        self.world.ledger().lease_over(&leased.task, &leased.lease);
        if let Some(delivered) = deliver(&self.world, "failure", &event).await {
            self.world.check(Ledger::failure(&leased.task, before, &delivered.outcome), &delivered.reply);
        }
    }
}

/// Bytes in lowercase hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
