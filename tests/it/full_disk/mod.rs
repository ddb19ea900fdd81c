//! A disk that becomes full (promises 1, 2, 11, 12): what would make the store
//! grow is refused in time, the rest goes on, the process never ends, nothing
//! acknowledged is lost, and it goes on by itself when there is room again.
//!
//! The disk is a small file system in memory, which takes a mount.

mod outsider;
mod refusals;
mod upgrades;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::process::{Server, Setup};
use crate::support::small_disk::SmallDisk;

/// What must stay free, in MiB; nothing at all is written below a quarter of it.
const RESERVE_MIB: u64 = 24;
const MIB: u64 = 1024 * 1024;
/// The longest that anything may take that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service on a small disk of its own.
struct World {
    disk: SmallDisk,
    setup: Setup,
    server: Server,
    client: Client,
}

impl World {
    /// On a disk of so many MiB. `None` where this process may not mount.
    fn start(mib: u64, test: &str) -> Option<Self> {
        Self::start_with(RESERVE_MIB, mib, test)
    }

    /// The same with so many MiB that must stay free.
    fn start_with(reserve_mib: u64, mib: u64, test: &str) -> Option<Self> {
        let disk = SmallDisk::mount(mib, test)?;
        let setup = Setup::new()
            .with("DATS__ENGINE__MIN_FREE_DISK_MIB", &reserve_mib.to_string())
            .with("DATS__TASK_MANAGEMENT__MAX_CONCURRENT_PER_PROJECT", "10000")
            .with("DATS__SERVER__MAX_BODY_BYTES", "4194304")
            .data_in(&disk.data());
        let server = setup.start();
        let client = Client::new(&server.address);
        Some(Self { disk, setup, server, client })
    }

    /// Starts again after the server has ended.
    fn restart(&mut self) {
        self.server = self.setup.start();
        self.client = Client::new(&self.server.address);
    }

    /// Tasks that nobody has yet.
    async fn submit(&self, count: usize) -> Vec<String> {
        let task = json!({"description": "d", "options": {"tier": "small", "qa_profile": "none"}});
        let answer = self.client.post("tasks/batch", &json!({"tasks": vec![task; count]})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let results = answer.json()["results"].as_array().unwrap().clone();
        results.iter().map(|result| result["task"]["task_id"].as_str().unwrap().to_owned()).collect()
    }

    /// Leases so many tasks: each lease and its task.
    async fn lease(&self, count: usize) -> Vec<(String, String)> {
        let mut leases = Vec::new();
        while leases.len() < count {
            let ask = json!({"worker_id": "w", "max": (count - leases.len()).min(100), "lease_seconds": 600});
            let answer = self.client.post("queues/small/lease", &ask).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let granted = answer.json()["leases"].as_array().unwrap().clone();
            assert!(!granted.is_empty());
            leases.extend(granted.iter().map(|lease| (text(&lease["lease_id"]), text(&lease["task"]["task_id"]))));
        }
        leases
    }

    /// The output of a task, with a content of so many bytes.
    async fn output(&self, task: &str, bytes: usize) -> Answer {
        self.client.post("events", &output(task, bytes)).await
    }

    async fn detailed(&self) -> Value {
        self.client.get("/health/detailed").await.json()
    }

    async fn room(&self) -> String {
        self.detailed().await["dependencies"]["store"]["room"].as_str().unwrap_or_default().to_owned()
    }

    /// The content of the output of a task is there.
    async fn check_content(&self, task: &str, bytes: usize) {
        let answer = self.client.get(&format!("artifacts/of-{task}/content")).await;
        assert!(answer.status == 200 && answer.body == content(task, bytes), "the content of {task} is lost");
        let status = self.client.get(&format!("tasks/{task}")).await.json()["status"].clone();
        assert_eq!(status, "completed", "{task}");
    }

    fn check_runs(&mut self) {
        assert!(self.server.is_running(), "the process has ended: {}", self.setup.log());
        let log = self.setup.log();
        for word in ["panicked", "stands still"] {
            assert!(!log.contains(word), "{log}");
        }
    }
}

/// A content that belongs to a task.
fn content(task: &str, bytes: usize) -> String {
    task.chars().cycle().take(bytes).collect()
}

fn output(task: &str, bytes: usize) -> Value {
    json!({
        "specversion": "1.0", "type": "dats.task.output.created", "source": "/w", "id": format!("output of {task}"),
        "data": {
            "task_id": task, "artifact_id": format!("of-{task}"), "output": {"content": content(task, bytes)},
        },
    })
}

/// A refusal for want of room: a problem with a time to come again.
fn assert_refused(answer: &Answer, context: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (503, "storage_full"), "{context}: {answer:?}");
    assert!(!answer.header("retry-after").is_empty(), "{context}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{context}");
}

/// Until something is so.
async fn soon(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = tokio::time::Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "{what}: not so within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Drop for World {
    /// A test that fails tells what the service has logged.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("still running: {}; log:\n{}", self.server.is_running(), self.setup.log());
        }
    }
}
