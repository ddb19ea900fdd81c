//! `POST /events`: events in the three modes of the HTTP binding of `CloudEvents`. The effect of an event
//! is on disk before the response is sent.

use hyper::{HeaderMap, StatusCode};
use percent_encoding::percent_decode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::engine::{EventOutcome, Refusal};
use crate::events::{self, InvalidEvent, Received};
use crate::http::api::app::Call;
use crate::http::server::content_type;
use crate::http::server::problem::{self, Problem};
use crate::http::server::reply::{self, Reply};
use crate::json::{self, FieldError, Invalid};

/// The largest number of events in a batch.
pub(in crate::http) const MAX_BATCH: usize = 1000;

/// A content mode of the HTTP binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Structured,
    Binary,
    Batch,
}

impl Mode {
    /// Returns the mode of a request. Plain JSON without `ce-` headers is structured.
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        content_type::require_uncompressed(headers)?;
        let binary = headers.contains_key("ce-specversion");
        match content_type::media_type(headers).as_deref() {
            Some("application/cloudevents-batch+json") => Ok(Self::Batch),
            None | Some("application/json") if binary => Ok(Self::Binary),
            None | Some("application/json" | "application/cloudevents+json") => Ok(Self::Structured),
            Some(other) if binary && other.ends_with("+json") => Ok(Self::Binary),
            Some(other) => {
                let accepted = "application/cloudevents+json, application/cloudevents-batch+json or application/json";
                let found = json::quoted(other);
                Err(Problem::unsupported_media_type(format!("Content-Type must be {accepted}, was {found}")))
            }
        }
    }
}

/// The outcome of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventResult)]
pub(in crate::http) struct OutcomeWire<'a> {
    /// The id of the event.
    id: &'a str,
    /// The outcome.
    #[schema(value_type = EventOutcome)]
    outcome: &'static str,
    /// A description of the outcome.
    detail: &'static str,
}

impl<'a> OutcomeWire<'a> {
    const fn new(id: &'a str, outcome: EventOutcome) -> Self {
        Self { id, outcome: outcome.as_str(), detail: outcome.detail() }
    }
}

/// The result of one event of a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = EventBatchResult)]
pub(in crate::http) enum ResultWire<'a> {
    /// The event was accepted.
    Outcome(OutcomeWire<'a>),
    /// The event was refused.
    Problem {
        /// The id of the event; absent if it could not be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        id: Option<&'a str>,
        /// The problem, as in the response to a single event.
        problem: problem::Wire<'a>,
    },
}

/// The results of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = EventResults)]
pub(in crate::http) struct ResultsWire<'a> {
    /// One result for each event, in the order of the request.
    results: Vec<ResultWire<'a>>,
}

/// Handles `POST /events`.
pub(in crate::http) async fn accept(mut call: Call) -> Reply {
    call.require_no_query()?;
    let mode = Mode::of(call.headers())?;
    let raw = call.bytes().await?;
    let (length, most) = (raw.len(), call.app.server.bodies.max_bytes());
    match mode {
        Mode::Batch => {
            let items = call.decode(length, move || decode_batch(&raw, most)).await??;
            accept_batch(&call, items).await
        }
        Mode::Structured => accept_one(&call, call.decode(length, move || events::read(&raw)).await??).await,
        Mode::Binary => {
            let headers = call.headers().clone();
            accept_one(&call, call.decode(length, move || decode_binary(&headers, &raw)).await??).await
        }
    }
}

fn decode_binary(headers: &HeaderMap, raw: &[u8]) -> Result<Received, InvalidEvent> {
    events::read(&events::to_structured(attributes(headers)?, raw)?)
}

/// Returns the attributes of an event in binary mode. They are `ce-` headers with percent-encoded UTF-8
/// values.
fn attributes(headers: &HeaderMap) -> Result<Vec<(&str, String)>, Invalid> {
    let attributes = headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix("ce-")?, value)));
    let decoded = attributes.map(|(name, value)| match percent_decode(value.as_bytes()).decode_utf8() {
        Ok(text) => Ok((name, text.into_owned())),
        Err(error) => {
            let message = format!("must be percent-encoded UTF-8, is not from byte {}", error.valid_up_to());
            Err(Invalid::Fields(vec![FieldError::new(json::child("", name), message)]))
        }
    });
    decoded.collect()
}

async fn accept_one(call: &Call, received: Received) -> Reply {
    let mut outcomes = call.app.engine.events().accept(vec![received.incoming]).await?;
    let outcome = outcomes.pop().ok_or(crate::engine::Error::Unknown)??;
    Ok(reply::json(StatusCode::OK, &OutcomeWire::new(&received.id, outcome)))
}

/// Splits a batch into its events, each of which is valid or not by itself.
fn decode_batch(raw: &[u8], most_bytes: usize) -> Result<Vec<Result<Received, InvalidEvent>>, Problem> {
    json::check(raw, most_bytes)?;
    let malformed = |error: serde_json::Error| Invalid::Malformed { message: error.to_string() };
    let items: Vec<&RawValue> = match serde_json::from_slice(raw) {
        Ok(items) => items,
        Err(error) if error.is_data() => return Err(Problem::invalid_field("", "must be an array of events")),
        Err(error) => return Err(malformed(error).into()),
    };
    if items.len() > MAX_BATCH {
        return Err(Problem::invalid_field("", format!("must have at most {MAX_BATCH} events, had {}", items.len())));
    }
    Ok(items.into_iter().map(|item| events::read(item.get().as_bytes())).collect())
}

