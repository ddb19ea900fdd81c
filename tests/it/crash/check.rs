//! What must hold after a crash, seen through the HTTP interface alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::facts::{Facts, Submitted};
use super::work::{CHANGING, FIXED, FIXED_LIMIT, batch_ids};
use crate::support::client::{Answer, Client};

/// The phases of the status `running`.
const RUNNING: [&str; 5] = ["leased", "started", "validating", "reviewing", "children"];
/// Phases that always hold a slot of the project. `validating` holds the one
/// that the task had, and none where the output came while it was queued.
const SLOT: [&str; 3] = ["dispatched", "leased", "started"];

/// The same key and body give the first answer again.
pub(super) fn is_replay(facts: &mut Facts, old: &Submitted, answer: &Answer) {
    let ids = match old.path {
        "tasks" => vec![answer.json()["task_id"].as_str().map(str::to_owned)],
        _ => batch_ids(&answer.json()),
    };
    let any = old.ids.iter().any(Option::is_some);
    if ids != old.ids || any && answer.header("idempotent-replayed") != "true" {
        facts.wrong(format!("key {} led to {:?} and now to {answer:?}", old.key, old.ids));
    }
}

/// Every task, newest first, by cursor.
pub(super) async fn all_tasks(client: &Client) -> Vec<Value> {
    let mut tasks = Vec::new();
    let mut path = "tasks?limit=1000".to_owned();
    loop {
        let page = client.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        tasks.extend(page["tasks"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("tasks?limit=1000&cursor={cursor}"),
            None => return tasks,
        }
    }
}

/// After each start: nothing that was acknowledged is gone or different.
pub(super) async fn after_start(client: &Client, facts: &mut Facts) {
    let known = facts.known();
    let tasks = all_tasks(client).await;
    for task in &tasks {
        facts.saw(task, &known);
    }
    let ids: BTreeSet<&str> = tasks.iter().filter_map(|task| task["task_id"].as_str()).collect();
    if ids.len() != tasks.len() {
        facts.wrong(format!("{} tasks have {} ids", tasks.len(), ids.len()));
    }
    let missing: Vec<String> = facts.tasks.iter().filter(|id| !ids.contains(id.as_str())).cloned().collect();
    if !missing.is_empty() {
        facts.wrong(format!("acknowledged tasks are gone: {missing:?}"));
    }
    counters(client, facts).await;
    log(client, facts).await;
}

/// Counters equal a recount, slots stay within limits.
async fn counters(client: &Client, facts: &mut Facts) {
    let mut left: Vec<&str> = FIXED.into_iter().chain(CHANGING).collect();
    // Timers go on while this reads: only what is the same before and after
    // the recount can be held against it.
    for _ in 0..20 {
        if left.is_empty() {
            return;
        }
        let before = statuses(client, &left).await;
        let tasks = all_tasks(client).await;
        let after = statuses(client, &left).await;
        let mut still = Vec::new();
        for ((project, before), after) in left.into_iter().zip(before).zip(after) {
            if before == after {
                recount(facts, project, &after, &tasks);
            } else {
                still.push(project);
            }
        }
        left = still;
    }
}

async fn statuses(client: &Client, projects: &[&str]) -> Vec<Value> {
    let mut statuses = Vec::new();
    for project in projects {
        statuses.push(client.get(&format!("projects/{project}/status")).await.json());
    }
    statuses
}

fn recount(facts: &mut Facts, project: &str, status: &Value, tasks: &[Value]) {
    let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
    for task in tasks.iter().filter(|task| task["project_id"] == project) {
        *phases.entry(task["phase"].as_str().unwrap_or_default()).or_default() += 1;
    }
    for (phase, count) in status["by_phase"].as_object().into_iter().flatten() {
        if count.as_u64() != Some(phases.get(phase.as_str()).copied().unwrap_or(0)) {
            facts.wrong(format!("project {project} counts {count} {phase}, there are {phases:?}"));
        }
    }
    let total = status["total"].as_u64();
    if total.is_some_and(|total| total != phases.values().sum::<u64>()) {
        facts.wrong(format!("project {project} has {phases:?}, not {total:?}"));
    }
    let count = |of: &[&str]| of.iter().filter_map(|phase| phases.get(phase)).sum::<u64>();
    let running = count(&RUNNING);
    for counted in [&status["running"], &status["by_status"]["running"]] {
        if counted.as_u64().is_some_and(|counted| counted != running) {
            facts.wrong(format!("project {project} says {counted} run, there are {phases:?}"));
        }
    }
    let slots = count(&SLOT);
    let with_validating = slots + count(&["validating"]);
    let slots_in_use = status["slots_in_use"].as_u64();
    if slots_in_use.is_some_and(|in_use| !(slots..=with_validating).contains(&in_use)) {
        facts.wrong(format!("project {project} says {slots_in_use:?} slots are in use, there are {phases:?}"));
    }
    if FIXED.contains(&project) && slots_in_use.is_none_or(|in_use| in_use > FIXED_LIMIT) {
        facts.wrong(format!("project {project} uses {slots_in_use:?} of {FIXED_LIMIT} slots: {phases:?}"));
    }
    let asked = facts.asked.as_ref().filter(|(of, _)| of == project).map(|(_, limit)| *limit);
    let limit = status["limit"].as_u64();
    if let Some(limit) = facts.limits.get(project).filter(|known| limit != Some(**known) && limit != asked) {
        let what = format!("project {project} was given the limit {limit}: {status}");
        facts.wrong(what);
    }
}

/// The log only grows, at its end; each task's events are in a legal order.
async fn log(client: &Client, facts: &mut Facts) {
    let entries = read_log(client, facts).await;
    let places: Vec<(u64, String)> = entries
        .iter()
        .map(|entry| (entry["seq"].as_u64().unwrap_or(0), entry["event"]["id"].as_str().unwrap_or("?").to_owned()))
        .collect();
    if !places.starts_with(&facts.log) {
        let at = facts.log.iter().zip(&places).position(|(old, new)| old != new);
        facts.wrong(format!("the log changed at {at:?}: it had {} entries, it has {}", facts.log.len(), places.len()));
    }
    if places.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        facts.wrong("the log's positions do not rise".to_owned());
    }
    let distinct: BTreeSet<(&str, &str)> = entries
        .iter()
        .map(|entry| (entry["event"]["source"].as_str().unwrap_or("?"), entry["event"]["id"].as_str().unwrap_or("?")))
        .collect();
    if distinct.len() != entries.len() {
        facts.wrong(format!("{} entries of the log have {} ids", entries.len(), distinct.len()));
    }
    facts.log = places;
    let mut lives: BTreeMap<String, Life> = BTreeMap::new();
    for entry in &entries {
        let event = &entry["event"];
        let life = lives.entry(event["subject"].as_str().unwrap_or_default().to_owned()).or_default();
        if event["source"] == "/orchestration"
            && let Err(wrong) = life.goes_on(event)
        {
            facts.wrong(format!("{wrong}: {entry}"));
        }
    }
    let lost: Vec<String> = facts
        .events
        .iter()
        .filter(|taken| taken.outcome != "duplicate")
        .filter_map(|taken| taken.event["id"].as_str())
        .filter(|id| !distinct.contains(&("/torture", id)))
        .map(str::to_owned)
        .collect();
    if !lost.is_empty() {
        facts.wrong(format!("acknowledged events are not in the log: {lost:?}"));
    }
    for id in &facts.tasks.clone() {
        if !lives.get(id).is_some_and(|life| life.is_made) {
            facts.wrong(format!("the log does not have the beginning of task {id}"));
        }
    }
}

