//! From a message to an event: structured and binary `CloudEvents`, and bare
//! data whose name is its routing key.

use lapin::message::Delivery;
use lapin::types::AMQPValue;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::outgoing::{ACCEPTED_HEADER, Letter, accepted_mark};
use crate::engine::{Incoming, Message};
use crate::events::{self, InvalidEvent, MAX_EVENT_BYTES};
use crate::json::{self, FieldError, Invalid};
use crate::task::{TaskId, Timestamp};

/// Prefixes of headers that are attributes: no binding of `CloudEvents` to this
/// protocol has been agreed on, and all of these are in use.
pub(super) const PREFIXES: [&str; 3] = ["cloudEvents:", "cloudEvents_", "ce-"];
/// How much of a message that is too large is kept here; all of it goes to
/// the dead-letter exchange.
const KEPT_BYTES: usize = 64 * 1024;

/// A message that can't be taken.
#[derive(Debug)]
pub(super) struct Untaken {
    /// Why not.
    pub(super) reason: String,
    /// The event, as far as it was one, else the message.
    pub(super) raw: String,
    /// The task it is about, where it says so.
    pub(super) task: Option<TaskId>,
}

/// Reads a message; with the trace that its event says it belongs to.
pub(super) fn read(delivery: &Delivery) -> Result<(Incoming, Option<String>), Untaken> {
    let untaken = |reason: String, raw: String| Untaken { reason, raw, task: None };
    if delivery.data.len() > MAX_EVENT_BYTES {
        let reason = format!("the message has {} bytes, at most {MAX_EVENT_BYTES} are taken", delivery.data.len());
        return Err(untaken(reason, kept(&delivery.data)));
    }
    let (text, has_identity) =
        structured(delivery).map_err(|error| untaken(told(&error.into()), kept(&delivery.data)))?;
    let received = events::read(&text).map_err(|error| untaken(told(&error), kept(&text)))?;
    let identity = received.incoming.identity.filter(|_| has_identity);
    Ok((Incoming { identity, on_bus: true, ..received.incoming }, received.traceparent))
}

/// Whether a message holds an event that this store has accepted itself and
/// published then: its effect was durable before.
pub(super) fn was_accepted(delivery: &Delivery, event: &Incoming, store: Uuid) -> bool {
    let Some((source, id)) = &event.identity else { return false };
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(ACCEPTED_HEADER)) {
        Some(AMQPValue::LongString(mark)) => mark.as_bytes() == accepted_mark(store, source, id).as_bytes(),
        _ => false,
    }
}

/// The task that an event names.
pub(super) const fn task_of(event: &Incoming) -> Option<TaskId> {
    match &event.message {
        Message::Report { correlation, .. } => correlation.task,
        Message::Cascade { .. } | Message::Rollback(_) => None,
    }
}

/// The same as a dead letter for the exchange.
pub(super) fn letter(delivery: Delivery, reason: String) -> Letter {
    Letter {
        exchange: delivery.exchange.to_string(),
        routing_key: delivery.routing_key.to_string(),
        reason,
        properties: delivery.properties,
        payload: delivery.data,
    }
}

/// What is wrong, field by field.
fn told(error: &InvalidEvent) -> String {
    match error {
        InvalidEvent::Json(Invalid::Fields(fields)) => {
            let fields = fields.iter().take(10).map(|field| format!("{} {}", field.pointer, field.message));
            fields.collect::<Vec<_>>().join("; ")
        }
        error => error.to_string(),
    }
}

/// A message as text to keep. What is no text is kept with marks where it is
/// none: the dead-letter queue has it as it came.
fn kept(data: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(data.get(..KEPT_BYTES.min(data.len())).unwrap_or_default()).into_owned();
    if data.len() <= MAX_EVENT_BYTES {
        text = String::from_utf8_lossy(data).into_owned();
    }
    // No text here may have it, nor may Postgres.
    text.replace('\0', "\u{fffd}")
}

/// The message as an event in structured mode, and whether it says by what
/// it is known.
fn structured(delivery: &Delivery) -> Result<(Vec<u8>, bool), Invalid> {
    let attributes = attributes(delivery)?;
    if attributes.iter().any(|(name, _)| name == "specversion") {
        let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.clone()));
        return Ok((events::structured(attributes, &delivery.data)?, true));
    }
    json::check(&delivery.data, MAX_EVENT_BYTES)?;
    let malformed = |error: serde_json::Error| Invalid::Malformed { message: error.to_string() };
    let body: Value = serde_json::from_slice(&delivery.data).map_err(malformed)?;
    // The value has each key once, also where the text has it twice.
    let doubled = json::find_doubled_keys(&delivery.data);
    if !doubled.is_empty() {
        return Err(Invalid::Fields(doubled.iter().map(json::DoubledKey::error).collect()));
    }
    let is_event = body.get("specversion").is_some() || content_type(delivery).starts_with("application/cloudevents");
    match body {
        Value::Object(mut event) if is_event => {
            if event.contains_key("type") {
                return Ok((delivery.data.clone(), true));
            }
            event.insert("type".to_owned(), delivery.routing_key.as_str().into());
            Ok((serde_json::to_vec(&event).map_err(malformed)?, true))
        }
        _ => bare(delivery),
    }
}

