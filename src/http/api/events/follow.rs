//! `GET /events`: the event log, as a stream or in pages.

use std::sync::Arc;

use hyper::header::ACCEPT;
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::engine::{LogPage, LoggedEvent};
use crate::http::api::app::{App, Call};
use crate::http::api::events::feed::Found;
use crate::http::api::events::filter::EventFilter;
use crate::http::openapi::cloud_event::CloudEvent;
use crate::http::server::cursor;
use crate::http::server::entries::Entries;
use crate::http::server::problem::Problem;
use crate::http::server::query::Query;
use crate::http::server::reply::{self, Reply};
use crate::http::server::sse::{Closed, EventStream};
use crate::planted::{self, Fault};
use crate::store::PageBudget;
use crate::task::Seq;

/// The largest number of entries that a stream reads at once.
const CHUNK: usize = 256;
/// The largest number of bytes that a stream reads at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The form of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Stream,
    Page,
}

impl Form {
    /// Returns the first form that `Accept` names. The default is the stream.
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
        if accepted.peek().is_none() {
            return Ok(Self::Stream);
        }
        let types = accepted.flat_map(|value| value.split(',')).map(|each| each.split(';').next().unwrap_or_default());
        let forms = types.filter_map(|each| match each.trim().to_ascii_lowercase().as_str() {
            "text/event-stream" | "text/*" | "*/*" => Some(Self::Stream),
            "application/json" | "application/*" => Some(Self::Page),
            _ => None,
        });
        let message = "events are available as text/event-stream or application/json";
        forms.into_iter().next().ok_or_else(|| Problem::not_acceptable(message))
    }
}

/// Returns the position after which a stream continues.
pub(in crate::http) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let message = "must be the id of an event of this stream: a whole number";
    let id: u64 = text.parse().map_err(|_| Problem::invalid_field("Last-Event-ID", message))?;
    Ok(Some(id + u64::from(planted::is(Fault::StreamSkipsOne))))
}

/// Handles `GET /events`.
pub(in crate::http) async fn follow(call: Call) -> Reply {
    match Form::of(call.headers())? {
        Form::Stream => stream(&call),
        Form::Page => {
            let app = Arc::clone(&call.app);
            app.server.reads.run(async move { page(&call).await }).await
        }
    }
}

/// Opens a stream. Without a position, it starts with the next event.
fn stream(call: &Call) -> Reply {
    let mut query = call.query(&["types", "project_id", "task_id", "after"]);
    let filter = EventFilter::parse(&mut query);
    let after = query.number("after", 0..=u64::MAX);
    query.finish()?;
    // A browser that reconnects sends the original query and a newer `Last-Event-ID`.
    let after = last_event_id(call.headers())?.or(after);
    let after = after.map_or_else(|| *call.app.engine.log().head().borrow(), Seq);
    let (stream, response) = call.app.streams.open(call.app.settings.heartbeat, call.ending().clone())?;
    tokio::spawn(stream_events(Arc::clone(&call.app), call.stopping.clone(), filter, after, stream));
    Ok(response)
}

/// Sends events until the client disconnects: first those in the log, then those that the feed announces. A
/// slow client uses no more memory than its buffer, and gets a `reset` if the log has dropped events that it
/// has not read.
async fn stream_events(
    app: Arc<App>,
    stopping: CancellationToken,
    filter: EventFilter,
    mut after: Seq,
    mut stream: EventStream,
) -> Result<(), Closed> {
    let head = *app.engine.log().head().borrow();
    if after > head {
        // The position belongs to another log, such as the one before a restore.
        after = head;
        send_reset(&mut stream, after.next()).await?;
    }
    let subscription = app.feed.subscribe(filter.clone(), &app.engine, app.envelope, &stopping);
    let since = subscription.admitted().await.ok_or(Closed)?;
    stream_log(&app, &filter, (&mut after, since), &mut stream).await?;
    loop {
        match subscription.take(after, CHUNK_BYTES) {
            Found::Nothing => stream.wait(subscription.changed()).await?,
            Found::Events(events) => {
                for event in events {
                    after = event.seq;
                    stream.push_frame(event.frame.clone()).await?;
                }
                stream.flush().await?;
            }
            Found::InLog(from, until) => {
                after = after.max(from);
                stream_log(&app, &filter, (&mut after, until), &mut stream).await?;
            }
            Found::Ended => return Err(Closed),
        }
    }
}

/// Sends the events of the log after the position `after`, at least up to `until`.
async fn stream_log(
    app: &App,
    filter: &EventFilter,
    (after, until): (&mut Seq, Seq),
    stream: &mut EventStream,
) -> Result<(), Closed> {
    while *after < until {
        let filter = filter.clone();
        let page = {
            let _reading = app.streams.acquire_reader().await;
            let budget = PageBudget::with_bytes(CHUNK, CHUNK_BYTES);
            app.engine.log().page(*after, budget, move |entry| filter.matches(entry)).await.map_err(|_| Closed)?
        };
        if let Some(first) = page.reset {
            send_reset(stream, first).await?;
        }
        for logged in page.entries {
            if let Some(event) = app.envelope.render(&logged) {
                stream.push_event(logged.seq.0, logged.entry.change.name(), &event).await?;
            }
        }
        stream.flush().await?;
        if page.read_to <= *after {
            break;
        }
        *after = page.read_to;
    }
    Ok(())
}

