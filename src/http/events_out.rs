//! `GET /events`: what was published and what was accepted, as a stream to
//! follow or in pages.

use std::sync::Arc;

use hyper::header::ACCEPT;
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::app::App;
use super::cursor;
use super::openapi::CloudEvent;
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, Reply};
use super::request::Call;
use super::sse::{self, Over, Stream};
use crate::engine::LogPage;
use crate::events::TypeFilter;
use crate::json;
use crate::store::LogEntry;
use crate::task::{ProjectId, Seq, TaskId};

/// Entries that a reader takes from the log at once.
const CHUNK: usize = 256;

/// Which events a reader wants.
#[derive(Debug, Clone, Default)]
struct Wanted {
    types: TypeFilter,
    project: Option<ProjectId>,
    task: Option<TaskId>,
}

impl Wanted {
    fn read(query: &mut Query) -> Self {
        let names = query.many("types");
        let types = TypeFilter::parse(names.iter().map(String::as_str)).unwrap_or_else(|unknown| {
            query.wrong("types", unknown.to_string());
            TypeFilter::default()
        });
        let task = query.one("task_id").and_then(|id| {
            let task = id.parse().ok();
            if task.is_none() {
                query.wrong("task_id", format!("there is no task {}", json::quoted(&id)));
            }
            task
        });
        Self { types, project: query.parsed("project_id"), task }
    }

    fn wants(&self, entry: &LogEntry) -> bool {
        self.task.is_none_or(|task| entry.task() == Some(task))
            && self.project.as_ref().is_none_or(|project| entry.project == *project)
            && self.types.matches(entry)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Stream,
    Page,
}

impl Form {
    /// The stream is what is meant when nothing is said.
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
        let message = "the events come as text/event-stream or as application/json";
        forms.into_iter().next().ok_or_else(|| Problem::not_acceptable(message))
    }
}

/// The position after which a stream goes on.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let message = "must be the id of an event of this stream: a whole number";
    text.parse().map(Some).map_err(|_| Problem::invalid_field("Last-Event-ID", message))
}

/// `GET /events`
pub(super) async fn follow(call: Call) -> Reply {
    match Form::of(call.headers())? {
        Form::Stream => stream(&call),
        Form::Page => page(&call).await,
    }
}

/// Without a position, a stream begins now.
fn stream(call: &Call) -> Reply {
    let mut query = call.query(&["types", "project_id", "task_id", "after"]);
    let wanted = Wanted::read(&mut query);
    let after = query.number("after", 0..=u64::MAX);
    query.finish()?;
    // A browser that comes back knows better than the address it was given.
    let after = last_event_id(call.headers())?.or(after);
    let after = after.map_or_else(|| *call.app.engine.head().borrow(), Seq);
    let (stream, response) = sse::open(call.app.settings.heartbeat, call.stopping.clone());
    tokio::spawn(tell(Arc::clone(&call.app), wanted, after, stream));
    Ok(response)
}

/// Tells events until the client is gone. Between chunks nothing is held:
/// a slow reader costs its buffer, and is told when the log went on
/// without it.
async fn tell(app: Arc<App>, wanted: Wanted, mut after: Seq, mut stream: Stream) -> Result<(), Over> {
    let mut head = app.engine.head();
    if after > *head.borrow() {
        // The position is of another log, such as one before a restore.
        after = *head.borrow();
        reset(&mut stream, after.next()).await?;
    }
    loop {
        let newest = *head.borrow_and_update();
        while after < newest {
            let filter = wanted.clone();
            let read = app.engine.log(after, CHUNK, move |entry| filter.wants(entry)).await;
            let page = read.map_err(|_| Over)?;
            if let Some(first) = page.reset {
                reset(&mut stream, first).await?;
            }
            for logged in &page.entries {
                if let Some(event) = app.envelope.render(logged) {
                    stream.event(logged.seq.0, logged.entry.change.name(), &event).await?;
                }
            }
            stream.flush().await?;
            if page.read_to <= after {
                break;
            }
            after = page.read_to;
        }
        stream.wait(async { drop(head.changed().await) }).await?;
    }
}

/// Says that what was before `first` can't be read any more.
async fn reset(stream: &mut Stream, first: Seq) -> Result<(), Over> {
    let data = json!({"first": first}).to_string();
    stream.event(first.0.saturating_sub(1), "reset", data.as_bytes()).await
}

/// An event and its position.
#[derive(Serialize, ToSchema)]
#[schema(as = LoggedEvent)]
pub(super) struct ItemWire {
    /// Its position in the log.
    seq: Seq,
    /// The event.
    #[schema(value_type = CloudEvent)]
    event: Box<RawValue>,
}

/// A page of the log, the oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(super) struct PageWire {
    /// The events.
    events: Vec<ItemWire>,
    /// Go on after this position.
    read_to: Seq,
    /// Where the next page begins; null where the log ends.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
    /// The log has nothing before this position any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reset: Option<Seq>,
}

async fn page(call: &Call) -> Reply {
    let mut query = call.query(&["types", "project_id", "task_id", "after", "limit", "cursor"]);
    let wanted = Wanted::read(&mut query);
    let scope = format!("events {wanted:?}");
    let limit = query.limit();
    let after = start(&mut query, &scope);
    query.finish()?;
    let newest = *call.app.engine.head().borrow();
    let mut page = call.app.engine.log(after, limit, move |entry| wanted.wants(entry)).await?;
    let head = *call.app.engine.head().borrow();
    if page.read_to > head {
        // The position is of another log, as it is told to streams.
        page.read_to = head;
        page.reset = Some(head.next());
    }
    Ok(reply::json(StatusCode::OK, &page_wire(call, &page, &scope, limit, newest)))
}

fn start(query: &mut Query, scope: &str) -> Seq {
    let after = query.number("after", 0..=u64::MAX);
    let Some(cursor) = query.one("cursor") else { return Seq(after.unwrap_or(0)) };
    if after.is_some() {
        query.wrong("after", "can't be given with a cursor");
    }
    let place = cursor::decode_number(scope, &cursor);
    if place.is_none() {
        query.wrong("cursor", cursor::MISMATCH);
    }
    Seq(place.unwrap_or(0))
}

fn page_wire(call: &Call, page: &LogPage, scope: &str, limit: usize, newest: Seq) -> PageWire {
    let events = page.entries.iter().filter_map(|logged| {
        let event = String::from_utf8(call.app.envelope.render(logged)?).ok()?;
        Some(ItemWire { seq: logged.seq, event: RawValue::from_string(event).ok()? })
    });
    let more = page.read_to < newest;
    PageWire {
        events: events.collect(),
        read_to: page.read_to,
        next_cursor: more.then(|| cursor::encode(scope, &page.read_to.0.to_be_bytes())),
        limit,
        reset: page.reset,
    }
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
    fn wishes_are_checked() {
        let known = ["types", "project_id", "task_id", "after", "cursor"];
        let mut good = Query::new(Some("types=task.created,dats.task.ready.small&project_id=p"), &known);
        let wanted = Wanted::read(&mut good);
        assert!(wanted.project.is_some());
        good.finish().unwrap();
        for bad in ["types=task.nothing", "types=", "task_id=t-1", "project_id=", "after=x", "cursor=x"] {
            let mut query = Query::new(Some(bad), &known);
            Wanted::read(&mut query);
            start(&mut query, "s");
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
