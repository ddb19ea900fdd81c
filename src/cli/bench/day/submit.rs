//! Clients that submit: single tasks, batches, tasks with dependencies, re-runs, and
//! cancels at any moment.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::ledger::End;
use super::read::Seen;
use super::world::{Reply, World};
use crate::cli::client::{Call, segment, with_query};
use crate::workload::{Random, Task};

/// Tries of a submission whose answer was lost.
const TRIES: u32 = 20;
const TRY_PAUSE: Duration = Duration::from_millis(200);
/// Largest batch; most are much smaller.
const BATCH: usize = 60;
/// Longest descriptions of the tasks of a batch, in bytes: a body may have 1 MiB.
const BATCH_DESCRIPTION: usize = 4000;

/// Slots of every project at the end of a day.
const LIFTED: u64 = 100;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Submits and cancels until the day's work ends.
pub(super) async fn run(world: Arc<World>, mut random: Random) {
    let client = Client { world: &world };
    while world.is_working() {
        world.pause(random.time(world.hour().pause())).await;
        let project = world.day.project(&mut random).to_owned();
        match random.below(100) {
            0..62 => client.one(&project, &mut random, None).await,
            62..70 => client.batch(&project, &mut random).await,
            70..78 => client.dependent(&project, &mut random).await,
            78..84 => client.rerun(&mut random).await,
            84..90 => client.cancel_new(&project, &mut random).await,
            90..97 => client.cancel_any(&mut random).await,
            _ => client.pause(&project, &mut random).await,
        }
    }
}

/// Lets all projects and tiers go on, and cancels what no worker will take.
pub(super) async fn leave(world: &World, unserved: &str) {
    let client = Client { world };
    for project in &world.day.projects {
        client.resume(&project.id).await;
    }
    for project in &world.day.projects {
        let query = [
            ("project_id", Some(project.id.clone())),
            ("status", Some("pending,running".to_owned())),
            ("tier", Some(unserved.to_owned())),
            ("limit", Some("1000".to_owned())),
        ];
        let page = world.ask("list", Call::new(Method::GET, with_query("/tasks", &query)), &[]).await;
        let tasks = page.map(|page| page.json).unwrap_or_default();
        for task in tasks["tasks"].as_array().map_or(&[][..], Vec::as_slice) {
            client.cancel(task["task_id"].as_str().unwrap_or_default()).await;
        }
    }
}

/// Gives every project as many slots as there are workers, so that the end of a day does
/// not wait for the project that has one.
pub(super) async fn lift_limits(world: &World) {
    for project in &world.day.projects {
        for _ in 0..TRIES {
            let path = format!("/projects/{}", segment(&project.id));
            let call = Call::new(Method::PATCH, path).json(&json!({"max_concurrent": LIFTED}));
            if world.ask("project", call, &[]).await.is_some_and(|reply| reply.is_ok()) {
                break;
            }
            sleep(TRY_PAUSE).await;
        }
    }
}

struct Client<'a> {
    world: &'a World,
}

