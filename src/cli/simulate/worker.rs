//! The worker's stand-in: leases tasks, takes its time, sends made-up output
//! or a failure.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chance::Chance;
use super::message::{cloud_event, post};
use crate::cli::args;
use crate::cli::client::{Call, Client, Error, segment};
use crate::cli::exit::{Failure, warn};
use crate::cli::follow::is_passing;
use crate::cli::output::{line, now, shortened};

/// How long a lease request waits for work.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// Seconds a lease lasts; it is renewed at a third of that.
const LEASE_SECONDS: u64 = 30;
/// Most leases asked for at once.
const LEASE_MAX: u64 = 100;
/// Pause after an answer without leases.
const EMPTY_PAUSE: Duration = Duration::from_millis(50);
/// Pause after a refused or failed lease request.
const LEASE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Arguments {
    /// Tiers to work for, by commas; all of the server's without it.
    #[arg(long, value_delimiter = ',')]
    pub(in crate::cli) tiers: Vec<String>,
    /// Tasks at work at once, in each tier.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(in crate::cli) concurrency: u32,
    /// What a task takes, in milliseconds.
    #[arg(long, default_value_t = 500)]
    pub(in crate::cli) latency_ms: u64,
    /// What it may take on top, in milliseconds.
    #[arg(long, default_value_t = 250)]
    pub(in crate::cli) jitter_ms: u64,
    /// Share of attempts that fail, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = args::rate)]
    pub(in crate::cli) failure_rate: f64,
    /// The same seed decides the same about the same tasks.
    #[arg(long, default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// End after this many attempts; without it at Ctrl-C.
    #[arg(long)]
    pub(in crate::cli) count: Option<u64>,
    /// Print nothing but errors.
    #[arg(long)]
    pub(in crate::cli) quiet: bool,
}

/// What the parts of one worker share.
#[derive(Debug)]
struct Worker {
    client: Client,
    arguments: Arguments,
    id: String,
    /// Attempts that may still be begun.
    budget: AtomicU64,
    stop: CancellationToken,
}

/// Works until `stop` or until the count is reached.
pub(in crate::cli) async fn run(client: Client, arguments: Arguments, stop: CancellationToken) -> Result<(), Failure> {
    let tiers = tiers(&client, &arguments.tiers).await?;
    let id = format!("simulated-{}", Uuid::now_v7().simple());
    let budget = AtomicU64::new(arguments.count.unwrap_or(u64::MAX));
    // A child: reaching the count ends this worker, not who started it.
    let worker = Arc::new(Worker { client, arguments, id, budget, stop: stop.child_token() });
    if !worker.arguments.quiet {
        line(&format!("worker {} serves {}", worker.id, tiers.join(", ")))?;
    }
    let mut loops = JoinSet::new();
    for tier in tiers {
        loops.spawn(serve_tier(Arc::clone(&worker), tier));
    }
    let mut result = Ok(());
    while let Some(ended) = loops.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(Failure::Failed(format!("a worker stopped: {error}"))));
        if ended.is_err() {
            worker.stop.cancel();
            result = result.and(ended);
        }
    }
    result
}

/// The tiers to serve: the asked ones, which the server must have, or all.
async fn tiers(client: &Client, asked: &[String]) -> Result<Vec<String>, Failure> {
    let answer = client.get("/queues").await?;
    let queues = answer.json["queues"].as_array().map_or(&[][..], Vec::as_slice);
    let known: Vec<String> = queues.iter().filter_map(|queue| Some(queue["tier"].as_str()?.to_owned())).collect();
    if let Some(unknown) = asked.iter().find(|tier| !known.contains(tier)) {
        return Err(Failure::Usage(format!("the server has no tier {unknown}: it has {}", known.join(", "))));
    }
    Ok(if asked.is_empty() { known } else { asked.to_vec() })
}

