//! The AMQP 0-9-1 properties of each kind of message.

use serde_json::{Value, json};

use crate::amqp::incoming::PREFIXES;
use crate::amqp::outgoing::{ACCEPTED_HEADER, DEAD_LETTER_HEADERS, MAX_REASON_BYTES, PERSISTENT, STRUCTURED};

/// The names of the schemas.
pub(super) const OF_OWN: &str = "OwnProperties";
pub(super) const OF_STRUCTURED: &str = "StructuredProperties";
pub(super) const OF_BINARY: &str = "BinaryProperties";
pub(super) const OF_BARE: &str = "BareProperties";
pub(super) const OF_DEAD_LETTER: &str = "LetterProperties";

/// Returns all schemas by name.
pub(super) fn all() -> [(&'static str, Value); 5] {
    [
        (OF_OWN, of_own()),
        (OF_STRUCTURED, of_structured()),
        (OF_BINARY, of_binary()),
        (OF_BARE, of_bare()),
        (OF_DEAD_LETTER, of_dead_letter()),
    ]
}

/// Returns the schema of a property of at most 255 bytes.
fn short(description: &str) -> Value {
    json!({ "type": "string", "maxLength": 255, "description": description })
}

fn of_own() -> Value {
    json!({
        "type": "object",
        "description": "The properties of a published event.",
        "required": ["content_type", "delivery_mode", "message_id", "type", "timestamp", "correlation_id"],
        "properties": {
            "content_type": { "const": STRUCTURED },
            "delivery_mode": { "const": PERSISTENT, "description": "Persistent." },
            "message_id": short("The `id` of the event."),
            "type": short("The `type` of the event."),
            "timestamp": { "type": "integer", "minimum": 0, "description": "The time of the event, in seconds since 1970." },
            "correlation_id": { "type": "string", "format": "uuid", "description": "The id of the task." },
        },
    })
}

fn of_structured() -> Value {
    json!({
        "type": "object",
        "description": "The properties of an event in structured mode. None is required, because the envelope has all \
            attributes. Events that the service accepted over HTTP and publishes have the properties of its own \
            events; `message_id` and `type` if they have at most 255 bytes, and `correlation_id` if they are about a \
            task.",
        "properties": {
            "content_type": short(&format!("`{STRUCTURED}`.")),
            "delivery_mode": { "enum": [1, 2] },
            "message_id": short("The `id` of the event."),
            "type": short("The `type` of the event."),
            "timestamp": { "type": "integer", "minimum": 0, "description": "The time of the event, in seconds since 1970." },
            "correlation_id": short("The id of the task."),
            "headers": {
                "type": "object",
                "properties": {
                    ACCEPTED_HEADER: {
                        "type": "string",
                        "description": "Marks an event that the service accepted over HTTP: the id of the store, and \
                            a hash of `source` and `id`. The service ignores the message when it arrives at its own \
                            queue.",
                    },
                },
            },
        },
    })
}

/// Returns the schema of the headers with attributes, for one prefix.
fn attributes(prefix: &str) -> Value {
    let name = |attribute: &str| format!("{prefix}{attribute}");
    let required = ["specversion", "source", "id"].map(name);
    json!({
        "required": required,
        "properties": {
            name("specversion"): { "const": "1.0" },
            name("source"): { "type": "string", "minLength": 1, "description": "The sender of the event." },
            name("id"): { "type": ["string", "integer"], "minLength": 1, "description": "Unique within its source." },
            name("type"): { "type": "string", "description": "The type of the event. Default: the routing key." },
            name("time"): { "type": "string", "format": "date-time", "description": "The time of the event." },
            name("traceparent"): { "type": "string", "description": "The W3C trace context." },
        },
    })
}

fn of_binary() -> Value {
    json!({
        "type": "object",
        "description": "The properties of an event in binary mode. Headers with a prefix hold the attributes.",
        "required": ["headers"],
        "properties": {
            "content_type": short("The media type of the data, which is JSON."),
            "headers": { "type": "object", "anyOf": PREFIXES.map(attributes) },
        },
    })
}

fn of_bare() -> Value {
    let none = PREFIXES.map(|prefix| json!({ "required": [format!("{prefix}specversion")] }));
    json!({
        "type": "object",
        "description": "The properties of bare data. The routing key is the name of the event.",
        "properties": {
            "content_type": { "type": "string", "maxLength": 255, "not": { "pattern": "^application/cloudevents" },
                "description": "`application/json`." },
            "message_id": short("The id of the event. Without an id, a repeated message counts as another event."),
            "app_id": short("The sender of the event. Default: the exchange."),
            "headers": { "type": "object", "not": { "anyOf": none } },
        },
    })
}

fn of_dead_letter() -> Value {
    let [reason, exchange, key] = DEAD_LETTER_HEADERS;
    let description = format!("The reason of the rejection: its first {MAX_REASON_BYTES} bytes.");
    json!({
        "type": "object",
        "description": "The properties of a dead letter. `content_type`, `content_encoding`, `correlation_id`, \
            `message_id`, `type`, `app_id` and `timestamp` are those of the rejected message.",
        "required": ["delivery_mode", "headers"],
        "properties": {
            "content_type": short("As in the rejected message."),
            "content_encoding": short("As in the rejected message."),
            "correlation_id": short("As in the rejected message."),
            "message_id": short("As in the rejected message."),
            "type": short("As in the rejected message."),
            "app_id": short("As in the rejected message."),
            "timestamp": { "type": "integer", "minimum": 0, "description": "As in the rejected message." },
            "delivery_mode": { "const": PERSISTENT, "description": "Persistent." },
            "headers": {
                "type": "object",
                "description": "The headers of the rejected message without `CC` and `BCC`, unless they exceed about \
                    32 KiB, and three more.",
                "required": DEAD_LETTER_HEADERS,
                "properties": {
                    reason: { "type": "string", "maxLength": MAX_REASON_BYTES, "description": description },
                    exchange: { "type": "string", "description": "The exchange of the rejected message." },
                    key: { "type": "string", "description": "The routing key of the rejected message." },
                },
            },
        },
    })
}