async fn accept_batch(call: &Call, items: Vec<Result<Received, InvalidEvent>>) -> Reply {
    let mut valid = Vec::new();
    let items = items.into_iter().map(|item| {
        item.map(|received| {
            valid.push(received.incoming);
            received.id
        })
    });
    let ids: Vec<Result<String, InvalidEvent>> = items.collect();
    let outcomes = if valid.is_empty() { Vec::new() } else { call.app.engine.events().accept(valid).await? };
    let results = merge_results(ids, outcomes);
    let path = call.head.uri.path();
    let results = results.iter().map(|BatchItem { id, result }| match result {
        Ok(outcome) => ResultWire::Outcome(OutcomeWire::new(id.as_deref().unwrap_or_default(), *outcome)),
        Err(problem) => ResultWire::Problem { id: id.as_deref(), problem: problem.wire(path) },
    });
    Ok(reply::json(StatusCode::OK, &ResultsWire { results: results.collect() }))
}

/// An event of a batch after the commit.
struct BatchItem {
    /// `None` if the id could not be read.
    id: Option<String>,
    result: Result<EventOutcome, Problem>,
}

/// Combines the outcomes of the valid events with the problems of the others, in the order of the batch.
fn merge_results(
    ids: Vec<Result<String, InvalidEvent>>,
    outcomes: Vec<Result<EventOutcome, Refusal>>,
) -> Vec<BatchItem> {
    let (mut outcomes, mut left) = (outcomes.into_iter(), problem::MAX_BATCH_ERRORS);
    let items = ids.into_iter().enumerate().map(|(index, id)| match id {
        Ok(id) => {
            let outcome = outcomes.next().map(|outcome| outcome.map_err(Problem::from));
            let result = outcome.unwrap_or_else(|| Err(crate::engine::Error::Unknown.into()));
            BatchItem { id: Some(id), result }
        }
        Err(invalid) => {
            let mut problem = Problem::from(invalid);
            problem.truncate_errors(&mut left);
            BatchItem { id: None, result: Err(problem.within(&format!("/{index}"))) }
        }
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Outcome, TaskId};

    fn mode(pairs: &[(&'static str, &'static str)]) -> Result<Mode, Problem> {
        let headers: HeaderMap =
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Mode::of(&headers)
    }

    #[test]
    fn the_mode_follows_the_headers() {
        let binary = ("ce-specversion", "1.0");
        assert_eq!(mode(&[("content-type", "application/cloudevents+json; charset=utf-8")]).unwrap(), Mode::Structured);
        assert_eq!(mode(&[("content-type", "application/cloudevents-batch+json")]).unwrap(), Mode::Batch);
        assert_eq!(mode(&[("content-type", "application/json")]).unwrap(), Mode::Structured);
        assert_eq!(mode(&[]).unwrap(), Mode::Structured);
        assert_eq!(mode(&[("content-type", "application/json"), binary]).unwrap(), Mode::Binary);
        assert_eq!(mode(&[binary]).unwrap(), Mode::Binary);
        assert_eq!(mode(&[("content-type", "text/xml"), binary]).unwrap_err().code(), "unsupported_media_type");
    }

    #[test]
    fn binary_attributes_are_decoded() {
        let mut headers = HeaderMap::new();
        headers.insert("ce-source", "/worker%20%E2%82%AC".parse().unwrap());
        headers.insert("accept", "*/*".parse().unwrap());
        assert_eq!(attributes(&headers).unwrap(), [("source", "/worker €".to_owned())]);
        headers.insert("ce-id", "%ff".parse().unwrap());
        let refused = |headers: &HeaderMap| match attributes(headers) {
            Err(Invalid::Fields(errors)) => errors[0].pointer.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&headers), "/id");
        headers.insert("ce-id", hyper::header::HeaderValue::from_bytes(b"a\xe9").unwrap());
        assert_eq!(refused(&headers), "/id");
    }

    #[test]
    fn results_keep_the_order_of_the_batch() {
        let task = "01890a5d-ac96-774b-bcce-b302099a8057";
        let event = |id: &str, error: &str| {
            format!(
                r#"{{"specversion":"1.0","type":"task.failed","source":"/w","id":"{id}","data":{{"task_id":"{task}"{error}}}}}"#
            )
        };
        let text =
            format!("[{},7,{},{}]", event("a", ",\"error\":\"e\""), event("b", ""), event("c", ",\"error\":\"e\""));
        let items = decode_batch(text.as_bytes(), 10_000).unwrap();
        let missing = Refusal::TaskNotFound(task.parse::<TaskId>().unwrap());
        let ids = items.into_iter().map(|item| item.map(|received| received.id)).collect();
        let merged = merge_results(ids, vec![Ok(EventOutcome::Taken(Outcome::Applied)), Err(missing)]);
        assert_eq!(merged[0].id.as_deref(), Some("a"));
        assert!(matches!(merged[0].result, Ok(EventOutcome::Taken(Outcome::Applied))));
        assert_eq!(merged[1].result.as_ref().unwrap_err().code(), "validation_failed");
        let second = serde_json::to_string(&merged[2].result.as_ref().unwrap_err().wire("/")).unwrap();
        assert!(second.contains("\"/2/data/error\""), "{second}");
        assert_eq!(merged[3].result.as_ref().unwrap_err().code(), "task_not_found");
    }

    #[test]
    fn an_invalid_batch_is_refused() {
        assert_eq!(decode_batch(b"{}", 100).unwrap_err().code(), "validation_failed");
        assert_eq!(decode_batch(b"[", 100).unwrap_err().code(), "malformed_json");
        assert_eq!(decode_batch(b"[1,2,3]", 3).unwrap_err().code(), "body_too_large");
        assert_eq!(decode_batch("[".repeat(100_000).as_bytes(), 1_000_000).unwrap_err().code(), "json_too_deep");
        assert!(decode_batch(b"[]", 100).unwrap().is_empty());
    }
}
