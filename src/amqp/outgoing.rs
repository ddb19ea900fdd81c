//! From an entry of the log to a message: a structured `CloudEvent` with the
//! properties that the other services go by.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};
use serde::Deserialize;
use uuid::Uuid;

use super::connection::{short, table};
use super::settings::Settings;
use crate::engine::Logged;
use crate::events::{Envelope, routing_key};
use crate::task::Timestamp;

/// The media type of an event in structured mode.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";
/// Largest message that is published, in bytes. All parts of an event have limits,
/// and the largest event has less; `RabbitMQ` takes 16 MiB by default.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// The broker writes the message to disk.
pub(super) const PERSISTENT: u8 = 2;

/// A message to be published.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    /// Whether a queue must take it.
    pub(super) mandatory: bool,
    /// What a returned one is known by.
    pub(super) id: String,
    pub(super) properties: BasicProperties,
    pub(super) payload: Vec<u8>,
}

/// Header of a message with an event that this service had accepted before, over
/// HTTP: what [`accepted_mark`] gives. It comes back to the queue of this service.
pub(super) const ACCEPTED_HEADER: &str = "dats-accepted";

/// Tells the events that a store has accepted. It is that of one event, so a service
/// that copies the headers of what it answers does not have its answer passed over.
pub(super) fn accepted_mark(store: Uuid, source: &str, id: &str) -> String {
    let event = [source.as_bytes(), id.as_bytes()].join(&0);
    format!("{store}/{}", Uuid::new_v5(&store, &event))
}

/// The attributes of an event that came from outside.
#[derive(Deserialize)]
struct Attributes {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The message of an event; `None`: it is none.
pub(super) fn message(logged: &Logged, envelope: &Envelope, settings: &Settings) -> Option<Message> {
    let payload = envelope.render(logged)?;
    let change = &logged.entry.change;
    let (id, kind, headers) = match &logged.entry.event {
        Some(event) => {
            let Attributes { id, source, kind } = serde_json::from_str(event).ok()?;
            let mark = accepted_mark(envelope.store(), &source, &id);
            (id, kind, Some(table([(ACCEPTED_HEADER, mark.as_str())])))
        }
        None => (envelope.id(logged.seq).to_string(), format!("dats.{}", change.name()), None),
    };
    let properties =
        headers.map_or_else(BasicProperties::default, |headers| BasicProperties::default().with_headers(headers));
    let properties = properties
        .with_content_type(STRUCTURED.into())
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(seconds(logged.entry.at));
    let properties = match logged.entry.task() {
        Some(task) => properties.with_correlation_id(task.to_string().into()),
        None => properties,
    };
    let properties = with(properties, &kind, BasicProperties::with_type);
    let properties = with(properties, &id, BasicProperties::with_message_id);
    Some(Message {
        exchange: settings.exchange_of(change.name()).to_owned(),
        routing_key: routing_key(change).into_owned(),
        mandatory: is_mandatory(change.name()),
        id,
        properties,
        payload,
    })
}

/// Whether a queue must take an event of this name: work must find one.
pub(super) fn is_mandatory(name: &str) -> bool {
    name == "task.ready"
}

type Set = fn(BasicProperties, ShortString) -> BasicProperties;

/// A property that has room for 255 bytes, where the text fits.
fn with(properties: BasicProperties, text: &str, set: Set) -> BasicProperties {
    match short(text) {
        Some(text) => set(properties, text),
        None => properties,
    }
}

fn seconds(at: Timestamp) -> u64 {
    at.as_millis() / 1000
}

/// Headers of a dead letter: why, and by which exchange and key it came.
pub(super) const LETTER_HEADERS: [&str; 3] = ["dats-reason", "dats-exchange", "dats-routing-key"];
/// Longest reason that goes along with a dead letter. The whole is in the table.
pub(super) const MAX_REASON_BYTES: usize = 1024;
/// Largest headers of a dead letter that go along with it, as text. A broker's
/// frame has 128 KiB by default.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// A message that could not be taken, as it came, with the reason.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) reason: String,
    pub(super) properties: BasicProperties,
    pub(super) payload: Vec<u8>,
}

impl Letter {
    /// For the dead-letter exchange: body and headers are those it came with,
    /// and three headers more. Of the properties those stay that only tell
    /// something: others would make the broker route it elsewhere, let it
    /// expire, or refuse it.
    pub(super) fn into_message(self, settings: &Settings) -> Message {
        // All headers must fit into one frame: large ones are in the table of dead letters alone.
        let came = self.properties.headers().clone();
        let mut headers: FieldTable =
            came.filter(|came| format!("{came:?}").len() <= MAX_HEADER_BYTES).unwrap_or_default();
        let reason = self.reason.get(..self.reason.floor_char_boundary(MAX_REASON_BYTES)).unwrap_or_default();
        let texts = [reason, self.exchange.as_str(), self.routing_key.as_str()];
        let more = table(LETTER_HEADERS.into_iter().zip(texts));
        for (key, value) in more.inner() {
            headers.insert(key.clone(), value.clone());
        }
        let told = headers.inner().iter().filter(|(key, _)| !["CC", "BCC"].contains(&key.as_str()));
        let told: FieldTable = told.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>().into();
        Message {
            exchange: settings.dead_letters(),
            routing_key: self.routing_key,
            mandatory: false,
            id: String::new(),
            properties: telling(&self.properties).with_headers(told).with_delivery_mode(PERSISTENT),
            payload: self.payload,
        }
    }
}

/// The properties that only tell something.
fn telling(came: &BasicProperties) -> BasicProperties {
    let texts: [(&Option<ShortString>, Set); 6] = [
        (came.content_type(), BasicProperties::with_content_type),
        (came.content_encoding(), BasicProperties::with_content_encoding),
        (came.correlation_id(), BasicProperties::with_correlation_id),
        (came.message_id(), BasicProperties::with_message_id),
        (came.kind(), BasicProperties::with_type),
        (came.app_id(), BasicProperties::with_app_id),
    ];
    let properties = texts.into_iter().fold(BasicProperties::default(), |properties, (text, set)| match text {
        Some(text) => set(properties, text.clone()),
        None => properties,
    });
    match came.timestamp() {
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
        let letter = Letter {
            exchange: "task.events".to_owned(),
            routing_key: "task.failed".to_owned(),
            reason: reason.to_owned(),
            properties: BasicProperties::default().with_headers(table([("trace", header)])),
            payload: Vec::new(),
        };
        let message = letter.into_message(&settings());
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

    /// More than a frame takes would end the connection, again and again.
    #[test]
    fn what_goes_along_with_a_dead_letter_is_bounded() {
        let headers = headers_of(&"x\u{e4}".repeat(100_000), "short");
        let reason = text_of(&headers, "dats-reason").unwrap();
        assert!((1000..=MAX_REASON_BYTES).contains(&reason.len()) && reason.starts_with("x\u{e4}x"), "{reason}");
        assert_eq!(text_of(&headers, "trace").as_deref(), Some("short"));
        let headers = headers_of("why", &"x".repeat(MAX_HEADER_BYTES));
        assert_eq!((text_of(&headers, "dats-reason").as_deref(), text_of(&headers, "trace")), (Some("why"), None));
        assert_eq!(text_of(&headers, "dats-routing-key").as_deref(), Some("task.failed"));
    }
}
