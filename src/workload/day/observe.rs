//! Checks of what answers show: the state of a task, its history, the content of an
//! artifact, the pages of a list.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::context::{Context, Reply};
use super::ledger::{End, KnownBefore, Output};
use crate::client::{Call, segment, with_query};
use crate::task::hex;

/// Most pages that are read of one list.
const MAX_PAGES: u32 = 400;
/// Most pages into which the tasks of a project are divided: the length of the day must not
/// depend on the pages.
const MAX_PAGES_OF_PROJECT: usize = 40;

/// Sends a GET request.
pub(super) async fn get(context: &Context, kind: &'static str, path: String, allowed: &[u16]) -> Option<Reply> {
    context.send(kind, Call::new(Method::GET, path), allowed).await
}

/// The state of a task in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Open,
    Ended(End),
}

/// Requests the status of a task and checks it; `None` if there is no answer.
pub(super) async fn query_status(context: &Context, task: &str) -> Option<Seen> {
    let before = context.ledger().known_before(task, "");
    let reply = get(context, "status", format!("/tasks/{}", segment(task)), &[]).await?;
    if reply.status == 404 {
        context.report_reply("ledger", format!("task {task} was acknowledged and does not exist"), &reply);
    }
    check_status(context, task, before, &reply)
}

/// Checks a status answer against the ledger and records it.
pub(super) fn check_status(context: &Context, task: &str, before: KnownBefore, reply: &Reply) -> Option<Seen> {
    if !reply.is_ok() {
        return None;
    }
    let now = context.now();
    let version = reply.json["version"].as_u64().unwrap_or(0);
    let result = context.ledger().record_answer(task, reply.text("status"), version, before, now);
    context.check(result, reply);
    Some(End::of(reply.text("status")).map_or(Seen::Open, Seen::Ended))
}

/// Requests the status of a task and returns whether it has not ended.
pub(super) async fn is_open(context: &Context, task: &str) -> bool {
    query_status(context, task).await == Some(Seen::Open)
}

/// Reads the history of a task and checks its order.
pub(super) async fn check_history(context: &Context, task: &str) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let path = with_query(
            &format!("/tasks/{}/events", segment(task)),
            &[("limit", Some("100".to_owned())), ("cursor", cursor)],
        );
        let Some(reply) = get(context, "history", path, &[]).await.filter(Reply::is_ok) else { return };
        for entry in reply.json["events"].as_array().map_or(&[][..], Vec::as_slice) {
            entries.push(Entry::of(entry));
        }
        cursor = reply.json["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            if let Err(what) = check_order(task, &entries) {
                context.report_reply("order", what, &reply);
            }
            return;
        }
    }
}

/// Checks the positions and statuses of a history: positions grow, and the status does not
/// change after an end.
pub(super) fn check_order(task: &str, entries: &[Entry]) -> Result<(), String> {
    let mut end: Option<&str> = None;
    for (at, Entry { seq, status }) in entries.iter().enumerate() {
        if at > 0 && entries.get(at - 1).is_some_and(|before| before.seq >= *seq) {
            return Err(format!("the history of task {task} is out of order at {seq}"));
        }
        match end {
            Some(end) if end != status => {
                return Err(format!("the history of task {task} goes on as {status} at {seq} after it was {end}"));
            }
            _ => end = End::of(status).map(|_| status.as_str()),
        }
    }
    Ok(())
}

/// Checks that the artifact of an applied output exists, with its content.
pub(super) async fn check_artifact(context: &Context, output: &Output, is_whole: bool) {
    let path = format!("/artifacts/{}", segment(&output.artifact));
    let Some(reply) = get(context, "artifact", path.clone(), &[404]).await else { return };
    if reply.status == 404 || reply.json["content"]["sha256"] != output.digest.as_str() {
        let what = format!(
            "the output {} of task {} ({} bytes) was applied, and its content is missing",
            output.artifact, output.task, output.bytes
        );
        context.report_reply("ledger", what, &reply);
        return;
    }
    if !is_whole {
        return;
    }
    let Some(reply) = get(context, "content", format!("{path}/content"), &[404]).await else { return };
    if reply.is_ok() && hex(Sha256::digest(&reply.body)) != output.digest {
        context.report("ledger", format!("artifact {} has a different content", output.artifact), &path, "");
    } else if reply.status == 404 {
        context.report_reply("ledger", format!("the content of artifact {} is missing", output.artifact), &reply);
    }
}

/// Reads all pages of a project and checks that every task that was acknowledged before is
/// among them, and none twice.
pub(super) async fn check_project_list(context: &Context, project: &str, limit: usize) {
    let expected: Vec<String> = context.ledger().of_project(project).to_vec();
    let limit = limit.max(expected.len() / MAX_PAGES_OF_PROJECT);
    let mut found = BTreeSet::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let query = [("project_id", Some(project.to_owned())), ("limit", Some(limit.to_string())), ("cursor", cursor)];
        let reply = get(context, "list", with_query("/tasks", &query), &[]).await.filter(Reply::is_ok);
        let Some(reply) = reply else { return };
        for task in reply.json["tasks"].as_array().map_or(&[][..], Vec::as_slice) {
            let id = task["task_id"].as_str().unwrap_or_default();
            if !found.insert(id.to_owned()) {
                context.report_reply("list", format!("task {id} is twice in the pages of project {project}"), &reply);
            }
        }
        cursor = reply.json["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            let missing: Vec<&String> = expected.iter().filter(|task| !found.contains(*task)).collect();
            if let Some(first) = missing.first() {
                let what = format!(
                    "{} of {} acknowledged tasks are on no page of project {project}, such as {first}",
                    missing.len(),
                    expected.len()
                );
                context.report("list", what, &with_query("/tasks", &query_of(project, limit)), "");
            }
            return;
        }
    }
}

fn query_of(project: &str, limit: usize) -> [(&'static str, Option<String>); 2] {
    [("project_id", Some(project.to_owned())), ("limit", Some(limit.to_string()))]
}

/// An entry of a task's history or stream.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Position in the event log.
    seq: u64,
    status: String,
}

impl Entry {
    fn of(step: &Value) -> Self {
        let status = step["status"].as_str().unwrap_or_default().to_owned();
        Self { seq: step["seq"].as_u64().unwrap_or(0), status }
    }

    /// Reads the data of a stream's event.
    pub(super) fn parse(data: &str) -> Self {
        Self::of(&serde_json::from_str(data).unwrap_or_default())
    }

    /// Returns whether the task has ended.
    pub(super) fn is_end(&self) -> bool {
        End::of(&self.status).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(steps: &[(u64, &str)]) -> Vec<Entry> {
        steps.iter().map(|(seq, status)| Entry { seq: *seq, status: (*status).to_owned() }).collect()
    }

    #[test]
    fn a_history_grows_and_keeps_its_end() {
        check_order("t", &history(&[(1, "pending"), (4, "running"), (9, "completed"), (12, "completed")])).unwrap();
        assert!(check_order("t", &history(&[(4, "pending"), (4, "running")])).is_err());
        assert!(check_order("t", &history(&[(1, "failed"), (2, "running")])).is_err());
        assert!(check_order("t", &history(&[(1, "cancelled"), (2, "completed")])).is_err());
    }
}
