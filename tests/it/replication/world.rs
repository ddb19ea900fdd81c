//! A service with a database, and people who use it at random.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::client::{Answer, Client};
use crate::support::postgres::Database;
use crate::support::process::{Ran, Server, Setup, run};
use crate::support::random::Random;

/// The longest that anything may take that is bound to happen.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
const TIERS: [&str; 2] = ["tiny", "small"];
const PROJECTS: [&str; 3] = ["one", "two", "three"];

/// A service that writes to a database and tries again soon.
pub(super) fn setup(url: &str) -> Setup {
    Setup::new()
        .with("DATABASE_URL", url)
        .with("DATS__STORAGE__RETRY_MAX_SECONDS", "1")
        .with("DATS__STORAGE__STATEMENT_TIMEOUT_SECONDS", "2")
        .with("DATS__STORAGE__BATCH_ROWS", "7")
}

/// What health says of the copy.
pub(super) async fn copy(server: &Server) -> Value {
    Client::new(&server.address).get("/health/detailed").await.json()["dependencies"]["postgres"].clone()
}

/// Waits until the copy is as health should say.
pub(super) async fn copy_becomes(server: &Server, setup: &Setup, what: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let copy = copy(server).await;
        if what(&copy) {
            return copy;
        }
        assert!(Instant::now() < deadline, "the copy stays {copy}\n{}", setup.log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until everything up to now is copied: the lag that health tells may
/// be a second old, so what is looked at is a change made now.
pub(super) async fn caught_up(server: &Server, setup: &Setup, database: &Database) {
    let client = Client::new(&server.address);
    let answer = client.post("tasks", &json!({"description": "the last one", "project_id": "marks"})).await;
    let task = answer.json()["task_id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    let sql = format!("SELECT count(*) FROM tasks WHERE id = '{task}'");
    let deadline = Instant::now() + PATIENCE;
    while database.try_number(&sql).await.unwrap_or(0) == 0 {
        assert!(Instant::now() < deadline, "{task} is not copied: {}\n{}", copy(server).await, setup.log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Ends the service in order, with everything copied.
pub(super) async fn stop(mut server: Server, setup: &Setup, database: &Database) {
    caught_up(&server, setup, database).await;
    server.signal("TERM");
    let ended = server.wait(PATIENCE);
    assert!(ended.success(), "{ended}: {}", setup.log());
}

/// `dats verify` on the stopped service's data directory.
pub(super) fn verify(setup: &Setup, url: &str, more: &[&str]) -> Ran {
    let dir = setup.data_dir().display().to_string();
    run("127.0.0.1:1", &[("DATABASE_URL", url)], &[&["verify", "--data-dir", &dir], more].concat())
}

/// Somebody who uses the service at random.
pub(super) struct User {
    pub(super) random: Random,
    client: Client,
    tasks: Vec<String>,
    artifacts: Vec<String>,
    number: u64,
    seed: u64,
}

impl User {
    pub(super) fn new(seed: u64, server: &Server) -> Self {
        let client = Client::new(&server.address);
        Self { random: Random::new(seed), client, tasks: Vec::new(), artifacts: Vec::new(), number: 0, seed }
    }

    /// The service is somewhere else now.
    pub(super) fn moves_to(&mut self, server: &Server) {
        self.client = Client::new(&server.address);
    }

    fn name(&mut self, what: &str) -> String {
        self.number += 1;
        format!("{what}-{}-{}", self.seed, self.number)
    }

    async fn post(&self, path: &str, body: &Value) -> Option<Answer> {
        // A service that is killed gives no answer.
        self.client.try_post(path, body, &[]).await.ok()
    }

    /// Does so many things.
    pub(super) async fn act(&mut self, times: u64) {
        for _ in 0..times {
            match self.random.below(100) {
                0..35 => self.submit().await,
                35..70 => self.work().await,
                70..76 => self.cancel().await,
                76..88 => self.say().await,
                88..93 => self.change_project().await,
                93..97 => self.roll_back().await,
                _ => self.pause_tier().await,
            }
        }
    }

    async fn submit(&mut self) {
        let (tier, project) = (*self.random.pick(&TIERS), *self.random.pick(&PROJECTS));
        let mut options = json!({"tier": tier, "qa_profile": if self.random.chance(30) { "none" } else { "strict" }});
        if self.random.chance(20) && !self.tasks.is_empty() {
            options["depends_on"] = json!([self.random.pick(&self.tasks)]);
        }
        let description = self.name("some \"work\" \u{1F680}");
        let body =
            json!({"description": description, "project_id": project, "options": options, "metadata": {"n": 1.5}});
        if let Some(answer) = self.post("tasks", &body).await {
            self.tasks.extend(answer.json()["task_id"].as_str().map(str::to_owned));
        }
    }

    async fn event(&mut self, kind: &str, data: Value) {
        let id = self.name("event");
        let event = json!({"specversion": "1.0", "id": id, "source": "/test", "type": kind, "data": data});
        let headers = [("content-type", "application/cloudevents+json")];
        let _ = self.client.ask("POST", "events", &headers, event.to_string()).await;
    }

    async fn work(&mut self) {
        let tier = *self.random.pick(&TIERS);
        let ask = json!({"worker_id": "worker", "max": 3, "lease_seconds": 600});
        let Some(answer) = self.post(&format!("queues/{tier}/lease"), &ask).await else { return };
        for lease in answer.json()["leases"].as_array().cloned().unwrap_or_default() {
            let task = lease["task"]["task_id"].clone();
            if self.random.chance(15) {
                self.event("dats.task.failed", json!({"task_id": task, "error": "it broke"})).await;
                continue;
            }
            let artifact = self.name("artifact");
            let mut used = Vec::new();
            for _ in 0..self.random.below(3) {
                if !self.artifacts.is_empty() {
                    used.push(self.random.pick(&self.artifacts).clone());
                }
            }
            let data = json!({"task_id": task, "artifact_id": artifact, "inputs_consumed": used, "confidence": 0.123,
                "tokens_input": 7, "output": {"content": "x"}});
            self.event("dats.task.output.created", data).await;
            self.artifacts.push(artifact.clone());
            let verdict = if self.random.chance(80) { "dats.task.validated" } else { "dats.task.rejected" };
            let data = json!({"task_id": task, "artifact_id": artifact, "score": 0.5, "issues": ["one"]});
            self.event(verdict, data).await;
        }
    }

    async fn cancel(&mut self) {
        if !self.tasks.is_empty() {
            let task = self.random.pick(&self.tasks).clone();
            self.post(&format!("tasks/{task}/cancel"), &json!({})).await;
        }
    }

    /// Taints, marks or clears.
    async fn say(&mut self) {
        if !self.artifacts.is_empty() {
            let artifact = self.random.pick(&self.artifacts).clone();
            let what = *self.random.pick(&["taint", "taint", "suspect", "clear"]);
            let cascade = format!("cascade {}", self.random.below(4));
            let body = json!({"reason": "it's \\ odd", "cascade_id": cascade});
            self.post(&format!("provenance/{artifact}/{what}"), &body).await;
            if self.random.chance(25) {
                let cascade = format!("cascade%20{}", self.random.below(4));
                self.post(&format!("cascades/{cascade}/clear"), &json!({})).await;
            }
        }
    }

    async fn change_project(&mut self) {
        let project = *self.random.pick(&PROJECTS);
        let action = *self.random.pick(&["pause", "resume", "resume"]);
        self.post(&format!("projects/{project}/{action}"), &json!({})).await;
        let patch = json!({"max_concurrent": 5 + self.random.below(5)}).to_string();
        let headers = [("content-type", "application/json")];
        let _ = self.client.ask("PATCH", &format!("projects/{project}"), &headers, patch).await;
    }

    /// Makes a checkpoint, and now and then goes back to it.
    async fn roll_back(&mut self) {
        let project = *self.random.pick(&PROJECTS);
        let Some(made) = self.post(&format!("projects/{project}/checkpoints"), &json!({})).await else { return };
        let id = made.json()["id"].as_str().unwrap_or("none").to_owned();
        if self.random.chance(50) {
            Box::pin(self.work()).await;
            let back = self.post(&format!("checkpoints/{id}/rollback"), &json!({"reason": "back"})).await;
            if let Some(cascade) = back.and_then(|back| back.json()["cascade_id"].as_str().map(str::to_owned))
                && self.random.chance(40)
            {
                self.post(&format!("cascades/{cascade}/clear"), &json!({})).await;
            }
        }
    }

    async fn pause_tier(&mut self) {
        let tier = *self.random.pick(&TIERS);
        self.post(&format!("queues/{tier}/pause"), &json!({})).await;
        self.post(&format!("queues/{tier}/resume"), &json!({})).await;
    }
}
