//! Clients that submit: single tasks, batches, tasks with dependencies, re-runs, and
//! cancellations at any time.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::context::{Context, Reply};
use super::ledger::{End, Submitted};
use super::observe::{Seen, query_status};
use super::plan::Task;
use crate::client::{Call, segment, with_query};
use crate::workload::random::Random;

/// Most tries of a request whose answer was lost.
const MAX_TRIES: u32 = 20;
/// Pause between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(200);
/// Most tasks in a batch.
const MAX_BATCH: usize = 60;
/// Longest description of a task in a batch, in bytes: a request body may have 1 MiB.
const MAX_BATCH_DESCRIPTION_BYTES: usize = 4000;

/// Slots of each project at the end of a day: as many as there are workers.
const FINAL_SLOTS: u64 = 100;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Submits and cancels until the stage of work ends.
pub(super) async fn run(context: Arc<Context>, mut random: Random) {
    let client = Submitter { context: &context };
    while context.is_working() {
        context.pause(random.time(context.hour().pause())).await;
        let project = context.day.project(&mut random).to_owned();
        match random.below(100) {
            0..62 => client.submit_one(&project, &mut random, None).await,
            62..70 => client.submit_batch(&project, &mut random).await,
            70..78 => client.submit_dependent(&project, &mut random).await,
            78..84 => client.rerun(&mut random).await,
            84..90 => client.cancel_new(&project, &mut random).await,
            90..97 => client.cancel_any(&mut random).await,
            _ => client.pause(&project, &mut random).await,
        }
    }
}

/// Resumes all projects, and cancels the open tasks of a tier without workers.
pub(super) async fn resume_and_cancel(context: &Context, unserved: &str) {
    let client = Submitter { context };
    for project in &context.day.projects {
        client.resume(&project.id).await;
    }
    for project in &context.day.projects {
        let query = [
            ("project_id", Some(project.id.clone())),
            ("status", Some("pending,running".to_owned())),
            ("tier", Some(unserved.to_owned())),
            ("limit", Some("1000".to_owned())),
        ];
        let page = context.send("list", Call::new(Method::GET, with_query("/tasks", &query)), &[]).await;
        let tasks = page.map(|page| page.json).unwrap_or_default();
        for task in tasks["tasks"].as_array().map_or(&[][..], Vec::as_slice) {
            client.cancel(task["task_id"].as_str().unwrap_or_default()).await;
        }
    }
}

/// Raises the limit of every project, so that the end of a day does not depend on the
/// project with a single slot.
pub(super) async fn raise_limits(context: &Context) {
    for project in &context.day.projects {
        for _ in 0..MAX_TRIES {
            let path = format!("/projects/{}", segment(&project.id));
            let call = Call::new(Method::PATCH, path).json(&json!({"max_concurrent": FINAL_SLOTS}));
            if context.send("project", call, &[]).await.is_some_and(|reply| reply.is_ok()) {
                break;
            }
            sleep(TRY_PAUSE).await;
        }
    }
}

struct Submitter<'a> {
    context: &'a Context,
}

