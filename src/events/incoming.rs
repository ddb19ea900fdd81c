//! Reads an event of another service, in structured or binary mode, and checks it.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::attributes::UncheckedEvent;
use super::catalogue::{ACCEPTED, bare_name};
use super::data::{self, InvalidData};
use crate::engine::{EventContent, IncomingEvent};
use crate::json::{self, FieldError, Invalid};
use crate::task::Report;

/// The largest event in structured mode, in bytes.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// A checked event.
#[derive(Debug, Clone)]
pub struct Received {
    /// The `id` of the event.
    pub id: String,
    /// The command for the engine.
    pub incoming: IncomingEvent,
    /// The trace context of the event, which is not checked.
    pub traceparent: Option<String>,
}

/// Why an event is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// The text is not JSON or not a `CloudEvent`, or the data is wrong.
    #[error(transparent)]
    Json(#[from] Invalid),
    /// The service does not accept events of this type.
    #[error("events of type `{0}` are not accepted; the accepted types are {all}", all = ACCEPTED.join(", "))]
    UnsupportedType(String),
    /// The task id is not a UUID, so no such task exists.
    #[error("there is no task {0}")]
    UnknownTask(String),
}

/// Reads an event in structured mode and checks it. Unknown attributes and unknown fields of `data`
/// are allowed.
pub fn read(text: &[u8]) -> Result<Received, InvalidEvent> {
    let (event, errors): (UncheckedEvent, _) = json::decode_all(text, MAX_EVENT_BYTES)?;
    let attributes = event.attributes(errors)?;
    let name = bare_name(&attributes.event_type);
    let Some(known) = ACCEPTED.into_iter().find(|known| *known == name) else {
        return Err(InvalidEvent::UnsupportedType(attributes.event_type));
    };
    let Some(data) = event.data else {
        return Err(Invalid::Fields(vec![FieldError::new("/data", "is required")]).into());
    };
    let message = read_message(known, data, &attributes.source).map_err(|invalid| match invalid {
        InvalidData::Fields(errors) => InvalidEvent::Json(Invalid::Fields(errors)),
        InvalidData::UnknownTask(id) => InvalidEvent::UnknownTask(id),
    })?;
    let raw = if event.has_null { without_nulls(text)? } else { json::minify(&String::from_utf8_lossy(text)) };
    let identity = Some((attributes.source, attributes.id.clone()));
    let traceparent = attributes.traceparent;
    Ok(Received { id: attributes.id, incoming: IncomingEvent { identity, message, raw, on_bus: false }, traceparent })
}

/// Returns the text of an event without its null attributes.
fn without_nulls(text: &[u8]) -> Result<String, Invalid> {
    let malformed = |error: serde_json::Error| Invalid::Malformed { message: error.to_string() };
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(text).map_err(malformed)?;
    members.retain(|_, value| value.get() != "null");
    Ok(json::minify(&serde_json::to_string(&members).map_err(malformed)?))
}

/// Reads the data of the event `name` into a command.
fn read_message(name: &'static str, data: Value, source: &str) -> Result<EventContent, InvalidData> {
    match name {
        "artifact.tainted" => data::read_taint(name, data),
        "artifact.suspect" => data::read_suspicion(name, data),
        "rollback.requested" => data::read_rollback(data),
        _ => data::read_report(name, data).map(|(correlation, mut report)| {
            if let Report::Failed(failure) = &mut report {
                failure.from_qa = is_qa(source);
            }
            EventContent::Report { correlation, report }
        }),
    }
}

/// Whether the `source` of an event names a QA service, such as `/qa` or
/// `https://dats.example/qa/2`.
fn is_qa(source: &str) -> bool {
    source.split(|letter: char| !letter.is_alphanumeric()).any(|word| word.eq_ignore_ascii_case("qa"))
}