impl Client<'_> {
    async fn post(&self, kind: &'static str, path: String, body: &Value, allowed: &[u16]) -> Option<Reply> {
        self.world.ask(kind, Call::new(Method::POST, path).json(body), allowed).await
    }

    async fn one(&self, project: &str, random: &mut Random, depends_on: Option<Vec<String>>) {
        let mut task = self.world.day.task(project, random);
        if let Some(depends_on) = depends_on {
            task.body["options"]["depends_on"] = json!(depends_on);
        }
        self.submit(&task, random).await;
    }

    /// Submits with a key, until the answer is known. Sometimes it is asked again.
    async fn submit(&self, task: &Task, random: &mut Random) -> Option<String> {
        let key = Uuid::from_u64_pair(random.next(), random.next()).to_string();
        let sent = self.world.now();
        for _ in 0..TRIES {
            let first = self.keyed(task, &key).await;
            let Some(reply) = first.filter(|reply| !matches!(reply.status, 429 | 503)) else {
                sleep(TRY_PAUSE).await;
                continue;
            };
            if reply.status != 201 {
                return None;
            }
            let id = reply.text("task_id").to_owned();
            self.acknowledge(&id, &task.project, Some(task.is_unchecked), sent);
            if random.chance(10)
                && let Some(again) = self.keyed(task, &key).await
                && again.is_ok()
                && again.text("task_id") != id
            {
                self.world.wrong("ledger", format!("the same Idempotency-Key gave another task than {id}"), &again);
            }
            if random.chance(20) {
                super::read::look(self.world, &id).await;
            }
            return Some(id);
        }
        None
    }

    async fn keyed(&self, task: &Task, key: &str) -> Option<Reply> {
        let call = Call::new(Method::POST, "/tasks").json(&task.body).header(IDEMPOTENCY_KEY, key);
        // A dependency may have been removed by nobody: only its state can refuse it.
        self.world.ask("submit", call, &[409]).await
    }

    fn acknowledge(&self, id: &str, project: &str, is_unchecked: Option<bool>, sent: Duration) {
        let now = self.world.now();
        self.world.ledger().submitted(id, project, is_unchecked, [sent, now]);
    }

    async fn batch(&self, project: &str, random: &mut Random) {
        let (count, sent) = (random.size(2, BATCH), self.world.now());
        let tasks = (0..count).map(|_| {
            let mut task = self.world.day.task(project, random);
            let size = random.size(100, BATCH_DESCRIPTION);
            task.body["description"] = json!(random.text(size));
            task
        });
        let tasks: Vec<Task> = tasks.collect();
        let bodies: Vec<&Value> = tasks.iter().map(|task| &task.body).collect();
        let Some(reply) = self.post("batch", "/tasks/batch".to_owned(), &json!({"tasks": bodies}), &[]).await else {
            return;
        };
        if !reply.is_ok() {
            return;
        }
        let results = reply.json["results"].as_array().map_or(&[][..], Vec::as_slice);
        if results.len() != tasks.len() {
            let what = format!("{} results for a batch of {} tasks", results.len(), tasks.len());
            self.world.wrong("ledger", what, &reply);
        }
        for (task, result) in tasks.iter().zip(results) {
            if let Some(id) = result["task_id"].as_str() {
                self.acknowledge(id, project, Some(task.is_unchecked), sent);
            }
        }
    }

    async fn dependent(&self, project: &str, random: &mut Random) {
        let on = {
            let mut ledger = self.world.ledger();
            let mut on: Vec<String> = (0..3).filter_map(|_| ledger.pick_open(random)).collect();
            on.sort();
            on.dedup();
            on
        };
        self.one(project, random, Some(on)).await;
    }

    async fn rerun(&self, random: &mut Random) {
        let Some(task) = self.world.ledger().pick_ended(random) else { return };
        let path = format!("/tasks/{}/rerun", segment(&task));
        let sent = self.world.now();
        // A dependency that failed without a newer run refuses it.
        let Some(reply) = self.post("rerun", path, &json!({}), &[409]).await else { return };
        if reply.status == 201 {
            let project = self.world.ledger().task(&task).map(|known| known.project.clone()).unwrap_or_default();
            let id = reply.text("task_id").to_owned();
            self.acknowledge(&id, &project, None, sent);
        }
    }

    async fn cancel_new(&self, project: &str, random: &mut Random) {
        let task = self.world.day.task(project, random);
        let Some(id) = self.submit(&task, random).await else { return };
        sleep(random.time(Duration::from_millis(300))).await;
        self.cancel(&id).await;
    }

    async fn cancel_any(&self, random: &mut Random) {
        let task = self.world.ledger().pick_open(random);
        if let Some(task) = task {
            self.cancel(&task).await;
        }
    }

    async fn cancel(&self, task: &str) {
        let before = self.world.ledger().before(task, "");
        let path = format!("/tasks/{}/cancel", segment(task));
        let Some(reply) = self.post("cancel", path, &json!({"reason": "the day goes on"}), &[409]).await else {
            return;
        };
        let now = self.world.now();
        let result = match (reply.status, before.end) {
            (200, _) => self.world.ledger().ended(task, End::Cancelled, now),
            (409, Some(End::Cancelled)) => Err(format!("task {task} is cancelled, and cancelling it again is refused")),
            _ => Ok(()),
        };
        self.world.check(result, &reply);
        if reply.status == 409 {
            // It has ended otherwise: an answer must say how.
            match super::read::look(self.world, task).await {
                Some(Seen::Ended(End::Completed | End::Failed)) | None => {}
                Some(other) => {
                    let what = format!("cancelling task {task} is refused, and it is {other:?}");
                    self.world.wrong("ledger", what, &reply);
                }
            }
        }
    }

    async fn pause(&self, project: &str, random: &mut Random) {
        let paused = self.post("pause", format!("/projects/{}/pause", segment(project)), &json!({}), &[404]).await;
        if paused.is_some_and(|reply| reply.is_ok()) {
            self.world.pause(random.time(Duration::from_secs(2))).await;
            self.resume(project).await;
        }
    }

    async fn resume(&self, project: &str) {
        for _ in 0..TRIES {
            let path = format!("/projects/{}/resume", segment(project));
            if self.post("pause", path, &json!({}), &[404]).await.is_some_and(|reply| reply.is_ok()) {
                return;
            }
            sleep(TRY_PAUSE).await;
        }
    }
}
