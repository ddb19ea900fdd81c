//! Turns an entry of the log into a message: a structured `CloudEvent` with AMQP
//! properties. Turns a rejected message into a dead letter.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};
use serde::Deserialize;
use uuid::Uuid;

use super::connection::{short, table};
use super::settings::Settings;
use crate::engine::LoggedEvent;
use crate::events::{Envelope, routing_key};
use crate::task::Timestamp;

/// The media type of an event in structured mode.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";
/// The largest published message, in bytes. The limits of the parts of an event add up to less, and
/// `RabbitMQ` accepts 16 MiB by default.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// The delivery mode of messages that the broker writes to disk.
pub(super) const PERSISTENT: u8 = 2;

/// A message to be published.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    /// Whether the broker returns the message if no queue takes it.
    pub(super) mandatory: bool,
    /// The `message_id`, which identifies a returned message.
    pub(super) id: String,
    pub(super) properties: BasicProperties,
    pub(super) payload: Vec<u8>,
}

/// The header with the [`acceptance_mark`] of an event that this service has accepted over HTTP and
/// then published. The message also arrives at the queue of this service.
pub(super) const ACCEPTED_HEADER: &str = "dats-accepted";

/// Returns the mark of an event that a store has accepted. The mark depends on the event, so that a
/// service may copy the headers to its answer without this service ignoring the answer.
pub(super) fn acceptance_mark(store: Uuid, source: &str, id: &str) -> String {
    let event = [source.as_bytes(), id.as_bytes()].join(&0);
    format!("{store}/{}", Uuid::new_v5(&store, &event))
}

/// The attributes of an event of another service.
#[derive(Deserialize)]
struct GivenAttributes {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Returns the message of a log entry; `None` if the entry is not an event.
pub(super) fn message(logged: &LoggedEvent, envelope: &Envelope, settings: &Settings) -> Option<Message> {
    let payload = envelope.render(logged)?;
    let change = &logged.entry.change;
    let (id, kind, headers) = match &logged.entry.event {
        Some(event) => {
            let GivenAttributes { id, source, kind } = serde_json::from_str(event).ok()?;
            let mark = acceptance_mark(envelope.store(), &source, &id);
            (id, kind, Some(table([(ACCEPTED_HEADER, mark.as_str())])))
        }
        None => (envelope.id(logged.seq).to_string(), format!("dats.{}", change.name()), None),
    };
    let properties =
        headers.map_or_else(BasicProperties::default, |headers| BasicProperties::default().with_headers(headers));
    let properties = properties
        .with_content_type(STRUCTURED.into())
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(unix_seconds(logged.entry.at));
    let properties = match logged.entry.task() {
        Some(task) => properties.with_correlation_id(task.to_string().into()),
        None => properties,
    };
    let properties = with_short_text(properties, &kind, BasicProperties::with_type);
    let properties = with_short_text(properties, &id, BasicProperties::with_message_id);
    Some(Message {
        exchange: settings.exchange_of(change.name()).to_owned(),
        routing_key: routing_key(change).into_owned(),
        mandatory: is_mandatory(change.name()),
        id,
        properties,
        payload,
    })
}

/// Whether the broker must return an event of this name if no queue takes it, as for work.
pub(super) fn is_mandatory(name: &str) -> bool {
    name == "task.ready"
}

type Setter = fn(BasicProperties, ShortString) -> BasicProperties;

/// Sets a property to a text, unless the text has more than 255 bytes.
fn with_short_text(properties: BasicProperties, text: &str, set: Setter) -> BasicProperties {
    match short(text) {
        Some(text) => set(properties, text),
        None => properties,
    }
}

fn unix_seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1000
}

/// The headers of a dead letter: the reason, and the exchange and routing key of the message.
pub(super) const DEAD_LETTER_HEADERS: [&str; 3] = ["dats-reason", "dats-exchange", "dats-routing-key"];
/// The longest reason in a header, in bytes. The table of dead letters has the whole reason.
pub(super) const MAX_REASON_BYTES: usize = 1024;
/// The largest headers that a dead letter keeps, in bytes of their debug text. A frame of the broker
/// has 128 KiB by default.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// A consumed message that was rejected, unchanged, and the reason.
#[derive(Debug)]
pub(super) struct RejectedMessage {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) reason: String,
    pub(super) properties: BasicProperties,
    pub(super) payload: Vec<u8>,
}

