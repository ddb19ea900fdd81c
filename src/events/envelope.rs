//! The envelope: renders an entry of the log as a structured `CloudEvent`.

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::engine::LoggedEvent;
use crate::planted::{self, Fault};
use crate::task::Seq;

/// The `source` of the events of this service.
pub(crate) const SOURCE: &str = "/orchestration";

/// Wraps entries of the log. The id of an event is derived from the store and the position, so that
/// each publication of the event has the same id.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    namespace: Uuid,
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: Uuid,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'a str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    data: &'a RawValue,
}

impl Envelope {
    /// Returns the envelope of a store.
    #[must_use]
    pub const fn new(namespace: Uuid) -> Self {
        Self { namespace }
    }

    /// Returns the id of the store.
    #[must_use]
    pub const fn store(&self) -> Uuid {
        self.namespace
    }

    /// Returns the id of the event at a position.
    #[must_use]
    pub fn id(&self, seq: Seq) -> Uuid {
        if planted::is(Fault::EventIdChanges) {
            return Uuid::now_v7();
        }
        Uuid::new_v5(&self.namespace, &seq.0.to_be_bytes())
    }

    /// Renders the event as JSON. An accepted event is returned unchanged. Returns `None` if the
    /// entry is neither published nor an event.
    #[must_use]
    pub fn render(&self, logged: &LoggedEvent) -> Option<Vec<u8>> {
        if let Some(event) = &logged.entry.event {
            return Some(event.as_bytes().to_vec());
        }
        if !logged.entry.change.is_published() {
            return None;
        }
        let data: &RawValue = logged.data.as_deref().and_then(|data| serde_json::from_slice(data).ok())?;
        let kind = format!("dats.{}", logged.entry.change.name());
        let event = Event {
            specversion: "1.0",
            id: self.id(logged.seq),
            source: SOURCE,
            kind: &kind,
            time: logged.entry.at.to_string(),
            subject: logged.entry.task().map(|task| task.to_string()),
            datacontenttype: "application/json",
            traceparent: logged.traceparent.as_deref(),
            data,
        };
        serde_json::to_vec(&event).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::{About, LogEntry, Standing};
    use crate::task::{Change, Moment, Outcome, Phase, ProjectId, Status, TaskId, Timestamp};

    pub(in crate::events) fn entry(change: Change) -> LogEntry {
        LogEntry {
            at: Timestamp::from_micros(1_767_981_600_000_000),
            project: ProjectId::new("p").unwrap(),
            about: About::Task(Standing {
                task: TaskId::new(Uuid::from_u128(7)),
                version: 1,
                status: Status::Pending,
                phase: Phase::Queued,
                attempt: 0,
            }),
            change,
            event: None,
            on_bus: false,
            observed: Moment::default(),
        }
    }

    fn logged(entry: LogEntry, data: Option<&'static str>) -> LoggedEvent {
        LoggedEvent { seq: Seq(3), entry, data: data.map(|data| data.as_bytes().into()), traceparent: None }
    }

    #[test]
    fn published_changes_are_wrapped() {
        let envelope = Envelope::new(Uuid::from_u128(1));
        let created = logged(entry(Change::Created), Some(r#"{"task_id":"x","b":1}"#));
        let event: serde_json::Value = serde_json::from_slice(&envelope.render(&created).unwrap()).unwrap();
        assert_eq!(
            event,
            serde_json::json!({
                "specversion": "1.0",
                "id": envelope.id(Seq(3)).to_string(),
                "source": "/orchestration",
                "type": "dats.task.created",
                "time": "2026-01-09T18:00:00Z",
                "subject": "00000000-0000-0000-0000-000000000007",
                "datacontenttype": "application/json",
                "data": {"task_id": "x", "b": 1},
            })
        );
        assert_ne!(envelope.id(Seq(3)), envelope.id(Seq(4)));
        assert_ne!(envelope.id(Seq(3)), Envelope::new(Uuid::from_u128(2)).id(Seq(3)));
    }

    #[test]
    fn an_event_has_the_trace_context_of_its_submission() {
        let mut created = logged(entry(Change::Created), Some("{}"));
        created.traceparent = Some("00-x".to_owned());
        let text = String::from_utf8(Envelope::new(Uuid::nil()).render(&created).unwrap()).unwrap();
        assert!(text.contains("\"traceparent\":\"00-x\""), "{text}");
    }

    #[test]
    fn accepted_events_are_returned_unchanged() {
        let change = Change::Accepted { name: "task.validated".to_owned(), outcome: Outcome::Applied };
        let mut accepted = logged(entry(change), None);
        accepted.entry.event = Some("{\"x\":1.0}".to_owned());
        assert_eq!(Envelope::new(Uuid::nil()).render(&accepted).unwrap(), b"{\"x\":1.0}");
    }

    #[test]
    fn other_changes_are_not_rendered() {
        assert_eq!(Envelope::new(Uuid::nil()).render(&logged(entry(Change::Queued), None)), None);
    }
}