/// Returns an event in structured mode, from the attributes and the data of one in binary mode.
/// Equal attributes may be given twice.
pub fn to_structured<'a>(
    attributes: impl IntoIterator<Item = (&'a str, String)>,
    data: &[u8],
) -> Result<Vec<u8>, Invalid> {
    let mut event = serde_json::Map::new();
    for (name, value) in attributes {
        // The body is the data, and its media type is a header of the transport.
        if matches!(name, "data" | "data_base64" | "datacontenttype") {
            continue;
        }
        match event.get(name) {
            Some(known) if *known != value => {
                let message = format!("is given twice, as {} and {}", known, json::quoted(&value));
                return Err(Invalid::Fields(vec![FieldError::new(json::child("", name), message)]));
            }
            Some(_) => {}
            None => drop(event.insert(name.to_owned(), Value::String(value))),
        }
    }
    let malformed = |error: serde_json::Error| Invalid::Malformed { message: error.to_string() };
    let mut text = serde_json::to_vec(&event).map_err(malformed)?;
    if data.is_empty() {
        return Ok(text);
    }
    // Unless the data is checked to be one value, it could add attributes.
    let data: &RawValue = serde_json::from_slice(data).map_err(malformed)?;
    text.pop();
    if !event.is_empty() {
        text.push(b',');
    }
    text.extend_from_slice(b"\"data\":");
    text.extend_from_slice(data.get().as_bytes());
    text.push(b'}');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TASK: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn event(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut event = json!({
            "specversion": "1.0", "type": "dats.task.validated", "source": "/qa", "id": "e-1",
            "time": "2026-01-09T18:00:00Z", "datacontenttype": "application/json; charset=utf-8", "extra": 1,
            "data": {"task_id": TASK, "artifact_id": "a", "score": 0.9, "unknown": true},
        });
        change(&mut event);
        event.to_string().into_bytes()
    }

    fn errors(text: &[u8]) -> Vec<FieldError> {
        match read(text) {
            Err(InvalidEvent::Json(Invalid::Fields(errors))) => errors,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_correct_event_is_accepted() {
        let received = read(&event(|_| {})).unwrap();
        assert_eq!(received.id, "e-1");
        assert_eq!(received.incoming.identity, Some(("/qa".to_owned(), "e-1".to_owned())));
        let EventContent::Report { correlation, report } = received.incoming.message else { panic!() };
        assert!(matches!(report, Report::Verdict(_)));
        assert_eq!(correlation.task, Some(TASK.parse().unwrap()));
        assert!(read(&event(|event| event["type"] = json!("task.validated"))).is_ok());
        let received = read(&event(|event| event["time"] = Value::Null)).unwrap();
        assert!(!received.incoming.raw.contains("\"time\"") && received.incoming.raw.contains("\"extra\":1"));
    }

    #[test]
    fn every_wrong_attribute_is_named() {
        let pointers = |change: fn(&mut Value)| -> Vec<String> {
            errors(&event(change)).into_iter().map(|error| error.pointer).collect()
        };
        assert_eq!(pointers(|event| event["specversion"] = json!("0.3")), ["/specversion"]);
        assert_eq!(pointers(|event| event["specversion"] = json!(1.0)), ["/specversion"]);
        assert_eq!(pointers(|event| event["source"] = json!("")), ["/source"]);
        assert_eq!(pointers(|event| event["id"] = json!("x".repeat(1025))), ["/id"]);
        assert_eq!(pointers(|event| event["time"] = json!("today")), ["/time"]);
        assert_eq!(pointers(|event| event["datacontenttype"] = json!("text/xml")), ["/datacontenttype"]);
        assert_eq!(pointers(|event| event["data_base64"] = json!("AA==")), ["/data_base64"]);
        assert_eq!(pointers(|event| event["data"] = Value::Null), ["/data"]);
        assert_eq!(pointers(|event| event["data"] = json!("text")), ["/data"]);
        let all = pointers(|event| *event = json!({}));
        assert_eq!(all, ["/specversion", "/type", "/source", "/id"]);
    }

    #[test]
    fn unknown_types_and_tasks_are_refused() {
        let other = read(&event(|event| event["type"] = json!("dats.task.created")));
        assert!(matches!(other, Err(InvalidEvent::UnsupportedType(name)) if name == "dats.task.created"));
        let unknown = read(&event(|event| event["data"]["task_id"] = json!("task-456")));
        assert!(matches!(unknown, Err(InvalidEvent::UnknownTask(id)) if id == "task-456"));
    }

    #[test]
    fn binary_mode_becomes_structured_mode() {
        let attributes = || {
            [("specversion", "1.0"), ("type", "dats.task.failed"), ("source", "/worker"), ("id", "1"), ("id", "1")]
                .map(|(name, value)| (name, value.to_owned()))
        };
        let data = format!("{{ \"task_id\": \"{TASK}\", \"error\": \"out of memory\" }}");
        let text = to_structured(attributes(), data.as_bytes()).unwrap();
        let received = read(&text).unwrap();
        assert_eq!(received.id, "1");
        assert!(
            received
                .incoming
                .raw
                .ends_with(&format!("\"data\":{{\"task_id\":\"{TASK}\",\"error\":\"out of memory\"}}}}"))
        );
        assert!(to_structured(attributes(), b"1,\"id\":\"x\"").is_err());
        let twice = attributes().into_iter().chain([("id", "2".to_owned())]);
        assert!(matches!(to_structured(twice, b"{}"), Err(Invalid::Fields(errors)) if errors[0].pointer == "/id"));
        let schema = attributes().into_iter().chain([("dataschema", "/relative".to_owned())]);
        assert_eq!(errors(&to_structured(schema, data.as_bytes()).unwrap())[0].pointer, "/dataschema");
        assert_eq!(errors(&to_structured(attributes(), b"").unwrap()), [FieldError::new("/data", "is required")]);
        assert_eq!(to_structured([], b"1").unwrap(), b"{\"data\":1}");
    }

    #[test]
    fn limits_are_checked() {
        let large = event(|event| event["data"]["more"] = json!("x".repeat(MAX_EVENT_BYTES)));
        assert!(matches!(read(&large), Err(InvalidEvent::Json(Invalid::TooLarge { .. }))));
        assert_eq!(errors(&event(|event| event["data"]["score"] = json!("\u{0}")))[0].pointer, "/data/score");
        let text =
            String::from_utf8(event(|_| {})).unwrap().replace("\"score\"", "\"unknown\":{\"k\":1,\"k\":2},\"score\"");
        let pointers: Vec<_> = errors(text.as_bytes()).into_iter().map(|error| error.pointer).collect();
        assert_eq!(pointers, ["/data/unknown/k", "/data/unknown"], "each doubled key is named");
        let whole = event(|event| {
            event["type"] = json!("task.failed");
            event["data"] = json!({"task_id": TASK, "error": "e", "attempt": 2.0});
        });
        assert!(read(&whole).is_ok(), "an integer may have a fraction of zero");
    }
}
