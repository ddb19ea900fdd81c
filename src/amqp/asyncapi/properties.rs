//! What AMQP 0-9-1 has beside the body of a message, by the kind of message.

use serde_json::{Value, json};

use crate::amqp::incoming::PREFIXES;
use crate::amqp::outgoing::{ACCEPTED_HEADER, LETTER_HEADERS, MAX_REASON_BYTES, PERSISTENT, STRUCTURED};

/// Names of the schemas below.
pub(super) const OF_OWN: &str = "OwnProperties";
pub(super) const OF_STRUCTURED: &str = "StructuredProperties";
pub(super) const OF_BINARY: &str = "BinaryProperties";
pub(super) const OF_BARE: &str = "BareProperties";
pub(super) const OF_LETTER: &str = "LetterProperties";

/// All of them by name.
pub(super) fn all() -> [(&'static str, Value); 5] {
    [
        (OF_OWN, of_own()),
        (OF_STRUCTURED, of_structured()),
        (OF_BINARY, of_binary()),
        (OF_BARE, of_bare()),
        (OF_LETTER, of_letter()),
    ]
}

/// A property that is a short string.
fn short(said: &str) -> Value {
    json!({ "type": "string", "maxLength": 255, "description": said })
}

fn of_own() -> Value {
    json!({
        "type": "object",
        "description": "Properties of an event that is published.",
        "required": ["content_type", "delivery_mode", "message_id", "type", "timestamp", "correlation_id"],
        "properties": {
            "content_type": { "const": STRUCTURED },
            "delivery_mode": { "const": PERSISTENT, "description": "The broker keeps it on disk." },
            "message_id": short("The event's `id`."),
            "type": short("The event's `type`."),
            "timestamp": { "type": "integer", "minimum": 0, "description": "When, in seconds since 1970." },
            "correlation_id": { "type": "string", "format": "uuid", "description": "The task." },
        },
    })
}

fn of_structured() -> Value {
    json!({
        "type": "object",
        "description": "Properties of an event in structured mode: none is needed, since the envelope says all. Events \
            that came in over HTTP and are passed on have those of this service's own, `message_id` and `type` where \
            they have at most 255 bytes, and `correlation_id` where they are about a task.",
        "properties": {
            "content_type": short(&format!("`{STRUCTURED}`.")),
            "delivery_mode": { "enum": [1, 2] },
            "message_id": short("The event's `id`."),
            "type": short("The event's `type`."),
            "timestamp": { "type": "integer", "minimum": 0, "description": "When, in seconds since 1970." },
            "correlation_id": short("The task."),
            "headers": {
                "type": "object",
                "properties": {
                    ACCEPTED_HEADER: {
                        "type": "string",
                        "description": "Of an event that came in over HTTP and is passed on: which store has accepted \
                            it, and a hash of its `source` and `id`. That store passes over the message when it comes \
                            back to its own queue.",
                    },
                },
            },
        },
    })
}

/// The table of headers with attributes behind one prefix.
fn attributes(prefix: &str) -> Value {
    let name = |attribute: &str| format!("{prefix}{attribute}");
    let required = ["specversion", "source", "id"].map(name);
    json!({
        "required": required,
        "properties": {
            name("specversion"): { "const": "1.0" },
            name("source"): { "type": "string", "minLength": 1, "description": "Who says it." },
            name("id"): { "type": ["string", "integer"], "minLength": 1, "description": "Unique within its source." },
            name("type"): { "type": "string", "description": "What has happened; without it the routing key counts." },
            name("time"): { "type": "string", "format": "date-time", "description": "When." },
            name("traceparent"): { "type": "string", "description": "The trace it belongs to (W3C)." },
        },
    })
}

fn of_binary() -> Value {
    json!({
        "type": "object",
        "description": "Properties of an event in binary mode: its attributes stand in headers, with a prefix.",
        "required": ["headers"],
        "properties": {
            "content_type": short("Of the data, which is JSON."),
            "headers": { "type": "object", "anyOf": PREFIXES.map(attributes) },
        },
    })
}

fn of_bare() -> Value {
    let none = PREFIXES.map(|prefix| json!({ "required": [format!("{prefix}specversion")] }));
    json!({
        "type": "object",
        "description": "Properties of bare data: the routing key is the name of the event.",
        "properties": {
            "content_type": { "type": "string", "maxLength": 255, "not": { "pattern": "^application/cloudevents" },
                "description": "`application/json`." },
            "message_id": short("The event's id. Without one, the same said twice is two events."),
            "app_id": short("Who says it; without one the exchange counts."),
            "headers": { "type": "object", "not": { "anyOf": none } },
        },
    })
}

fn of_letter() -> Value {
    let [reason, exchange, key] = LETTER_HEADERS;
    let said = format!("Why it can't be taken: the first {MAX_REASON_BYTES} bytes.");
    json!({
        "type": "object",
        "description": "Properties of a dead letter: those it came with of `content_type`, `content_encoding`, \
            `correlation_id`, `message_id`, `type`, `app_id` and `timestamp`.",
        "required": ["delivery_mode", "headers"],
        "properties": {
            "content_type": short("As it came."),
            "content_encoding": short("As it came."),
            "correlation_id": short("As it came."),
            "message_id": short("As it came."),
            "type": short("As it came."),
            "app_id": short("As it came."),
            "timestamp": { "type": "integer", "minimum": 0, "description": "As it came." },
            "delivery_mode": { "const": PERSISTENT, "description": "The broker keeps it on disk." },
            "headers": {
                "type": "object",
                "description": "The headers it came with, but for `CC` and `BCC` and where they are larger than about \
                    32 KiB, and three more.",
                "required": LETTER_HEADERS,
                "properties": {
                    reason: { "type": "string", "maxLength": MAX_REASON_BYTES, "description": said },
                    exchange: { "type": "string", "description": "The exchange it came by." },
                    key: { "type": "string", "description": "The routing key it came by." },
                },
            },
        },
    })
}
