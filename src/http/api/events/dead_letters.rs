//! `/dead-letters`: rejected events, which can be tried again or discarded.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::{DeadLetterFilter, DeadLetterHead, EventOutcome};
use crate::events;
use crate::http::api::app::Call;
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply, Time};
use crate::schema::{described, word};
use crate::store::{DeadLetter, DeadLetterEnd, DeadLetterRemoval};
use crate::task::{TaskId, Timestamp};

/// A rejected event.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(in crate::http) struct DeadLetterWire<'a> {
    /// The number of the dead letter.
    id: u64,
    /// When the event was rejected.
    time: Time,
    /// The task that the event names; null if it names none.
    task_id: Option<TaskId>,
    /// The type of the event; null if it cannot be read.
    r#type: Option<String>,
    /// The source of the event; null if it cannot be read.
    source: Option<String>,
    /// Why the event was rejected.
    reason: &'a str,
    /// The event as it was received, which may not be JSON.
    raw: &'a str,
}

impl<'a> DeadLetterWire<'a> {
    fn new(id: u64, letter: &'a DeadLetter) -> Self {
        let DeadLetterHead { kind, source } = DeadLetterHead::of(&letter.raw);
        let (time, task_id) = (Time(letter.at), letter.task);
        Self { id, time, task_id, r#type: kind, source, reason: &letter.reason, raw: &letter.raw }
    }
}

/// A page of dead letters, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterList)]
pub(in crate::http) struct ListWire {
    /// The dead letters.
    #[schema(value_type = Vec<DeadLetterWire<'static>>)]
    dead_letters: Entries,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes or by the limit of the search; the cursor continues after it.
    truncated: bool,
}

/// The query parameters of a filter.
const FILTERS: [&str; 7] =
    ["reason", "type", "source", "task_id", "created_after", "created_before", "older_than_seconds"];

/// Reads the filter, and the scope of its cursors, which does not depend on the current time.
fn parse_filter(query: &mut Query, now: Timestamp) -> (DeadLetterFilter, String) {
    let filter = DeadLetterFilter {
        reason: query.one("reason"),
        kind: query.one("type"),
        source: query.one("source"),
        task: query.parsed("task_id"),
        created_after: query.parsed("created_after"),
        created_before: query.parsed("created_before"),
    };
    let age = query.number("older_than_seconds", 0..=u64::from(u32::MAX));
    let scope = format!("dead letters {filter:?} {age:?}");
    let older = age.map(|age| now.before(Duration::from_secs(age)));
    let created_before = [filter.created_before, older].into_iter().flatten().min();
    (DeadLetterFilter { created_before, ..filter }, scope)
}

/// Handles `GET /dead-letters`.
pub(in crate::http) async fn list(call: Call) -> Reply {
    let mut query = call.query(&[&FILTERS[..], &["limit", "cursor"]].concat());
    let limit = query.limit();
    let (filter, scope) = parse_filter(&mut query, call.app.clock.wall());
    let before = query.cursor(&scope, cursor::decode_number);
    query.finish()?;
    let page = call.app.engine.dead_letters().list(filter, before, limit).await?;
    let mut dead_letters = Entries::new(limit);
    let shown = dead_letters.fill(page.entries.iter().map(|(id, letter)| DeadLetterWire::new(*id, letter)));
    // If fewer entries fit than were read, the next page starts after the last one that fits.
    let next = if shown < page.entries.len() { page.entries[..shown].last().map(|(id, _)| *id) } else { page.next };
    let next = next.map(|id| cursor::encode(&scope, &id.to_be_bytes()));
    let truncated = page.truncated || dead_letters.is_truncated();
    Ok(reply::json(StatusCode::OK, &ListWire { dead_letters, next_cursor: next, limit, truncated }))
}

/// A range of dead letter numbers without a gap.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterRun)]
struct RangeWire {
    /// The lowest number.
    first: u64,
    /// The highest number.
    last: u64,
}

/// A removal of dead letters.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterRemoval)]
pub(in crate::http) struct RemovalWire {
    /// The number of this entry.
    id: u64,
    /// When the dead letters were removed.
    time: Time,
    /// The reason of the removal.
    #[schema(value_type = DeadLetterEnd)]
    end: &'static str,
    /// The number of removed dead letters.
    count: u64,
    /// The numbers of the removed dead letters.
    dead_letters: Vec<RangeWire>,
}

impl RemovalWire {
    fn new(id: u64, removal: &DeadLetterRemoval) -> Self {
        let dead_letters = removal.runs.iter().map(|(first, last)| RangeWire { first: *first, last: *last });
        let (time, end) = (Time(removal.at), removal.end.as_str());
        Self { id, time, end, count: removal.count(), dead_letters: dead_letters.collect() }
    }
}

described! {
    DeadLetterEnd, "DeadLetterEnd": word(
        "Why dead letters were removed: accepted on a second try, discarded by a client, or dropped as the oldest over a limit.",
        DeadLetterEnd::ALL.map(DeadLetterEnd::as_str),
    );
}

/// A page of the audit trail of dead letters, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterRemovalList)]
pub(in crate::http) struct RemovalsWire {
    /// The entries of the audit trail.
    #[schema(value_type = Vec<RemovalWire>)]
    removals: Entries,
    /// The cursor of the next page; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes; the cursor continues after it.
    truncated: bool,
}

/// `GET /dead-letters/removals`
pub(in crate::http) async fn removals(call: Call) -> Reply {
    let mut query = call.query(&["limit", "cursor"]);
    let (limit, scope) = (query.limit(), "dead letter removals");
    let before = query.cursor(scope, cursor::decode_number);
    query.finish()?;
    let (entries, more) = call.app.engine.dead_letters().removals(before, limit).await?;
    let mut removals = Entries::new(limit);
    let shown = removals.fill(entries.iter().map(|(id, removal)| RemovalWire::new(*id, removal)));
    let last = entries.get(..shown).and_then(<[_]>::last).filter(|_| more || shown < entries.len());
    let next_cursor = last.map(|(id, _)| cursor::encode(scope, &id.to_be_bytes()));
    let truncated = removals.is_truncated();
    Ok(reply::json(StatusCode::OK, &RemovalsWire { removals, next_cursor, limit, truncated }))
}

/// The result of discarding dead letters.
#[derive(Serialize, ToSchema)]
#[schema(as = DiscardedLetters)]
pub(in crate::http) struct DiscardedWire {
    /// The number of discarded dead letters.
    discarded: u64,
}

/// Handles `DELETE /dead-letters`.
pub(in crate::http) async fn discard_matching(call: Call) -> Reply {
    let mut query = call.query(&[&FILTERS[..], &["all"]].concat());
    let (filter, _) = parse_filter(&mut query, call.app.clock.wall());
    let all = query.parsed::<bool>("all").unwrap_or(false);
    query.finish()?;
    if filter.is_empty() && !all {
        let filters = FILTERS.join(", ");
        return Err(Problem::invalid_field("all", format!("must be true without a filter (one of {filters})")));
    }
    if all && !filter.is_empty() {
        return Err(Problem::invalid_field("all", "cannot be combined with a filter"));
    }
    let discarded = call.app.engine.dead_letters().discard_matching(filter).await?;
    Ok(reply::json(StatusCode::OK, &DiscardedWire { discarded }))
}

/// Handles `DELETE /dead-letters/{id}`.
pub(in crate::http) async fn discard(call: Call) -> Reply {
    call.require_no_query()?;
    let text = call.id();
    let id = text.parse().map_err(|_| Problem::not_found("dead_letter_not_found", "dead letter", &text))?;
    call.app.engine.dead_letters().discard(id).await?;
    Ok(reply::no_content())
}

/// Handles `GET /dead-letters/{id}`.
pub(in crate::http) async fn show(call: Call) -> Reply {
    call.require_no_query()?;
    let text = call.id();
    let missing = || Problem::not_found("dead_letter_not_found", "dead letter", &text);
    let id = text.parse().map_err(|_| missing())?;
    let letter = call.app.engine.dead_letters().get(id).await?.ok_or_else(missing)?;
    Ok(reply::json(StatusCode::OK, &DeadLetterWire::new(id, &letter)))
}

/// The outcome of a second try.
#[derive(Serialize, ToSchema)]
#[schema(as = RequeuedLetter)]
pub(in crate::http) struct RequeuedWire {
    /// The number of the dead letter.
    id: u64,
    /// The outcome of the event.
    #[schema(value_type = EventOutcome)]
    outcome: &'static str,
    /// A description of the outcome.
    detail: &'static str,
}

/// Handles `POST /dead-letters/{id}/requeue`.
pub(in crate::http) async fn requeue(mut call: Call) -> Reply {
    call.require_no_query()?;
    let text = call.id();
    let id = text.parse().map_err(|_| Problem::not_found("dead_letter_not_found", "dead letter", &text))?;
    call.require_no_fields().await?;
    let missing = || Problem::not_found("dead_letter_not_found", "dead letter", &text);
    let letter = call.app.engine.dead_letters().get(id).await?.ok_or_else(missing)?;
    let event = events::read(letter.raw.as_bytes())?;
    let outcome = call.app.engine.dead_letters().requeue(id, event.incoming).await?;
    Ok(reply::json(StatusCode::OK, &RequeuedWire { id, outcome: outcome.as_str(), detail: outcome.detail() }))
}
