//! `GET /tasks/{id}/events` and `GET /tasks/{id}/stream`: the history of a task, in pages and as a stream
//! that ends with the task.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::api::app::{App, Call};
use crate::http::api::tasks::status::task_id;
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Time};
use crate::http::server::sse::{Closed, EventStream};
use crate::store::{HistoryEntry, PageBudget};
use crate::task::{Change, Phase, Seq, Status, TaskError, TaskId};

/// The largest number of entries that a stream reads at once.
const CHUNK: usize = 256;
/// The largest number of bytes that a stream reads at once.
const CHUNK_BYTES: usize = 64 << 10;

/// An entry in the history of a task.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryEntry)]
pub(in crate::http) struct EntryWire<'a> {
    /// The position of the entry in the log.
    seq: Seq,
    /// The time of the change.
    time: Time,
    /// The type of the change, such as `task.created`.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The id of the task.
    task_id: TaskId,
    /// The status of the task after the change.
    #[schema(value_type = Status)]
    status: &'static str,
    /// The phase of the task after the change.
    #[schema(value_type = Phase)]
    phase: &'static str,
    /// The attempt that the change belongs to; 0 before the first attempt.
    attempt: u32,
    /// The number of dropped entries between the previous entry and this one; absent if there are none. A
    /// history keeps its first 100 and its newest 9900 entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, nullable = false, required = false)]
    left_out_before: Option<u64>,
    /// Details of the change; the fields depend on `type`.
    #[schema(value_type = Object)]
    detail: Value,
}

impl<'a> EntryWire<'a> {
    /// Returns `None` if the entry is not about a task.
    fn new(HistoryEntry { seq, left_out, entry }: &'a HistoryEntry) -> Option<Self> {
        let standing = entry.standing()?;
        Some(Self {
            seq: *seq,
            time: Time(entry.at),
            kind: entry.change.name(),
            task_id: standing.task,
            status: standing.status.as_str(),
            phase: standing.phase.as_str(),
            attempt: standing.attempt,
            left_out_before: Some(*left_out).filter(|left_out| *left_out > 0),
            detail: detail(&entry.change),
        })
    }
}

/// Returns the details of a change, without the id of a lease, which only its holder may know.
fn detail(change: &Change) -> Value {
    match change {
        Change::Created
        | Change::Blocked
        | Change::Analyzing
        | Change::Queued
        | Change::Taken
        | Change::Released
        | Change::LeaseExpired
        | Change::Dispatched => json!({}),
        Change::Ready { attempt, tier, domain, previous } => {
            json!({"attempt": attempt, "tier": tier, "domain": domain, "previous_provenance_id": previous})
        }
        Change::Analyzed { mode, split } => json!({"mode": mode, "split": split}),
        Change::Split { children } => json!({"children": children}),
        Change::ChildEnded { task, status } => json!({"task_id": task, "status": status.as_str()}),
        Change::Routed { domain, tier, by } => json!({"domain": domain, "tier": tier, "by": by.as_str()}),
        Change::Cancelled { reason } => json!({"reason": reason}),
        Change::Finished { status, error, record } => {
            json!({"status": status.as_str(), "error": error.as_ref().map(error_detail), "provenance_id": record})
        }
        Change::Accepted { outcome, .. } => json!({"outcome": outcome.as_str(), "reason": outcome.detail()}),
        Change::Leased { worker, until, .. } => json!({"worker_id": worker, "until": until.to_string()}),
        Change::Backoff { until, error } => json!({"until": until.to_string(), "error": error_detail(error)}),
        Change::DependencyCompleted { task } => json!({"task_id": task}),
        Change::ParkedExpired { name } => json!({"event": name}),
    }
}

fn error_detail(error: &TaskError) -> Value {
    json!({"code": error.code.as_str(), "message": error.message, "attempt": error.attempt})
}

/// A page of the history of a task, oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(in crate::http) struct HistoryWire {
    /// The entries.
    #[schema(value_type = Vec<EntryWire<'static>>)]
    events: Entries,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// Whether the page was cut off by its size in bytes; the cursor continues after it.
    truncated: bool,
}

/// Handles `GET /tasks/{id}/events`.
pub(in crate::http) async fn list(call: Call) -> Reply {
    let id = task_id(&call.raw_id)?;
    let mut query = call.query(&["limit", "cursor"]);
    let limit = query.limit();
    let scope = format!("history {id}");
    let after = query.cursor(&scope, cursor::decode_number);
    query.finish()?;
    let after = Seq(after.unwrap_or(0));
    let read = call.app.engine.tasks().history(id, after, limit).await?;
    let page = read.ok_or_else(|| Problem::task_not_found(&call.raw_id))?;
    let mut events = Entries::new(limit);
    let shown = events.fill_known(page.entries.iter().map(EntryWire::new));
    let next_cursor = page.after(shown).map(|last| cursor::encode(&scope, &last.seq.0.to_be_bytes()));
    let truncated = page.is_truncated || events.is_truncated();
    Ok(reply::json(StatusCode::OK, &HistoryWire { events, next_cursor, truncated }))
}