impl RejectedMessage {
    /// Returns the message for the dead-letter exchange, with its body, its headers and
    /// [`DEAD_LETTER_HEADERS`]. Only descriptive properties are kept, because others would make the
    /// broker route the message elsewhere, expire it, or refuse it.
    pub(super) fn into_message(self, settings: &Settings) -> Message {
        // All headers must fit into one frame.
        let original = self.properties.headers().clone();
        let mut headers: FieldTable =
            original.filter(|original| format!("{original:?}").len() <= MAX_HEADER_BYTES).unwrap_or_default();
        let reason = self.reason.get(..self.reason.floor_char_boundary(MAX_REASON_BYTES)).unwrap_or_default();
        let texts = [reason, self.exchange.as_str(), self.routing_key.as_str()];
        let more = table(DEAD_LETTER_HEADERS.into_iter().zip(texts));
        for (key, value) in more.inner() {
            headers.insert(key.clone(), value.clone());
        }
        let kept = headers.inner().iter().filter(|(key, _)| !["CC", "BCC"].contains(&key.as_str()));
        let kept: FieldTable = kept.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>().into();
        Message {
            exchange: settings.dead_letter_name(),
            routing_key: self.routing_key,
            mandatory: false,
            id: String::new(),
            properties: descriptive(&self.properties).with_headers(kept).with_delivery_mode(PERSISTENT),
            payload: self.payload,
        }
    }
}

/// Returns the properties that describe a message and have no effect at the broker.
fn descriptive(original: &BasicProperties) -> BasicProperties {
    let texts: [(&Option<ShortString>, Setter); 6] = [
        (original.content_type(), BasicProperties::with_content_type),
        (original.content_encoding(), BasicProperties::with_content_encoding),
        (original.correlation_id(), BasicProperties::with_correlation_id),
        (original.message_id(), BasicProperties::with_message_id),
        (original.kind(), BasicProperties::with_type),
        (original.app_id(), BasicProperties::with_app_id),
    ];
    let properties = texts.into_iter().fold(BasicProperties::default(), |properties, (text, set)| match text {
        Some(text) => set(properties, text.clone()),
        None => properties,
    });
    match original.timestamp() {
        Some(at) => properties.with_timestamp(*at),
        None => properties,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::amqp::{Credentials, Exchanges, QueueType, WorkQueues};

    pub(in crate::amqp) fn settings() -> Settings {
        let name = || "name".to_owned();
        Settings {
            host: name(),
            port: 5672,
            credentials: Credentials { username: name(), password: name() },
            vhost: name(),
            tls: false,
            ca_file: None,
            exchanges: Exchanges { task: name(), cascade: name(), qa: name() },
            queue: "ours".to_owned(),
            work_queues: WorkQueues {
                declare: true,
                name: "{tier}".to_owned(),
                require_consumer: crate::engine::RequireConsumer::Auto,
            },
            queue_type: QueueType::Quorum,
            prefetch: 1,
            window: 1,
            confirm_timeout: std::time::Duration::from_secs(1),
            unobserved_wait: std::time::Duration::from_hours(1),
            tiers: Vec::new(),
        }
    }

    fn headers_of(reason: &str, header: &str) -> FieldTable {
        let rejected = RejectedMessage {
            exchange: "task.events".to_owned(),
            routing_key: "task.failed".to_owned(),
            reason: reason.to_owned(),
            properties: BasicProperties::default().with_headers(table([("trace", header)])),
            payload: Vec::new(),
        };
        let message = rejected.into_message(&settings());
        assert_eq!(message.exchange, "ours.dead-letters");
        message.properties.headers().clone().unwrap()
    }

    fn text_of(headers: &FieldTable, name: &str) -> Option<String> {
        match headers.inner().get(name) {
            Some(lapin::types::AMQPValue::LongString(text)) => {
                Some(std::str::from_utf8(text.as_bytes()).unwrap().to_owned())
            }
            _ => None,
        }
    }

    /// Headers that exceed a frame would end the connection at each attempt.
    #[test]
    fn the_headers_of_a_dead_letter_are_bounded() {
        let headers = headers_of(&"x\u{e4}".repeat(100_000), "short");
        let reason = text_of(&headers, "dats-reason").unwrap();
        assert!((1000..=MAX_REASON_BYTES).contains(&reason.len()) && reason.starts_with("x\u{e4}x"), "{reason}");
        assert_eq!(text_of(&headers, "trace").as_deref(), Some("short"));
        let headers = headers_of("why", &"x".repeat(MAX_HEADER_BYTES));
        assert_eq!((text_of(&headers, "dats-reason").as_deref(), text_of(&headers, "trace")), (Some("why"), None));
        assert_eq!(text_of(&headers, "dats-routing-key").as_deref(), Some("task.failed"));
    }
}
