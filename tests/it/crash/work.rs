//! The clients: each does one thing after the other, and asks again with the
//! same key where no answer came.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::facts::{Dice, Facts, Known, Submitted, Taken};
use crate::support::client::{Answer, Client};

/// Projects whose limit never changes, and the limit.
pub(super) const FIXED: [&str; 2] = ["fixed-a", "fixed-b"];
pub(super) const FIXED_LIMIT: u64 = 6;
/// Projects whose limit a client changes.
pub(super) const CHANGING: [&str; 2] = ["changing-a", "changing-b"];
const TIERS: [&str; 3] = ["tiny", "small", "large"];

/// What the clients share.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) facts: Arc<Mutex<Facts>>,
    /// The running server, if one runs.
    pub(super) server: watch::Receiver<Option<Client>>,
    /// Set when no more work shall be begun.
    pub(super) stop: watch::Receiver<bool>,
}

impl Field {
    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    fn goes_on(&self) -> bool {
        !*self.stop.borrow()
    }

    async fn client(&self) -> Client {
        let mut server = self.server.clone();
        server.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    /// Asks until an answer comes; the answer, and how often it took.
    async fn insist(&self, method: &str, path: &str, body: &Value, key: &str) -> (Answer, u64) {
        let number = self.facts().intent(path, body, key);
        let mut headers = vec![("content-type", "application/json")];
        if !key.is_empty() {
            headers.push(("idempotency-key", key));
        }
        for tries in 1.. {
            let client = self.client().await;
            match client.ask(method, path, &headers, body.to_string()).await {
                Ok(answer) if answer.status == 503 => self.facts().note(&format!("{number} 503")),
                Ok(answer) => {
                    self.facts().acknowledged(number, tries, &answer);
                    return (answer, tries);
                }
                Err(lost) => self.facts().note(&format!("{number} lost {}", lost.0)),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        unreachable!("asks for ever")
    }

    fn expect(&self, what: &str, answer: &Answer, allowed: &[u16]) -> bool {
        let fits = allowed.contains(&answer.status);
        if !fits {
            self.facts().wrong(format!("{what} was answered {answer:?}"));
        }
        fits
    }

    fn some_task(&self, dice: &mut Dice) -> Option<String> {
        let facts = self.facts();
        let recent: Vec<_> = facts.tasks.iter().rev().filter(|id| facts.is_open(id)).take(60).cloned().collect();
        dice.one(&recent).cloned()
    }
}

fn submission(field: &Field, dice: &mut Dice) -> Value {
    let projects = [FIXED[0], FIXED[1], CHANGING[0], CHANGING[1]];
    let priorities = ["low", "normal", "high"];
    let mut body = json!({
        "description": dice.name("work"), "project_id": dice.one(&projects), "priority": dice.one(&priorities),
        "options": {"tier": dice.one(&TIERS), "max_attempts": 1 + dice.below(3)},
    });
    if dice.chance(30) {
        body["options"]["qa_profile"] = json!("none");
    }
    if dice.chance(10) {
        body["options"]["depends_on"] = json!(field.some_task(dice).into_iter().collect::<Vec<_>>());
    }
    if dice.chance(5) {
        body["metadata"] = json!({"padding": "x".repeat(8000)});
    }
    body
}

/// Submits, cancels, runs again, and repeats what was done before.
pub(super) async fn client(field: Field, mut dice: Dice) {
    while field.goes_on() {
        match dice.below(100) {
            0..45 => submit(&field, &mut dice).await,
            45..58 => submit_batch(&field, &mut dice).await,
            58..75 => cancel(&field, &mut dice).await,
            75..80 => rerun(&field, &mut dice).await,
            80..90 => submit_again(&field, &mut dice).await,
            _ => report_again(&field, &mut dice).await,
        }
        tokio::time::sleep(Duration::from_millis(dice.below(40))).await;
    }
}

async fn submit(field: &Field, dice: &mut Dice) {
    let (body, key) = (submission(field, dice), dice.name("key"));
    let (answer, tries) = field.insist("POST", "tasks", &body, &key).await;
    if !field.expect("a submission", &answer, &[201]) {
        return;
    }
    let is_replayed = answer.header("idempotent-replayed") == "true";
    let mut facts = field.facts();
    if is_replayed && tries == 1 {
        facts.wrong(format!("the first use of key {key} was replayed"));
    }
    let id = answer.json()["task_id"].as_str().map(str::to_owned);
    facts.tasks.extend(id.clone());
    facts.submitted.push(Submitted { path: "tasks", key, body, ids: vec![id] });
}

async fn submit_batch(field: &Field, dice: &mut Dice) {
    let mut tasks: Vec<Value> = (0..2 + dice.below(6)).map(|_| submission(field, dice)).collect();
    if dice.chance(30) {
        tasks.push(json!({"description": ""}));
    }
    let (body, key) = (json!({"tasks": tasks}), dice.name("key"));
    let (answer, _) = field.insist("POST", "tasks/batch", &body, &key).await;
    if !field.expect("a batch", &answer, &[200]) {
        return;
    }
    let ids = batch_ids(&answer.json());
    let mut facts = field.facts();
    facts.tasks.extend(ids.iter().flatten().cloned());
    facts.submitted.push(Submitted { path: "tasks/batch", key, body, ids });
}

/// The tasks that a batch became.
pub(super) fn batch_ids(answer: &Value) -> Vec<Option<String>> {
    let results = answer["results"].as_array().map_or(&[][..], Vec::as_slice);
    results.iter().map(|result| result["task"]["task_id"].as_str().map(str::to_owned)).collect()
}

async fn cancel(field: &Field, dice: &mut Dice) {
    let Some(id) = field.some_task(dice) else { return };
    let (answer, _) = field.insist("POST", &format!("tasks/{id}/cancel"), &json!({"reason": "torture"}), "").await;
    if field.expect("a cancellation", &answer, &[200, 409]) && answer.status == 200 {
        let mut facts = field.facts();
        facts.cancelled.insert(id);
        facts.saw(&answer.json(), &Known::default());
    }
}

async fn rerun(field: &Field, dice: &mut Dice) {
    let Some(id) = field.some_task(dice) else { return };
    let (answer, tries) = field.insist("POST", &format!("tasks/{id}/rerun"), &json!({}), "").await;
    let mut facts = field.facts();
    *facts.unseen.entry(id).or_default() += tries - 1;
    if answer.status == 201 {
        facts.tasks.extend(answer.json()["task_id"].as_str().map(str::to_owned));
    } else if answer.status != 409 {
        facts.wrong(format!("a re-run was answered {answer:?}"));
    }
}

async fn submit_again(field: &Field, dice: &mut Dice) {
    let Some(old) = dice.one(&field.facts().submitted).cloned() else { return };
    let (answer, _) = field.insist("POST", old.path, &old.body, &old.key).await;
    super::check::is_replay(&mut field.facts(), &old, &answer);
}

async fn report_again(field: &Field, dice: &mut Dice) {
    let Some(old) = dice.one(&field.facts().events).cloned() else { return };
    let (answer, _) = field.insist("POST", "events", &old.event, "").await;
    if answer.json()["outcome"] != "duplicate" {
        field.facts().wrong(format!("an event taken as {} is taken again: {answer:?}", old.outcome));
    }
}

/// Leases tasks and does them, as worker and QA in one.
pub(super) async fn worker(field: Field, mut dice: Dice) {
    let name = dice.name("worker");
    while field.goes_on() {
        let tier = dice.one(&TIERS).unwrap();
        let ask = json!({"worker_id": name, "max": 1 + dice.below(4), "lease_seconds": 2});
        let (answer, _) = field.insist("POST", &format!("queues/{tier}/lease"), &ask, "").await;
        field.expect("a lease", &answer, &[200]);
        let leases = answer.json()["leases"].as_array().cloned().unwrap_or_default();
        for lease in &leases {
            work(&field, &mut dice, lease).await;
        }
        tokio::time::sleep(Duration::from_millis(2 + dice.below(20))).await;
    }
}

async fn work(field: &Field, dice: &mut Dice, lease: &Value) {
    let (lease_id, task) = (lease["lease_id"].as_str().unwrap_or_default(), &lease["task"]["task_id"]);
    if dice.chance(20) {
        let (answer, _) = field.insist("POST", &format!("leases/{lease_id}/renew"), &json!({}), "").await;
        field.expect("a renewal", &answer, &[200, 409]);
    }
    let artifact = dice.name("artifact");
    match dice.below(100) {
        0..8 => {
            let (answer, _) = field.insist("POST", &format!("leases/{lease_id}/release"), &json!({}), "").await;
            field.expect("a release", &answer, &[204, 409]);
            return;
        }
        8..14 => return,
        14..24 => {
            report(field, dice, "task.failed", json!({"task_id": task, "error": "out of memory"})).await;
            return;
        }
        24..32 => {
            report(field, dice, "task.validated", json!({"task_id": task, "artifact_id": artifact, "score": 1})).await;
        }
        _ => {}
    }
    let content = dice.name("content");
    let output = json!({"task_id": task, "artifact_id": artifact, "output": {"content": content}});
    if report(field, dice, "task.output.created", output).await == "applied" {
        field.facts().contents.insert(artifact.clone(), content);
        judge(field, dice, task, &artifact).await;
    }
}

async fn judge(field: &Field, dice: &mut Dice, task: &Value, artifact: &str) {
    match dice.below(100) {
        0..60 => {
            report(field, dice, "task.validated", json!({"task_id": task, "artifact_id": artifact, "score": 0.9}))
                .await;
        }
        60..75 => {
            let data = json!({"task_id": task, "artifact_id": artifact, "issues": ["no tests"]});
            report(field, dice, "task.rejected", data).await;
        }
        75..90 => {
            let review = dice.name("review");
            let data = json!({"review_id": review, "reason": "unsure", "priority": 1, "task_id": task});
            report(field, dice, "review.requested", data).await;
            let decision = dice.one(&["approved", "rejected", "changes_requested"]);
            let data = json!({"review_id": review, "decision": decision, "reviewer_id": "ann", "task_id": task});
            report(field, dice, "review.completed", data).await;
        }
        _ => {}
    }
}

/// Posts an event, some of them twice at once; its outcome, empty where it
/// was refused.
async fn report(field: &Field, dice: &mut Dice, name: &str, data: Value) -> String {
    let event = json!({
        "specversion": "1.0", "type": format!("dats.{name}"), "source": "/torture", "id": dice.name("event"),
        "data": data,
    });
    let (outcome, tries) = if dice.chance(15) {
        let twice =
            tokio::join!(field.insist("POST", "events", &event, ""), field.insist("POST", "events", &event, ""));
        let ((first, tries), (second, more)) = twice;
        let outcomes = [outcome(field, &first), outcome(field, &second)];
        let [first, second] = outcomes;
        if first != "duplicate" && second != "duplicate" && !first.is_empty() && !second.is_empty() {
            field.facts().wrong(format!("one event was {first} and {second}: {event}"));
        }
        (if first == "duplicate" { second } else { first }, tries.max(more))
    } else {
        let (answer, tries) = field.insist("POST", "events", &event, "").await;
        (outcome(field, &answer), tries)
    };
    if outcome == "duplicate" && tries == 1 {
        field.facts().wrong(format!("a new event was taken for a duplicate: {event}"));
    }
    if !outcome.is_empty() {
        field.facts().events.push(Taken { event, outcome: outcome.clone() });
    }
    outcome
}

fn outcome(field: &Field, answer: &Answer) -> String {
    // 409: too many parked events; 404: a review that names no open task.
    field.expect("an event", answer, &[200, 404, 409]);
    answer.json()["outcome"].as_str().unwrap_or_default().to_owned()
}

/// Changes limits, makes projects and deletes them.
pub(super) async fn manager(field: Field, mut dice: Dice) {
    while field.goes_on() {
        let project = dice.one(&CHANGING).unwrap();
        let limit = 2 + dice.below(12);
        let patch = json!({"max_concurrent": limit});
        // Until the answer is here, either may hold.
        field.facts().asked = Some(((*project).to_owned(), limit));
        let (answer, _) = field.insist("PATCH", &format!("projects/{project}"), &patch, "").await;
        if field.expect("a project's change", &answer, &[200]) {
            field.facts().limits.insert((*project).to_owned(), limit);
        }
        field.facts().asked = None;
        let passing = dice.name("passing");
        let (answer, tries) = field.insist("POST", "projects", &json!({"project_id": passing}), "").await;
        field.expect("a new project", &answer, if tries == 1 { &[201] } else { &[201, 409] });
        if dice.chance(50) {
            let (answer, tries) = field.insist("DELETE", &format!("projects/{passing}"), &Value::Null, "").await;
            field.expect("a project's end", &answer, if tries == 1 { &[204] } else { &[204, 404] });
            field.facts().deleted.insert(passing);
        } else {
            field.facts().limits.insert(passing, 10);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Looks on: limits hold at every moment, ends are for ever.
pub(super) async fn watcher(field: Field) {
    while field.goes_on() {
        let client = field.client().await;
        for project in FIXED {
            let path = format!("projects/{project}/status");
            let Ok(answer) = client.ask("GET", &path, &[], "").await else { continue };
            let slots = answer.json()["slots_in_use"].as_u64();
            if slots.is_none_or(|slots| slots > FIXED_LIMIT) {
                field.facts().wrong(format!("project {project} is over its limit, or not answered for: {answer:?}"));
            }
        }
        let known = field.facts().known();
        let page = client.ask("GET", "tasks?limit=200", &[], "").await.map(|answer| answer.json());
        for task in page.unwrap_or_default()["tasks"].as_array().map_or(&[][..], Vec::as_slice) {
            field.facts().saw(task, &known);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
