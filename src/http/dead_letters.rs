//! Events that could not be taken.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cursor;
use super::entries::Entries;
use super::openapi::EventOutcome;
use super::problem::Problem;
use super::reply::{self, Reply, Shown, Time};
use super::request::Call;
use crate::events;
use crate::store::DeadLetter;
use crate::task::TaskId;

/// An event that could not be taken.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(super) struct LetterWire<'a> {
    /// Its number.
    id: u64,
    /// When it was put aside.
    time: Time,
    /// The task it names, where it names one.
    task_id: Option<TaskId>,
    /// Why it could not be taken.
    reason: &'a str,
    /// As it came: it need not be JSON.
    raw: &'a str,
}

impl<'a> LetterWire<'a> {
    fn new(id: u64, letter: &'a DeadLetter) -> Self {
        Self { id, time: Shown(letter.at), task_id: letter.task, reason: &letter.reason, raw: &letter.raw }
    }
}

/// A page of dead letters, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterList)]
pub(super) struct ListWire {
    /// The letters.
    #[schema(value_type = Vec<LetterWire<'static>>)]
    dead_letters: Entries,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
    /// The page ends before its limit, by its bytes: go on with the cursor.
    truncated: bool,
}

/// `GET /dead-letters`
pub(super) async fn list(call: Call) -> Reply {
    const SCOPE: &str = "dead letters";
    let mut query = call.query(&["limit", "cursor"]);
    let limit = query.limit();
    let before = query.one("cursor").and_then(|cursor| {
        let place = cursor::decode_number(SCOPE, &cursor);
        if place.is_none() {
            query.wrong("cursor", cursor::MISMATCH);
        }
        place
    });
    query.finish()?;
    let page = call.app.engine.dead_letters(before, limit).await?;
    let mut dead_letters = Entries::new(limit);
    let shown = dead_letters.take(page.entries.iter().map(|(id, letter)| LetterWire::new(*id, letter)));
    let next = page.after(shown).map(|(id, _)| cursor::encode(SCOPE, &id.to_be_bytes()));
    let truncated = page.is_truncated || dead_letters.is_truncated();
    Ok(reply::json(StatusCode::OK, &ListWire { dead_letters, next_cursor: next, limit, truncated }))
}

/// `GET /dead-letters/{id}`
pub(super) async fn show(call: Call) -> Reply {
    call.no_query()?;
    let text = call.id();
    let missing = || Problem::not_found("dead_letter_not_found", "dead letter", &text);
    let id = text.parse().map_err(|_| missing())?;
    let letter = call.app.engine.dead_letter(id).await?.ok_or_else(missing)?;
    Ok(reply::json(StatusCode::OK, &LetterWire::new(id, &letter)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequeueWire {}

/// What became of a dead letter.
#[derive(Serialize, ToSchema)]
#[schema(as = RequeuedLetter)]
pub(super) struct RequeuedWire {
    /// Its number.
    id: u64,
    /// What the event did.
    #[schema(value_type = EventOutcome)]
    outcome: &'static str,
    /// The outcome in words.
    detail: &'static str,
}

/// `POST /dead-letters/{id}/requeue`
pub(super) async fn requeue(mut call: Call) -> Reply {
    call.no_query()?;
    let text = call.id();
    let id = text.parse().map_err(|_| Problem::not_found("dead_letter_not_found", "dead letter", &text))?;
    let (RequeueWire {}, errors) = call.optional_json().await?;
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let missing = || Problem::not_found("dead_letter_not_found", "dead letter", &text);
    let letter = call.app.engine.dead_letter(id).await?.ok_or_else(missing)?;
    let event = events::read(letter.raw.as_bytes())?;
    let outcome = call.app.engine.requeue(id, event.incoming).await?;
    Ok(reply::json(StatusCode::OK, &RequeuedWire { id, outcome: outcome.as_str(), detail: outcome.detail() }))
}