/// Leases as many tasks of a tier as there are free hands.
async fn serve_tier(worker: Arc<Worker>, tier: String) -> Result<(), Failure> {
    let hands = Arc::new(Semaphore::new(usize::try_from(worker.arguments.concurrency).unwrap_or(1)));
    let mut attempts = JoinSet::new();
    let mut is_away = false;
    while !worker.stop.is_cancelled() {
        // Only this loop takes hands: one that is free now stays free.
        drop(hands.acquire().await);
        let answer = tokio::select! {
            answer = worker.lease(&tier, hands.available_permits()) => answer,
            () = worker.stop.cancelled() => break,
        };
        match answer {
            Ok(leases) => {
                is_away = false;
                if leases.is_empty() {
                    // A server that does not wait for work must not be run over.
                    sleep(EMPTY_PAUSE).await;
                }
                begin(&worker, leases, &hands, &mut attempts).await;
            }
            Err(error) if is_passing(&error) => {
                if !std::mem::replace(&mut is_away, true) {
                    warn(&format!("{tier}: {error}; trying again"));
                }
                sleep(LEASE_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
        while attempts.try_join_next().is_some() {}
    }
    // What was begun is finished: the server counts on it.
    while attempts.join_next().await.is_some() {}
    Ok(())
}

/// Begins the leased attempts, as far as the count allows; the others are
/// given back.
async fn begin(worker: &Arc<Worker>, leases: Vec<Value>, hands: &Arc<Semaphore>, attempts: &mut JoinSet<()>) {
    for lease in leases {
        if !worker.take_one() {
            worker.release(&lease).await;
        } else if let Ok(hand) = Arc::clone(hands).acquire_owned().await {
            attempts.spawn(Arc::clone(worker).work(lease, hand));
        }
    }
}

impl Worker {
    /// Takes an attempt from the count; the last one ends the leasing.
    fn take_one(&self) -> bool {
        let left = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.stop.cancel();
        }
        left.is_ok()
    }

    async fn lease(&self, tier: &str, hands: usize) -> Result<Vec<Value>, Error> {
        let left = self.budget.load(Ordering::Relaxed).max(1);
        let max = u64::try_from(hands).unwrap_or(1).min(left).min(LEASE_MAX);
        let body = json!({
            "worker_id": self.id, "max": max, "lease_seconds": LEASE_SECONDS, "wait_seconds": LEASE_WAIT.as_secs(),
        });
        let path = format!("/queues/{}/lease", segment(tier));
        let call = Call::new(Method::POST, path).json(&body).wait(LEASE_WAIT);
        let answer = self.client.call(call).await?;
        Ok(answer.json["leases"].as_array().cloned().unwrap_or_default())
    }

    async fn release(&self, lease: &Value) {
        let id = lease["lease_id"].as_str().unwrap_or_default();
        if let Err(error) = self.client.post(&format!("/leases/{}/release", segment(id)), &json!({})).await {
            warn(&format!("can't give back lease {id}: {error}"));
        }
    }

    /// One leased attempt, from its lease to its report.
    async fn work(self: Arc<Self>, lease: Value, _hand: OwnedSemaphorePermit) {
        let task = &lease["task"];
        let task_id = task["task_id"].as_str().unwrap_or_default();
        let attempt = task["attempt"].as_u64().unwrap_or(1);
        let mut chance = Chance::new(self.arguments.seed, "worker", task_id, attempt);
        let latency = chance
            .delay(Duration::from_millis(self.arguments.latency_ms), Duration::from_millis(self.arguments.jitter_ms));
        let started_at = now().to_string();
        let lease_id = lease["lease_id"].as_str().unwrap_or_default();
        if !self.hold(lease_id, latency).await {
            warn(&format!("lost the lease of task {task_id}"));
            return;
        }
        let event = if chance.hits(self.arguments.failure_rate) {
            failure(&lease, &self.id)
        } else {
            output(&lease, &self.id, &started_at, latency, chance.share(70, 99))
        };
        self.report(task, &event).await;
    }

    /// Sleeps for `time`, renewing the lease; false when it was lost.
    async fn hold(&self, lease_id: &str, time: Duration) -> bool {
        let renewal = Duration::from_secs(LEASE_SECONDS / 3);
        let mut left = time;
        while left > renewal {
            sleep(renewal).await;
            left = left.saturating_sub(renewal);
            let path = format!("/leases/{}/renew", segment(lease_id));
            match self.client.post(&path, &json!({"lease_seconds": LEASE_SECONDS})).await {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(_) => return false,
            }
        }
        sleep(left).await;
        true
    }

    async fn report(&self, task: &Value, event: &Value) {
        let name = event["type"].as_str().unwrap_or_default().trim_start_matches("dats.task.");
        let task_id = task["task_id"].as_str().unwrap_or_default();
        match post(&self.client, event).await {
            Ok(_) if self.arguments.quiet => {}
            Ok(outcome) => {
                let description = shortened(task["description"].as_str().unwrap_or_default());
                let attempt = task["attempt"].as_u64().unwrap_or(1);
                // A closed stdout must not stop work the server waits for.
                let _ = line(&format!("{task_id}  attempt {attempt}  {name:14}  {outcome:9}  {description}"));
            }
            Err(error) => warn(&format!("task {task_id}: {error}")),
        }
    }
}

/// `task.failed` for a leased task.
fn failure(lease: &Value, worker: &str) -> Value {
    let task = &lease["task"];
    let data = json!({
        "task_id": task["task_id"], "attempt": task["attempt"], "worker_id": worker, "lease_id": lease["lease_id"],
        "error": "the simulated model gave no usable answer", "retryable": true,
    });
    cloud_event("/worker", "task.failed", &data)
}

/// `task.output.created` for a leased task, with one artifact.
fn output(lease: &Value, worker: &str, started_at: &str, took: Duration, confidence: f64) -> Value {
    let task = &lease["task"];
    let description = task["description"].as_str().unwrap_or_default();
    let domain = task["domain"].as_str().unwrap_or_default();
    let tier = task["tier"].as_str().unwrap_or_default();
    let kind = kind(domain);
    let content = format!("{}\n{}\n", kind.heading(description), kind.body);
    let artifact_id = Uuid::now_v7().to_string();
    let artifact = json!({
        "id": artifact_id, "type": kind.artifact, "path": kind.path, "language": kind.language,
        "checksum": checksum(&content), "size_bytes": content.len(),
    });
    let data = json!({
        "task_id": task["task_id"], "project_id": task["project_id"], "attempt": task["attempt"],
        "artifact_id": artifact_id, "lease_id": lease["lease_id"],
        "output": {"content": content, "artifacts": [artifact]},
        "inputs_consumed": inputs(&task["inputs"]),
        "model_used": format!("simulated-{tier}"), "worker_id": worker,
        // Some four characters are a token.
        "tokens_input": description.len() / 4 + 1, "tokens_output": content.len() / 4 + 1,
        "execution_time_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "confidence": confidence, "started_at": started_at,
    });
    cloud_event("/worker", "task.output.created", &data)
}

/// SHA-256 in lowercase hex.
fn checksum(content: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(content) {
        // Writing to a String can't fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Ids of the artifacts a task was given, bare or in objects.
fn inputs(inputs: &Value) -> Vec<&str> {
    let items = inputs.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(|item| item.as_str().or_else(|| item["artifact_id"].as_str())).collect()
}

/// What a domain's output looks like.
struct Kind {
    artifact: &'static str,
    path: &'static str,
    language: &'static str,
    comment: &'static str,
    body: &'static str,
}

impl Kind {
    fn heading(&self, description: &str) -> String {
        format!("{} {}", self.comment, shortened(description))
    }
}

fn kind(domain: &str) -> Kind {
    match domain {
        "documentation" | "analysis" | "ui-design" => Kind {
            artifact: "document",
            path: "output.md",
            language: "markdown",
            comment: "#",
            body: "\nWritten by the simulated worker.",
        },
        "architecture" => Kind {
            artifact: "architecture",
            path: "architecture.md",
            language: "markdown",
            comment: "#",
            body: "\nOne service, one store, one log.",
        },
        "code-embedded" => Kind {
            artifact: "code",
            path: "main.c",
            language: "c",
            comment: "//",
            body: "int main(void) { return 0; }",
        },
        _ => Kind {
            artifact: "code",
            path: "output.py",
            language: "python",
            comment: "#",
            body: "def main() -> None:\n    print(\"done\")",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Value {
        let task = json!({"task_id": "t-1", "project_id": "p", "attempt": 2, "domain": "documentation",
            "tier": "small", "description": "Write a guide", "inputs": ["a", {"artifact_id": "b"}, 7]});
        json!({"lease_id": "l-1", "task": task})
    }

    #[test]
    fn output_carries_what_the_contract_asks_for() {
        let event = output(&lease(), "w", "2026-01-09T18:00:00Z", Duration::from_millis(1500), 0.9);
        let data = &event["data"];
        assert_eq!(event["type"], "dats.task.output.created");
        assert_eq!((&data["task_id"], &data["attempt"]), (&json!("t-1"), &json!(2)));
        assert_eq!((&data["worker_id"], &data["lease_id"]), (&json!("w"), &json!("l-1")));
        assert_eq!(data["inputs_consumed"], json!(["a", "b"]));
        assert_eq!(data["execution_time_ms"], 1500);
        let artifact = &data["output"]["artifacts"][0];
        assert_eq!(artifact["id"], data["artifact_id"]);
        let content = data["output"]["content"].as_str().unwrap();
        assert!(content.starts_with("# Write a guide\n"));
        assert_eq!(artifact["size_bytes"], content.len());
        assert_eq!(artifact["checksum"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn checksum_is_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(checksum(""), empty);
    }

    #[test]
    fn failure_names_the_attempt() {
        let event = failure(&lease(), "w");
        assert_eq!(event["type"], "dats.task.failed");
        assert_eq!((&event["data"]["attempt"], &event["data"]["lease_id"]), (&json!(2), &json!("l-1")));
        assert_eq!(event["data"]["retryable"], true);
    }
}