/// Handles `GET /tasks/{id}/stream`.
pub(in crate::http) async fn stream(call: Call) -> Reply {
    call.require_no_query()?;
    let id = task_id(&call.raw_id)?;
    let after = Seq(crate::http::api::events::follow::last_event_id(call.headers())?.unwrap_or(0));
    if call.app.engine.tasks().history(id, after, 1).await?.is_none() {
        return Err(Problem::task_not_found(&call.raw_id));
    }
    let (stream, response) = call.app.streams.open(call.app.settings.heartbeat, call.ending().clone())?;
    tokio::spawn(stream_history(Arc::clone(&call.app), id, after, stream));
    Ok(response)
}

/// Sends the history until the task has ended.
async fn stream_history(app: Arc<App>, task: TaskId, mut after: Seq, mut stream: EventStream) -> Result<(), Closed> {
    loop {
        // Subscribed before reading, so that no change between the two is missed.
        let changed = app.engine.tasks().changed(task);
        let ended = app.engine.tasks().status(task).await.map_err(|_| Closed)?.is_none_or(|answer| answer.ended);
        loop {
            let read = {
                let _reading = app.streams.acquire_reader().await;
                app.engine
                    .tasks()
                    .history(task, after, PageBudget::with_bytes(CHUNK, CHUNK_BYTES))
                    .await
                    .map_err(|_| Closed)?
            };
            // Retention may have removed the task.
            let Some(page) = read else { return Ok(()) };
            for entry in &page.entries {
                after = entry.seq;
                let Some(wire) = EntryWire::new(entry) else { continue };
                let data = serde_json::to_vec(&wire).unwrap_or_default();
                stream.push_event(after.0, wire.kind, &data).await?;
            }
            stream.flush().await?;
            if !page.has_more {
                break;
            }
        }
        if ended {
            return Ok(());
        }
        stream.wait(changed).await?;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::{About, LogEntry, Standing};
    use crate::task::{ErrorCode, LeaseId, Moment, Outcome, ProjectId, RecordId, Stale, Timestamp, WorkerId};

    fn logged(change: Change) -> LogEntry {
        LogEntry {
            at: Timestamp::from_micros(1_767_981_600_000_000),
            project: ProjectId::new("p").unwrap(),
            about: About::Task(Standing {
                task: TaskId::new(Uuid::from_u128(7)),
                version: 1,
                status: Status::Running,
                phase: Phase::Leased,
                attempt: 1,
            }),
            change,
            event: None,
            on_bus: false,
            observed: Moment::default(),
        }
    }

    fn shown(change: Change) -> Value {
        let entry = logged(change);
        serde_json::to_value(EntryWire::new(&HistoryEntry { seq: Seq(3), left_out: 0, entry }).unwrap()).unwrap()
    }

    #[test]
    fn an_entry_has_its_fields() {
        let until = Timestamp::from_micros(1_767_981_700_000_000);
        let worker = WorkerId::new("w").unwrap();
        assert_eq!(
            shown(Change::Leased { lease: LeaseId::new(Uuid::nil()), worker, until }),
            json!({
                "seq": 3, "time": "2026-01-09T18:00:00Z", "type": "task.leased",
                "task_id": "00000000-0000-0000-0000-000000000007", "status": "running", "phase": "leased",
                "attempt": 1, "detail": {"worker_id": "w", "until": "2026-01-09T18:01:40Z"},
            })
        );
    }

    #[test]
    fn an_entry_counts_the_dropped_entries_before_it() {
        let entry = |left_out| HistoryEntry { seq: Seq(3), left_out, entry: logged(Change::Created) };
        let shown = |left_out| serde_json::to_value(EntryWire::new(&entry(left_out)).unwrap()).unwrap();
        assert_eq!(shown(1200)["left_out_before"], 1200);
        assert!(shown(0).get("left_out_before").is_none());
    }

    #[test]
    fn details_name_codes_and_outcomes() {
        let error = TaskError { code: ErrorCode::Rejected, message: "no".to_owned(), attempt: Some(1) };
        let record = Some(RecordId::new(Uuid::nil()));
        let finished = Change::Finished { status: Status::Failed, error: Some(error), record };
        assert_eq!(
            shown(finished)["detail"],
            json!({
                "status": "failed", "error": {"code": "rejected", "message": "no", "attempt": 1},
                "provenance_id": "00000000-0000-0000-0000-000000000000",
            })
        );
        let accepted = Change::Accepted { name: "task.failed".to_owned(), outcome: Outcome::Stale(Stale::Ended) };
        let value = shown(accepted);
        assert_eq!(value["type"], "task.failed");
        assert_eq!(value["detail"], json!({"outcome": "stale", "reason": "the task had ended"}));
    }
}