/// Data without an envelope: the routing key is its name, and `message_id`,
/// where there is one, its id.
fn bare(delivery: &Delivery) -> Result<(Vec<u8>, bool), Invalid> {
    let malformed = |error: serde_json::Error| Invalid::Malformed { message: error.to_string() };
    let data: &RawValue = serde_json::from_slice(&delivery.data).map_err(malformed)?;
    let properties = &delivery.properties;
    let id = properties.message_id().as_ref().map(ToString::to_string).filter(|id| !id.is_empty());
    let source = properties.app_id().as_ref().map(ToString::to_string).filter(|source| !source.is_empty());
    let source = source.unwrap_or_else(|| format!("/{}", delivery.exchange.as_str()));
    let mut event = Map::new();
    event.insert("specversion".to_owned(), "1.0".into());
    event.insert("type".to_owned(), delivery.routing_key.as_str().into());
    event.insert("source".to_owned(), source.into());
    let has_identity = id.is_some();
    event.insert("id".to_owned(), id.unwrap_or_else(made_up).into());
    let mut text = serde_json::to_vec(&event).map_err(malformed)?;
    text.pop();
    text.extend_from_slice(b",\"data\":");
    text.extend_from_slice(data.get().as_bytes());
    text.push(b'}');
    Ok((text, has_identity))
}

/// An id for a message without one: it may become a dead letter and be taken
/// again, when it must not pass for another that had none.
fn made_up() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

fn content_type(delivery: &Delivery) -> &str {
    delivery.properties.content_type().as_ref().map_or("", |text| text.as_str())
}

/// The attributes that stand in headers.
fn attributes(delivery: &Delivery) -> Result<Vec<(String, String)>, Invalid> {
    let Some(headers) = delivery.properties.headers() else { return Ok(Vec::new()) };
    let mut attributes = Vec::new();
    for (key, value) in headers.inner() {
        let Some(name) = PREFIXES.into_iter().find_map(|prefix| key.as_str().strip_prefix(prefix)) else { continue };
        let name = name.to_ascii_lowercase();
        match text(value) {
            Ok(Some(text)) => attributes.push((name, text)),
            Ok(None) => {}
            Err(message) => {
                return Err(Invalid::Fields(vec![FieldError::new(json::child("", &name), message)]));
            }
        }
    }
    let has = |attributes: &[(String, String)], name: &str| attributes.iter().any(|(known, _)| known == name);
    if has(&attributes, "specversion") && !has(&attributes, "type") {
        attributes.push(("type".to_owned(), delivery.routing_key.to_string()));
    }
    Ok(attributes)
}

