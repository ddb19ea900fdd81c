//! Turns a consumed message into an event. A message is a structured or binary
//! `CloudEvent`, or bare data whose routing key is the name of the event.

use lapin::message::Delivery;
use lapin::types::AMQPValue;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::outgoing::{ACCEPTED_HEADER, RejectedMessage, acceptance_mark};
use crate::engine::{EventContent, IncomingEvent};
use crate::events::{self, InvalidEvent, MAX_EVENT_BYTES};
use crate::json::{self, FieldError, Invalid};
use crate::task::{TaskId, Timestamp};

/// The prefixes of headers that hold attributes. `CloudEvents` has no binding for AMQP 0-9-1, and
/// senders use all of these.
pub(super) const PREFIXES: [&str; 3] = ["cloudEvents:", "cloudEvents_", "ce-"];
/// How much of a message that is too large the table of dead letters keeps. The dead-letter
/// exchange gets the whole message.
const KEPT_BYTES: usize = 64 * 1024;

/// Why a message was rejected, for the table of dead letters.
#[derive(Debug)]
pub(super) struct Rejection {
    /// The cause, for people.
    pub(super) reason: String,
    /// The event in structured mode, or the body if the message is not an event.
    pub(super) raw: String,
    /// The task that the event names, if it does.
    pub(super) task: Option<TaskId>,
}

/// Reads the event of a message and its trace context, which is not checked.
pub(super) fn read(delivery: &Delivery) -> Result<(IncomingEvent, Option<String>), Rejection> {
    let rejection = |reason: String, raw: String| Rejection { reason, raw, task: None };
    if delivery.data.len() > MAX_EVENT_BYTES {
        let reason = format!("the message has {} bytes, at most {MAX_EVENT_BYTES} are accepted", delivery.data.len());
        return Err(rejection(reason, retained_text(&delivery.data)));
    }
    let (text, has_identity) = to_structured(delivery)
        .map_err(|error| rejection(describe_error(&error.into()), retained_text(&delivery.data)))?;
    let received = events::read(&text).map_err(|error| rejection(describe_error(&error), retained_text(&text)))?;
    let identity = received.incoming.identity.filter(|_| has_identity);
    Ok((IncomingEvent { identity, on_bus: true, ..received.incoming }, received.traceparent))
}

/// Whether a message holds an event that this store has accepted over HTTP and published. The effect
/// of the event is durable.
pub(super) fn was_accepted(delivery: &Delivery, event: &IncomingEvent, store: Uuid) -> bool {
    let Some((source, id)) = &event.identity else { return false };
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(ACCEPTED_HEADER)) {
        Some(AMQPValue::LongString(mark)) => mark.as_bytes() == acceptance_mark(store, source, id).as_bytes(),
        _ => false,
    }
}

/// Returns the task that an event names.
pub(super) const fn task_of(event: &IncomingEvent) -> Option<TaskId> {
    match &event.message {
        EventContent::Report { correlation, .. } => correlation.task,
        EventContent::Cascade { .. } | EventContent::Rollback(_) => None,
    }
}

/// Returns a rejected message for the dead-letter exchange.
pub(super) fn rejected_message(delivery: Delivery, reason: String) -> RejectedMessage {
    RejectedMessage {
        exchange: delivery.exchange.to_string(),
        routing_key: delivery.routing_key.to_string(),
        reason,
        properties: delivery.properties,
        payload: delivery.data,
    }
}

/// Returns the text of an error, with the first ten fields that are wrong.
fn describe_error(error: &InvalidEvent) -> String {
    match error {
        InvalidEvent::Json(Invalid::Fields(fields)) => {
            let fields = fields.iter().take(10).map(|field| format!("{} {}", field.pointer, field.message));
            fields.collect::<Vec<_>>().join("; ")
        }
        error => error.to_string(),
    }
}

/// Returns the body of a message as text for the table of dead letters. Bytes that are not UTF-8 are
/// replaced; the dead-letter queue has the original.
fn retained_text(data: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(data.get(..KEPT_BYTES.min(data.len())).unwrap_or_default()).into_owned();
    if data.len() <= MAX_EVENT_BYTES {
        text = String::from_utf8_lossy(data).into_owned();
    }
    // Neither stored texts nor Postgres may contain a NUL character.
    text.replace('\0', "\u{fffd}")
}

/// Returns the message as an event in structured mode, and whether the message identifies the event.
fn to_structured(delivery: &Delivery) -> Result<(Vec<u8>, bool), Invalid> {
    let attributes = header_attributes(delivery)?;
    if attributes.iter().any(|(name, _)| name == "specversion") {
        let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.clone()));
        return Ok((events::to_structured(attributes, &delivery.data)?, true));
    }
    json::check(&delivery.data, MAX_EVENT_BYTES)?;
    let malformed = |error: serde_json::Error| Invalid::Malformed { message: error.to_string() };
    let body: Value = serde_json::from_slice(&delivery.data).map_err(malformed)?;
    // The parsed value keeps one of two equal keys, so they are looked for in the text.
    let duplicates = json::find_duplicate_keys(&delivery.data);
    if !duplicates.is_empty() {
        return Err(Invalid::Fields(duplicates.iter().map(json::DuplicateKey::error).collect()));
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
        _ => wrap_bare_data(delivery),
    }
}