impl Submitter<'_> {
    async fn post(&self, kind: &'static str, path: String, body: &Value, allowed: &[u16]) -> Option<Reply> {
        self.context.send(kind, Call::new(Method::POST, path).json(body), allowed).await
    }

    async fn submit_one(&self, project: &str, random: &mut Random, depends_on: Option<Vec<String>>) {
        let mut task = self.context.day.task(project, random);
        if let Some(depends_on) = depends_on {
            task.body["options"]["depends_on"] = json!(depends_on);
        }
        self.submit(&task, random).await;
    }

    /// Submits with an idempotency key until the answer is known, and sometimes once more.
    async fn submit(&self, task: &Task, random: &mut Random) -> Option<String> {
        let key = Uuid::from_u64_pair(random.next(), random.next()).to_string();
        let sent = self.context.now();
        for _ in 0..MAX_TRIES {
            let first = self.submit_with_key(task, &key).await;
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
                && let Some(again) = self.submit_with_key(task, &key).await
                && again.is_ok()
                && again.text("task_id") != id
            {
                self.context.report_reply(
                    "ledger",
                    format!("the same Idempotency-Key gave another task than {id}"),
                    &again,
                );
            }
            if random.chance(20) {
                query_status(self.context, &id).await;
            }
            return Some(id);
        }
        None
    }

    async fn submit_with_key(&self, task: &Task, key: &str) -> Option<Reply> {
        let call = Call::new(Method::POST, "/tasks").json(&task.body).header(IDEMPOTENCY_KEY, key);
        // 409: a dependency has failed or was cancelled.
        self.context.send("submit", call, &[409]).await
    }

    fn acknowledge(&self, id: &str, project: &str, is_unchecked: Option<bool>, sent: Duration) {
        let submitted = Submitted { sent, acknowledged: self.context.now() };
        self.context.ledger().record_submission(id, project, is_unchecked, submitted);
    }

    async fn submit_batch(&self, project: &str, random: &mut Random) {
        let (count, sent) = (random.size(2, MAX_BATCH), self.context.now());
        let tasks = (0..count).map(|_| {
            let mut task = self.context.day.task(project, random);
            let size = random.size(100, MAX_BATCH_DESCRIPTION_BYTES);
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
            let what = format!("a batch of {} tasks has {} results", tasks.len(), results.len());
            self.context.report_reply("ledger", what, &reply);
        }
        for (task, result) in tasks.iter().zip(results) {
            if let Some(id) = result["task_id"].as_str() {
                self.acknowledge(id, project, Some(task.is_unchecked), sent);
            }
        }
    }

    async fn submit_dependent(&self, project: &str, random: &mut Random) {
        let on = {
            let mut ledger = self.context.ledger();
            let mut on: Vec<String> = (0..3).filter_map(|_| ledger.pick_open(random)).collect();
            on.sort();
            on.dedup();
            on
        };
        self.submit_one(project, random, Some(on)).await;
    }

    async fn rerun(&self, random: &mut Random) {
        let Some(task) = self.context.ledger().pick_ended(random) else { return };
        let path = format!("/tasks/{}/rerun", segment(&task));
        let sent = self.context.now();
        // 409: a dependency has failed and has no newer run.
        let Some(reply) = self.post("rerun", path, &json!({}), &[409]).await else { return };
        if reply.status == 201 {
            let project = self.context.ledger().task(&task).map(|known| known.project.clone()).unwrap_or_default();
            let id = reply.text("task_id").to_owned();
            self.acknowledge(&id, &project, None, sent);
        }
    }

    async fn cancel_new(&self, project: &str, random: &mut Random) {
        let task = self.context.day.task(project, random);
        let Some(id) = self.submit(&task, random).await else { return };
        sleep(random.time(Duration::from_millis(300))).await;
        self.cancel(&id).await;
    }

    async fn cancel_any(&self, random: &mut Random) {
        let task = self.context.ledger().pick_open(random);
        if let Some(task) = task {
            self.cancel(&task).await;
        }
    }

    async fn cancel(&self, task: &str) {
        let before = self.context.ledger().known_before(task, "");
        let path = format!("/tasks/{}/cancel", segment(task));
        let Some(reply) = self.post("cancel", path, &json!({"reason": "the day goes on"}), &[409]).await else {
            return;
        };
        let now = self.context.now();
        let result = match (reply.status, before.end) {
            (200, _) => self.context.ledger().record_end(task, End::Cancelled, now),
            (409, Some(End::Cancelled)) => Err(format!("task {task} is cancelled, and cancelling it again is refused")),
            _ => Ok(()),
        };
        self.context.check(result, &reply);
        if reply.status == 409 {
            // The task must have ended in another way.
            match query_status(self.context, task).await {
                Some(Seen::Ended(End::Completed | End::Failed)) | None => {}
                Some(other) => {
                    let what = format!("cancelling task {task} is refused, and it is {other:?}");
                    self.context.report_reply("ledger", what, &reply);
                }
            }
        }
    }

    async fn pause(&self, project: &str, random: &mut Random) {
        let paused = self.post("pause", format!("/projects/{}/pause", segment(project)), &json!({}), &[404]).await;
        if paused.is_some_and(|reply| reply.is_ok()) {
            self.context.pause(random.time(Duration::from_secs(2))).await;
            self.resume(project).await;
        }
    }

    async fn resume(&self, project: &str) {
        for _ in 0..MAX_TRIES {
            let path = format!("/projects/{}/resume", segment(project));
            if self.post("pause", path, &json!({}), &[404]).await.is_some_and(|reply| reply.is_ok()) {
                return;
            }
            sleep(TRY_PAUSE).await;
        }
    }
}
