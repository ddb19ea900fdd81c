//! Events that could not be taken.

use std::time::Duration;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::{LetterFilter, LetterHead};
use crate::events;
use crate::http::api::app::Call;
use crate::http::openapi::EventOutcome;
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply, Shown, Time};
use crate::schema::{described, word};
use crate::store::{DeadLetter, DeadLetterEnd, DeadLetterRemoval};
use crate::task::{TaskId, Timestamp};

/// An event that could not be taken.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(in crate::http) struct LetterWire<'a> {
    /// Its number.
    id: u64,
    /// When it was put aside.
    time: Time,
    /// The task it names, where it names one.
    task_id: Option<TaskId>,
    /// The type of the event, where it can be read.
    r#type: Option<String>,
    /// The source of the event, where it can be read.
    source: Option<String>,
    /// Why it could not be taken.
    reason: &'a str,
    /// As it came: it need not be JSON.
    raw: &'a str,
}

impl<'a> LetterWire<'a> {
    fn new(id: u64, letter: &'a DeadLetter) -> Self {
        let LetterHead { kind, source } = LetterHead::of(&letter.raw);
        let (time, task_id) = (Shown(letter.at), letter.task);
        Self { id, time, task_id, r#type: kind, source, reason: &letter.reason, raw: &letter.raw }
    }
}

/// A page of dead letters, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterList)]
pub(in crate::http) struct ListWire {
    /// The letters.
    #[schema(value_type = Vec<LetterWire<'static>>)]
    dead_letters: Entries,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
    /// The page ends before its limit, by its bytes or because looking for more was given up: go on with the cursor.
    truncated: bool,
}

/// The parameters that narrow.
const FILTERS: [&str; 7] =
    ["reason", "type", "source", "task_id", "created_after", "created_before", "older_than_seconds"];

/// Reads the filter, and the text that tells it from another one whenever it is asked.
fn filter(query: &mut Query, now: Timestamp) -> (LetterFilter, String) {
    let filter = LetterFilter {
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
    (LetterFilter { created_before, ..filter }, scope)
}

/// `GET /dead-letters`
pub(in crate::http) async fn list(call: Call) -> Reply {
    let mut query = call.query(&[&FILTERS[..], &["limit", "cursor"]].concat());
    let limit = query.limit();
    let (filter, scope) = filter(&mut query, call.app.clock.wall());
    let before = query.cursor(&scope, cursor::decode_number);
    query.finish()?;
    let page = call.app.engine.dead_letters().list(filter, before, limit).await?;
    let mut dead_letters = Entries::new(limit);
    let shown = dead_letters.fill(page.entries.iter().map(|(id, letter)| LetterWire::new(*id, letter)));
    // Where fewer are shown than were read, the next page begins behind the last that is.
    let next = if shown < page.entries.len() { page.entries[..shown].last().map(|(id, _)| *id) } else { page.next };
    let next = next.map(|id| cursor::encode(&scope, &id.to_be_bytes()));
    let truncated = page.truncated || dead_letters.is_truncated();
    Ok(reply::json(StatusCode::OK, &ListWire { dead_letters, next_cursor: next, limit, truncated }))
}

/// Numbers of dead letters without a gap.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterRun)]
struct RunWire {
    /// The lowest.
    first: u64,
    /// The highest.
    last: u64,
}

/// Dead letters that are gone.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterRemoval)]
pub(in crate::http) struct RemovalWire {
    /// The number of this entry.
    id: u64,
    /// When they left.
    time: Time,
    /// Why they left.
    #[schema(value_type = LetterEndWord)]
    end: &'static str,
    /// How many they are.
    count: u64,
    /// Their numbers.
    dead_letters: Vec<RunWire>,
}

impl RemovalWire {
    fn new(id: u64, removal: &DeadLetterRemoval) -> Self {
        let dead_letters = removal.runs.iter().map(|(first, last)| RunWire { first: *first, last: *last });
        let (time, end) = (Shown(removal.at), removal.end.as_str());
        Self { id, time, end, count: removal.count(), dead_letters: dead_letters.collect() }
    }
}

/// Why dead letters left.
pub(in crate::http) struct LetterEndWord;

described! {
    LetterEndWord, "DeadLetterEnd": word(
        "Why dead letters left: taken again, discarded by a client, or dropped as the oldest of too many.",
        DeadLetterEnd::ALL.map(DeadLetterEnd::as_str),
    );
}

/// A page of the audit trail of dead letters, the newest entry first.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterRemovalList)]
pub(in crate::http) struct RemovalsWire {
    /// The entries.
    #[schema(value_type = Vec<RemovalWire>)]
    removals: Entries,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
    /// The page ends before its limit, by its bytes: go on with the cursor.
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

/// How many dead letters are gone.
#[derive(Serialize, ToSchema)]
#[schema(as = DiscardedLetters)]
pub(in crate::http) struct DiscardedWire {
    /// How many were discarded.
    discarded: u64,
}

/// `DELETE /dead-letters`
pub(in crate::http) async fn discard_matching(call: Call) -> Reply {
    let mut query = call.query(&[&FILTERS[..], &["all"]].concat());
    let (filter, _) = filter(&mut query, call.app.clock.wall());
    let all = query.parsed::<bool>("all").unwrap_or(false);
    query.finish()?;
    if filter.is_empty() && !all {
        let filters = FILTERS.join(", ");
        return Err(Problem::invalid_field("all", format!("must be true where none of {filters} is given")));
    }
    if all && !filter.is_empty() {
        return Err(Problem::invalid_field("all", "can't be given with a filter: the filter decides"));
    }
    let discarded = call.app.engine.dead_letters().discard_matching(filter).await?;
    Ok(reply::json(StatusCode::OK, &DiscardedWire { discarded }))
}

/// `DELETE /dead-letters/{id}`
pub(in crate::http) async fn discard(call: Call) -> Reply {
    call.require_no_query()?;
    let text = call.id();
    let id = text.parse().map_err(|_| Problem::not_found("dead_letter_not_found", "dead letter", &text))?;
    call.app.engine.dead_letters().discard(id).await?;
    Ok(reply::no_content())
}

/// `GET /dead-letters/{id}`
pub(in crate::http) async fn show(call: Call) -> Reply {
    call.require_no_query()?;
    let text = call.id();
    let missing = || Problem::not_found("dead_letter_not_found", "dead letter", &text);
    let id = text.parse().map_err(|_| missing())?;
    let letter = call.app.engine.dead_letters().get(id).await?.ok_or_else(missing)?;
    Ok(reply::json(StatusCode::OK, &LetterWire::new(id, &letter)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequeueWire {}

/// What became of a dead letter.
#[derive(Serialize, ToSchema)]
#[schema(as = RequeuedLetter)]
pub(in crate::http) struct RequeuedWire {
    /// Its number.
    id: u64,
    /// What the event did.
    #[schema(value_type = EventOutcome)]
    outcome: &'static str,
    /// The outcome in words.
    detail: &'static str,
}

/// `POST /dead-letters/{id}/requeue`
pub(in crate::http) async fn requeue(mut call: Call) -> Reply {
    call.require_no_query()?;
    let text = call.id();
    let id = text.parse().map_err(|_| Problem::not_found("dead_letter_not_found", "dead letter", &text))?;
    let (RequeueWire {}, errors) = call.optional_json().await?;
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let missing = || Problem::not_found("dead_letter_not_found", "dead letter", &text);
    let letter = call.app.engine.dead_letters().get(id).await?.ok_or_else(missing)?;
    let event = events::read(letter.raw.as_bytes())?;
    let outcome = call.app.engine.dead_letters().requeue(id, event.incoming).await?;
    Ok(reply::json(StatusCode::OK, &RequeuedWire { id, outcome: outcome.as_str(), detail: outcome.detail() }))
}
