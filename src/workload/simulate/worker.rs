//! The stand-in for workers. It leases tasks, waits for the configured latency, and sends
//! generated output or a failure.

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

use super::chance::{Chance, parse_rate};
use crate::client::{self, Call, Client, segment};
use crate::clock::Clock;
use crate::task::hex;
use crate::workload::console::Console;
use crate::workload::error::Error;
use crate::workload::event::{cloud_event, post_event};

/// How long a lease request waits for a task.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// Length of a lease, in seconds; it is renewed after a third of it.
const LEASE_SECONDS: u64 = 30;
/// Most leases in one request.
const LEASE_MAX: u64 = 100;
/// Pause after an answer without leases.
const EMPTY_PAUSE: Duration = Duration::from_millis(50);
/// Pause after a refused or failed lease request.
const LEASE_PAUSE: Duration = Duration::from_secs(1);

/// Longest description in headings and lines of output, in characters.
const SHORT_CHARS: usize = 48;

/// Settings of the stand-in, which are also the flags of `dats simulate worker`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Tiers to serve, separated by commas; all tiers of the server if not given.
    #[arg(long, value_delimiter = ',')]
    pub tiers: Vec<String>,
    /// Most tasks under way at once in each tier.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: u32,
    /// Time for a task, in milliseconds.
    #[arg(long, default_value_t = 500)]
    pub latency_ms: u64,
    /// Largest random addition to the time, in milliseconds.
    #[arg(long, default_value_t = 250)]
    pub jitter_ms: u64,
    /// Share of attempts to report as failed, from 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = parse_rate)]
    pub failure_rate: f64,
    /// Seed of the decisions: the same seed decides the same for the same tasks.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// End after this many attempts; at Ctrl-C if not given.
    #[arg(long)]
    pub count: Option<u64>,
    /// Print only errors.
    #[arg(long)]
    pub quiet: bool,
}

/// A worker that knows its tiers. It works while [`run`](Self::run) is polled.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    tiers: Vec<String>,
}

impl Worker {
    /// Reads the tiers of the server and chooses an id.
    pub async fn connect(
        client: Client,
        settings: Settings,
        console: Console,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let tiers = tiers(&client, &settings.tiers).await?;
        let id = format!("simulated-{}", Uuid::now_v7().simple());
        let attempts_left = AtomicU64::new(settings.count.unwrap_or(u64::MAX));
        // A child token, because reaching the count ends this worker alone.
        let stop = stop.child_token();
        let shared = Arc::new(Shared { client, settings, console, id, attempts_left, stop });
        Ok(Self { shared, tiers })
    }

    /// Returns the worker's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Returns the tiers that it serves.
    #[must_use]
    pub fn tiers(&self) -> &[String] {
        &self.tiers
    }

    /// Works until the stop is requested or the count is reached, then finishes the
    /// attempts under way.
    pub async fn run(self) -> Result<(), Error> {
        let mut loops = JoinSet::new();
        for tier in self.tiers {
            loops.spawn(serve_tier(Arc::clone(&self.shared), tier));
        }
        let mut result = Ok(());
        while let Some(ended) = loops.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(Error::Failed(format!("a worker stopped: {error}"))));
            if ended.is_err() {
                self.shared.stop.cancel();
                result = result.and(ended);
            }
        }
        result
    }
}

/// What the tasks of one worker share.
#[derive(Debug)]
struct Shared {
    client: Client,
    settings: Settings,
    console: Console,
    id: String,
    /// Attempts that may still be started.
    attempts_left: AtomicU64,
    stop: CancellationToken,
}