async fn read_log(client: &Client, facts: &mut Facts) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut path = "events?after=0&limit=1000".to_owned();
    loop {
        let page = client.get(&path).await.json();
        let Some(events) = page["events"].as_array() else {
            facts.wrong(format!("{path} gives {page}"));
            return entries;
        };
        entries.extend(events.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("events?limit=1000&cursor={cursor}"),
            None => return entries,
        }
    }
}

/// How far a task has come, by what was published.
#[derive(Debug, Default)]
struct Life {
    is_made: bool,
    attempt: u64,
    is_cancelled: bool,
    has_ended: bool,
}

impl Life {
    fn goes_on(&mut self, event: &Value) -> Result<(), &'static str> {
        let wrong = match event["type"].as_str().unwrap_or_default() {
            "dats.task.created" => std::mem::replace(&mut self.is_made, true),
            "dats.task.ready" => {
                let attempt = event["data"]["attempt"].as_u64().unwrap_or(0);
                attempt != std::mem::replace(&mut self.attempt, attempt) + 1 || self.has_ended || !self.is_made
            }
            "dats.task.cancelled" => std::mem::replace(&mut self.is_cancelled, true) || self.has_ended || !self.is_made,
            "dats.task.finished" => {
                let says_so = event["data"]["status"] == "cancelled";
                std::mem::replace(&mut self.has_ended, true) || !self.is_made || self.is_cancelled != says_so
            }
            _ => true,
        };
        if wrong { Err("an event out of order") } else { Ok(()) }
    }
}

/// Once all clients have their answers: every task is accounted for, every
/// key and event is remembered, every content is there.
pub(super) async fn at_end(client: &Client, facts: &mut Facts) {
    after_start(client, facts).await;
    let mut unseen = facts.unseen.clone();
    for task in all_tasks(client).await {
        let id = task["task_id"].as_str().unwrap_or_default();
        if facts.tasks.contains(id) {
            continue;
        }
        match task["rerun_of"].as_str().and_then(|origin| unseen.get_mut(origin)).filter(|left| **left > 0) {
            Some(left) => *left -= 1,
            None => facts.wrong(format!("nobody was told of this task: {task}")),
        }
    }
    for old in facts.submitted.clone() {
        let key = [("idempotency-key", old.key.as_str())];
        let answer = client.try_post(old.path, &old.body, &key).await.unwrap();
        is_replay(facts, &old, &answer);
    }
    for taken in facts.events.clone() {
        let answer = client.post("events", &taken.event).await;
        if answer.json()["outcome"] != "duplicate" {
            facts.wrong(format!("an event taken as {} is taken again: {answer:?}", taken.outcome));
        }
    }
    for (artifact, content) in facts.contents.clone() {
        let answer = client.get(&format!("artifacts/{artifact}/content")).await;
        if answer.status != 200 || *content.as_bytes() != *answer.body {
            facts.wrong(format!("the content of {artifact} is {answer:?}, not {content}"));
        }
        let record = client.get(&format!("provenance/{artifact}")).await;
        if record.status != 200 {
            facts.wrong(format!("artifact {artifact} has no record: {record:?}"));
        }
    }
    for project in facts.deleted.clone() {
        if client.get(&format!("projects/{project}")).await.status != 404 {
            facts.wrong(format!("project {project} was deleted and is there"));
        }
    }
    for project in facts.limits.clone().into_keys() {
        if client.get(&format!("projects/{project}")).await.status != 200 {
            facts.wrong(format!("project {project} was made and is gone"));
        }
    }
}