/// Tells the client that events before `first` are no longer in the log.
async fn send_reset(stream: &mut EventStream, first: Seq) -> Result<(), Closed> {
    let data = json!({"first": first}).to_string();
    stream.push_event(first.0.saturating_sub(1), "reset", data.as_bytes()).await
}

/// An event with its position.
#[derive(Serialize, ToSchema)]
#[schema(as = LoggedEvent)]
pub(in crate::http) struct ItemWire {
    /// The position of the event in the log.
    seq: Seq,
    /// The event.
    #[schema(value_type = CloudEvent)]
    event: Box<RawValue>,
}

/// A page of the event log, oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(in crate::http) struct PageWire {
    /// The events.
    #[schema(value_type = Vec<ItemWire>)]
    events: Entries,
    /// The position up to which the log was read. The next page starts after it.
    read_to: Seq,
    /// The cursor of the next page; null at the end of the log.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
    /// Whether the page was cut off by its size in bytes or by the limit of the search; the cursor continues after it.
    truncated: bool,
    /// The oldest position in the log; present if events before it were requested and are no longer there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reset: Option<Seq>,
}

/// Reads a page of the log.
async fn page(call: &Call) -> Reply {
    let mut query = call.query(&["types", "project_id", "task_id", "after", "limit", "cursor"]);
    let filter = EventFilter::parse(&mut query);
    let scope = format!("events {filter:?}");
    let limit = query.limit();
    let after = parse_start(&mut query, &scope);
    query.finish()?;
    let newest = *call.app.engine.log().head().borrow();
    let mut page = call.app.engine.log().page(after, limit, move |entry| filter.matches(entry)).await?;
    let head = *call.app.engine.log().head().borrow();
    if page.read_to > head {
        // The position belongs to another log, which a stream reports in the same way.
        page.read_to = head;
        page.reset = Some(head.next());
    }
    Ok(reply::json(StatusCode::OK, &page_wire(call, &page, &scope, limit, newest)))
}

fn parse_start(query: &mut Query, scope: &str) -> Seq {
    let after = query.number("after", 0..=u64::MAX);
    if query.has("cursor") && after.is_some() {
        query.reject("after", "cannot be combined with a cursor");
    }
    Seq(query.cursor(scope, cursor::decode_number).or(after).unwrap_or(0))
}

fn page_wire(call: &Call, page: &LogPage, scope: &str, limit: usize, newest: Seq) -> PageWire {
    let (mut events, mut read_to, mut shown) = (Entries::new(limit), page.read_to, None);
    for logged in &page.entries {
        let Some(event) = render_event(call, logged) else { continue };
        if !events.push(&ItemWire { seq: logged.seq, event }) {
            // The first event always fits.
            read_to = shown.unwrap_or(read_to);
            break;
        }
        shown = Some(logged.seq);
    }
    PageWire {
        truncated: (page.truncated || events.is_truncated()) && read_to < newest,
        events,
        read_to,
        next_cursor: (read_to < newest).then(|| cursor::encode(scope, &read_to.0.to_be_bytes())),
        limit,
        reset: page.reset,
    }
}

/// Renders the event of an entry. Returns `None` if the entry is not an event.
fn render_event(call: &Call, logged: &LoggedEvent) -> Option<Box<RawValue>> {
    let event = String::from_utf8(call.app.envelope.render(logged)?).ok()?;
    RawValue::from_string(event).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: Option<&'static str>) -> Result<Form, Problem> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        Form::of(&headers)
    }

    #[test]
    fn the_form_follows_accept() {
        assert_eq!(form(None).unwrap(), Form::Stream);
        assert_eq!(form(Some("*/*")).unwrap(), Form::Stream);
        assert_eq!(form(Some("text/html, application/json;q=0.9")).unwrap(), Form::Page);
        assert_eq!(form(Some("text/event-stream")).unwrap(), Form::Stream);
        assert_eq!(form(Some("image/png")).unwrap_err().code(), "not_acceptable");
    }

    #[test]
    fn positions_are_checked() {
        for bad in ["after=x", "after=-1", "cursor=x"] {
            let mut query = Query::new(Some(bad), &["after", "cursor"]);
            parse_start(&mut query, "s");
            assert!(query.finish().is_err(), "{bad}");
        }
    }

    #[test]
    fn positions_are_numbers() {
        let mut headers = HeaderMap::new();
        assert_eq!(last_event_id(&headers).unwrap(), None);
        headers.insert("last-event-id", "17".parse().unwrap());
        assert_eq!(last_event_id(&headers).unwrap(), Some(17));
        headers.insert("last-event-id", "x".parse().unwrap());
        assert!(last_event_id(&headers).is_err());
    }
}