/// Returns the tiers to serve: the requested ones, which the server must have, or all.
async fn tiers(client: &Client, requested: &[String]) -> Result<Vec<String>, Error> {
    let answer = client.get("/queues").await?;
    let queues = answer.json["queues"].as_array().map_or(&[][..], Vec::as_slice);
    let known: Vec<String> = queues.iter().filter_map(|queue| Some(queue["tier"].as_str()?.to_owned())).collect();
    if let Some(unknown) = requested.iter().find(|tier| !known.contains(tier)) {
        return Err(Error::Usage(format!("the server has no tier {unknown}: use one of {}", known.join(", "))));
    }
    Ok(if requested.is_empty() { known } else { requested.to_vec() })
}

/// Leases as many tasks of a tier as may be under way.
async fn serve_tier(worker: Arc<Shared>, tier: String) -> Result<(), Error> {
    let permits = Arc::new(Semaphore::new(usize::try_from(worker.settings.concurrency).unwrap_or(1)));
    let mut attempts = JoinSet::new();
    let mut is_unreachable = false;
    while !worker.stop.is_cancelled() {
        // Only this loop acquires permits, so one that is available now stays available.
        drop(permits.acquire().await);
        let answer = tokio::select! {
            answer = worker.lease(&tier, permits.available_permits()) => answer,
            () = worker.stop.cancelled() => break,
        };
        match answer {
            Ok(leases) => {
                is_unreachable = false;
                if leases.is_empty() {
                    // Limits the requests to a server that answers without waiting.
                    sleep(EMPTY_PAUSE).await;
                }
                start_attempts(&worker, leases, &permits, &mut attempts).await;
            }
            Err(error) if error.is_transient() => {
                if !std::mem::replace(&mut is_unreachable, true) {
                    (worker.console.warn)(&format!("{tier}: {error}; retrying"));
                }
                sleep(LEASE_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
        while attempts.try_join_next().is_some() {}
    }
    // The server waits for the attempts under way.
    while attempts.join_next().await.is_some() {}
    Ok(())
}

/// Starts the leased attempts as far as the count allows, and releases the other leases.
async fn start_attempts(
    worker: &Arc<Shared>,
    leases: Vec<Value>,
    permits: &Arc<Semaphore>,
    attempts: &mut JoinSet<()>,
) {
    for lease in leases {
        if !worker.count_attempt() {
            worker.release(&lease).await;
        } else if let Ok(permit) = Arc::clone(permits).acquire_owned().await {
            attempts.spawn(Arc::clone(worker).work(lease, permit));
        }
    }
}

impl Shared {
    /// Counts an attempt; `false` if the count was reached before. The last attempt stops
    /// the leasing.
    fn count_attempt(&self) -> bool {
        let left = self.attempts_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.stop.cancel();
        }
        left.is_ok()
    }

    async fn lease(&self, tier: &str, most: usize) -> Result<Vec<Value>, client::Error> {
        let left = self.attempts_left.load(Ordering::Relaxed).max(1);
        let max = u64::try_from(most).unwrap_or(1).min(left).min(LEASE_MAX);
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
            (self.console.warn)(&format!("can't release lease {id}: {error}"));
        }
    }

    /// Carries out one leased attempt, from the lease to its report.
    async fn work(self: Arc<Self>, lease: Value, _permit: OwnedSemaphorePermit) {
        let task = &lease["task"];
        let task_id = task["task_id"].as_str().unwrap_or_default();
        let attempt = task["attempt"].as_u64().unwrap_or(1);
        let mut chance = Chance::new(self.settings.seed, "worker", task_id, attempt);
        let latency = chance
            .delay(Duration::from_millis(self.settings.latency_ms), Duration::from_millis(self.settings.jitter_ms));
        let started_at = Clock::new().wall().to_string();
        let lease_id = lease["lease_id"].as_str().unwrap_or_default();
        if !self.keep_lease(lease_id, latency).await {
            (self.console.warn)(&format!("lost the lease of task {task_id}"));
            return;
        }
        let event = if chance.hits(self.settings.failure_rate) {
            failure(&lease, &self.id)
        } else {
            output(&lease, &self.id, &started_at, latency, chance.share(70, 99))
        };
        self.report(task, &event).await;
    }

    /// Sleeps for `time` and renews the lease meanwhile; `false` if the lease was lost.
    async fn keep_lease(&self, lease_id: &str, time: Duration) -> bool {
        let renewal = Duration::from_secs(LEASE_SECONDS / 3);
        let mut left = time;
        while left > renewal {
            sleep(renewal).await;
            left = left.saturating_sub(renewal);
            let path = format!("/leases/{}/renew", segment(lease_id));
            match self.client.post(&path, &json!({"lease_seconds": LEASE_SECONDS})).await {
                Ok(_) => {}
                Err(error) if error.is_transient() => {}
                Err(_) => return false,
            }
        }
        sleep(left).await;
        true
    }

    async fn report(&self, task: &Value, event: &Value) {
        let name = event["type"].as_str().unwrap_or_default().trim_start_matches("dats.task.");
        let task_id = task["task_id"].as_str().unwrap_or_default();
        match post_event(&self.client, event).await {
            Ok(_) if self.settings.quiet => {}
            Ok(outcome) => {
                let description = shortened(task["description"].as_str().unwrap_or_default());
                let attempt = task["attempt"].as_u64().unwrap_or(1);
                let text = format!("{task_id}  attempt {attempt}  {name:14}  {outcome:9}  {description}");
                (self.console.line)(&text);
            }
            Err(error) => (self.console.warn)(&format!("task {task_id}: {error}")),
        }
    }
}

/// Returns `task.failed` for a leased task.
fn failure(lease: &Value, worker: &str) -> Value {
    let task = &lease["task"];
    let data = json!({
        "task_id": task["task_id"], "attempt": task["attempt"], "worker_id": worker, "lease_id": lease["lease_id"],
        "error": "the simulated model gave no usable answer", "retryable": true,
    });
    cloud_event("/worker", "task.failed", &data)
}

/// Returns `task.output.created` for a leased task, with one artifact.
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
        "checksum": hex(Sha256::digest(&content)), "size_bytes": content.len(),
    });
    let data = json!({
        "task_id": task["task_id"], "project_id": task["project_id"], "attempt": task["attempt"],
        "artifact_id": artifact_id, "lease_id": lease["lease_id"],
        "output": {"content": content, "artifacts": [artifact]},
        "inputs_consumed": inputs(&task["inputs"]),
        "model_used": format!("simulated-{tier}"), "worker_id": worker,
        // About four characters are a token.
        "tokens_input": description.len() / 4 + 1, "tokens_output": content.len() / 4 + 1,
        "execution_time_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "confidence": confidence, "started_at": started_at,
    });
    cloud_event("/worker", "task.output.created", &data)
}

/// Shortens a description to a few words in one line.
#[must_use]
pub fn shortened(description: &str) -> String {
    let words: Vec<&str> = description.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= SHORT_CHARS {
        return line;
    }
    let cut: String = line.chars().take(SHORT_CHARS - 1).collect();
    format!("{}…", cut.trim_end())
}

/// Returns the ids of the input artifacts, which are strings or objects with an id.
fn inputs(inputs: &Value) -> Vec<&str> {
    let items = inputs.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(|item| item.as_str().or_else(|| item["artifact_id"].as_str())).collect()
}

/// The form of the output in a domain.
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
    fn output_has_the_fields_of_the_contract() {
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
    fn descriptions_fit_a_line() {
        assert_eq!(shortened("two\n words"), "two words");
        assert_eq!(shortened(&"word ".repeat(20)).chars().count(), SHORT_CHARS);
    }

    #[test]
    fn failure_names_the_attempt() {
        let event = failure(&lease(), "w");
        assert_eq!(event["type"], "dats.task.failed");
        assert_eq!((&event["data"]["attempt"], &event["data"]["lease_id"]), (&json!(2), &json!("l-1")));
        assert_eq!(event["data"]["retryable"], true);
    }
}