/// The text of an attribute; `None` for one without a value.
fn text(value: &AMQPValue) -> Result<Option<String>, String> {
    Ok(Some(match value {
        AMQPValue::LongString(text) => {
            let text = std::str::from_utf8(text.as_bytes());
            text.map_err(|error| format!("is not UTF-8 from byte {}", error.valid_up_to()))?.to_owned()
        }
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Timestamp(seconds) => {
            let micros = i64::try_from(*seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            Timestamp::from_micros(micros).to_string()
        }
        AMQPValue::Void => return Ok(None),
        AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_) => return Err("must be text, a boolean or an integer".to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::FieldTable;
    use serde_json::json;

    use super::*;
    use crate::task::Report;

    const TASK: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn delivery(key: &str, data: &Value, properties: BasicProperties) -> Delivery {
        let data = data.to_string().into_bytes();
        let mut delivery = Delivery::mock(1, "task.events".into(), key.into(), false, data);
        delivery.properties = properties;
        delivery
    }

    fn data() -> Value {
        json!({"task_id": TASK, "error": "out of memory"})
    }

    fn headers(prefix: &str, entries: &[(&str, &str)]) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert(format!("{prefix}{name}").into(), AMQPValue::LongString((*value).into()));
        }
        BasicProperties::default().with_headers(table)
    }

    fn read(delivery: &Delivery) -> Result<Incoming, Untaken> {
        super::read(delivery).map(|(event, _)| event)
    }

    fn is_failure(event: &Incoming) -> bool {
        matches!(&event.message, Message::Report { report: Report::Failed(_), .. })
    }

    fn known_by(source: &str, id: &str) -> (String, String) {
        (source.to_owned(), id.to_owned())
    }

    #[test]
    fn an_envelope_is_taken_also_without_its_type() {
        let mut event =
            json!({"specversion": "1.0", "type": "dats.task.failed", "source": "/w", "id": "1", "data": data()});
        let read_event = |event: &Value| read(&delivery("task.failed", event, BasicProperties::default()));
        let taken = read_event(&event).unwrap();
        assert_eq!(taken.identity, Some(known_by("/w", "1")));
        assert!(taken.on_bus && is_failure(&taken));
        event.as_object_mut().unwrap().remove("type");
        assert!(is_failure(&read_event(&event).unwrap()));
        event["id"] = Value::Null;
        assert_eq!(read_event(&event).unwrap_err().reason, "/id is required");
    }

    #[test]
    fn attributes_are_taken_from_headers_of_every_kind() {
        for prefix in PREFIXES {
            let all = [("specversion", "1.0"), ("type", "task.failed"), ("source", "/w"), ("id", "1")];
            let taken = read(&delivery("x", &data(), headers(prefix, &all))).unwrap();
            assert_eq!(taken.identity, Some(known_by("/w", "1")));
            let taken = read(&delivery("task.failed", &data(), headers(prefix, &[all[0], all[2], all[3]]))).unwrap();
            assert!(is_failure(&taken));
        }
    }

    #[test]
    fn the_trace_is_an_attribute_like_others() {
        let all =
            [("specversion", "1.0"), ("type", "task.failed"), ("source", "/w"), ("id", "1"), ("traceparent", "00-x")];
        let (_, trace) = super::read(&delivery("x", &data(), headers(PREFIXES[0], &all))).unwrap();
        assert_eq!(trace.as_deref(), Some("00-x"));
        let event = json!({"specversion": "1.0", "type": "task.failed", "source": "/w", "id": "1", "data": data(),
            "traceparent": null});
        let (_, trace) = super::read(&delivery("x", &event, BasicProperties::default())).unwrap();
        assert_eq!(trace, None);
    }

    #[test]
    fn attributes_that_are_no_text_are_refused() {
        let with = |id: AMQPValue| {
            let mut table = FieldTable::default();
            for (name, value) in [("specversion", "1.0"), ("type", "task.failed"), ("source", "/w")] {
                table.insert(format!("ce-{name}").into(), AMQPValue::LongString(value.into()));
            }
            table.insert("ce-id".into(), id);
            let properties = BasicProperties::default().with_headers(table);
            read(&delivery("x", &data(), properties))
        };
        // Both would be the same id, were they taken with marks for what is no text.
        for bytes in [&b"\xff"[..], &b"\xfe"[..]] {
            assert_eq!(
                with(AMQPValue::LongString(bytes.to_vec().into())).unwrap_err().reason,
                "/id is not UTF-8 from byte 0"
            );
        }
        assert!(with(AMQPValue::Double(1.5)).unwrap_err().reason.starts_with("/id must be text"));
        assert_eq!(with(AMQPValue::LongUInt(7)).unwrap().identity, Some(known_by("/w", "7")));
        let mut doubled = delivery("task.failed", &data(), BasicProperties::default());
        doubled.data = br#"{"specversion":"1.0","id":"1","id":"2","source":"/w","data":{}}"#.to_vec();
        assert!(read(&doubled).unwrap_err().reason.starts_with("/id duplicate field"));
    }

    #[test]
    fn bare_data_goes_by_its_routing_key() {
        let properties = BasicProperties::default().with_message_id("m-1".into());
        let taken = read(&delivery("task.failed", &data(), properties)).unwrap();
        assert_eq!(taken.identity, Some(known_by("/task.events", "m-1")));
        assert_eq!(read(&delivery("task.failed", &data(), BasicProperties::default())).unwrap().identity, None);
        let properties = BasicProperties::default().with_message_id("m-1".into()).with_app_id("/worker".into());
        assert_eq!(
            read(&delivery("task.failed", &data(), properties)).unwrap().identity,
            Some(known_by("/worker", "m-1"))
        );
    }

    #[test]
    fn an_event_that_this_store_has_accepted_is_known_and_no_other() {
        let (store, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let came = |id: &str, mark: &str| {
            let event = json!({"specversion": "1.0", "type": "task.failed", "source": "/w", "id": id, "data": data()});
            let delivery = delivery("task.failed", &event, headers("", &[(ACCEPTED_HEADER, mark)]));
            let event = read(&delivery).unwrap();
            was_accepted(&delivery, &event, store)
        };
        assert!(came("1", &accepted_mark(store, "/w", "1")));
        // Another event with the headers of this one, the same of another source or store, and none.
        assert!(!came("2", &accepted_mark(store, "/w", "1")));
        assert!(!came("1", &accepted_mark(store, "/v", "1")) && !came("1", &accepted_mark(other, "/w", "1")));
        assert!(!came("1", &store.to_string()));
    }

    #[test]
    fn garbage_is_told_from_events() {
        let reason = |key: &str, data: Value| read(&delivery(key, &data, BasicProperties::default())).unwrap_err();
        assert!(reason("task.nonsense", data()).reason.contains("`task.nonsense` are not taken"));
        assert!(reason("task.failed", json!(7)).reason.contains("/data"));
        assert!(
            reason("task.failed", json!({"task_id": "task-456", "error": "e"})).reason.contains("no task task-456")
        );
        let mut large = delivery("task.failed", &data(), BasicProperties::default());
        large.data = vec![b'x'; MAX_EVENT_BYTES + 1];
        let untaken = read(&large).unwrap_err();
        assert!(untaken.reason.contains("1048577 bytes"), "{}", untaken.reason);
        assert_eq!(untaken.raw.len(), KEPT_BYTES);
        large.data = b"\xff\0{".to_vec();
        assert_eq!(read(&large).unwrap_err().raw, "\u{fffd}\u{fffd}{");
    }
}