/// Wraps data without an envelope. The type of the event is the routing key, and its id the
/// `message_id`, if there is one.
fn wrap_bare_data(delivery: &Delivery) -> Result<(Vec<u8>, bool), Invalid> {
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
    event.insert("id".to_owned(), id.unwrap_or_else(random_id).into());
    let mut text = serde_json::to_vec(&event).map_err(malformed)?;
    text.pop();
    text.extend_from_slice(b",\"data\":");
    text.extend_from_slice(data.get().as_bytes());
    text.push(b'}');
    Ok((text, has_identity))
}

/// Returns an id for a message without one. The message may become a dead letter and be requeued,
/// and must then not count as a duplicate of another message without an id.
fn random_id() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

fn content_type(delivery: &Delivery) -> &str {
    delivery.properties.content_type().as_ref().map_or("", |text| text.as_str())
}

/// Returns the attributes of an event in binary mode.
fn header_attributes(delivery: &Delivery) -> Result<Vec<(String, String)>, Invalid> {
    let Some(headers) = delivery.properties.headers() else { return Ok(Vec::new()) };
    let mut attributes = Vec::new();
    for (key, value) in headers.inner() {
        let Some(name) = PREFIXES.into_iter().find_map(|prefix| key.as_str().strip_prefix(prefix)) else { continue };
        let name = name.to_ascii_lowercase();
        match attribute_text(value) {
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

/// Returns the text of an attribute; `None` for one without a value.
fn attribute_text(value: &AMQPValue) -> Result<Option<String>, String> {
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

    fn read(delivery: &Delivery) -> Result<IncomingEvent, Rejection> {
        super::read(delivery).map(|(event, _)| event)
    }

    fn is_failure(event: &IncomingEvent) -> bool {
        matches!(&event.message, EventContent::Report { report: Report::Failed(_), .. })
    }

    fn known_by(source: &str, id: &str) -> (String, String) {
        (source.to_owned(), id.to_owned())
    }

    #[test]
    fn an_envelope_without_a_type_is_accepted() {
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
    fn attributes_are_read_from_headers_with_each_prefix() {
        for prefix in PREFIXES {
            let all = [("specversion", "1.0"), ("type", "task.failed"), ("source", "/w"), ("id", "1")];
            let taken = read(&delivery("x", &data(), headers(prefix, &all))).unwrap();
            assert_eq!(taken.identity, Some(known_by("/w", "1")));
            let taken = read(&delivery("task.failed", &data(), headers(prefix, &[all[0], all[2], all[3]]))).unwrap();
            assert!(is_failure(&taken));
        }
    }

    #[test]
    fn the_trace_context_is_read_in_both_modes() {
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
    fn attributes_that_are_not_text_are_refused() {
        let with = |id: AMQPValue| {
            let mut table = FieldTable::default();
            for (name, value) in [("specversion", "1.0"), ("type", "task.failed"), ("source", "/w")] {
                table.insert(format!("ce-{name}").into(), AMQPValue::LongString(value.into()));
            }
            table.insert("ce-id".into(), id);
            let properties = BasicProperties::default().with_headers(table);
            read(&delivery("x", &data(), properties))
        };
        // Replacing the invalid bytes would make both ids equal.
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
    fn bare_data_is_named_by_its_routing_key() {
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
    fn only_an_event_that_this_store_has_accepted_has_its_mark() {
        let (store, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let has_mark = |id: &str, mark: &str| {
            let event = json!({"specversion": "1.0", "type": "task.failed", "source": "/w", "id": id, "data": data()});
            let delivery = delivery("task.failed", &event, headers("", &[(ACCEPTED_HEADER, mark)]));
            let event = read(&delivery).unwrap();
            was_accepted(&delivery, &event, store)
        };
        assert!(has_mark("1", &acceptance_mark(store, "/w", "1")));
        // Another id, another source, another store, and a mark without an event.
        assert!(!has_mark("2", &acceptance_mark(store, "/w", "1")));
        assert!(
            !has_mark("1", &acceptance_mark(store, "/v", "1")) && !has_mark("1", &acceptance_mark(other, "/w", "1"))
        );
        assert!(!has_mark("1", &store.to_string()));
    }

    #[test]
    fn messages_that_are_not_events_are_rejected() {
        let reason = |key: &str, data: Value| read(&delivery(key, &data, BasicProperties::default())).unwrap_err();
        assert!(reason("task.nonsense", data()).reason.contains("`task.nonsense` are not accepted"));
        assert!(reason("task.failed", json!(7)).reason.contains("/data"));
        assert!(
            reason("task.failed", json!({"task_id": "task-456", "error": "e"})).reason.contains("no task task-456")
        );
        let mut large = delivery("task.failed", &data(), BasicProperties::default());
        large.data = vec![b'x'; MAX_EVENT_BYTES + 1];
        let rejection = read(&large).unwrap_err();
        assert!(rejection.reason.contains("1048577 bytes"), "{}", rejection.reason);
        assert_eq!(rejection.raw.len(), KEPT_BYTES);
        large.data = b"\xff\0{".to_vec();
        assert_eq!(read(&large).unwrap_err().raw, "\u{fffd}\u{fffd}{");
    }
}
