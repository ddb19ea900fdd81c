//! Messages. A published event has one form, a consumed event one of three.

use serde_json::{Value, json};

use super::parts::{BINDING_VERSION, Fields, reference};
use super::properties::{OF_BARE, OF_BINARY, OF_DEAD_LETTER, OF_OWN, OF_STRUCTURED};
use crate::amqp::incoming::PREFIXES;
use crate::amqp::outgoing::{DEAD_LETTER_HEADERS, PERSISTENT, STRUCTURED};
use crate::events::{Described, OWN_SOURCE};

/// The forms of consumed events.
pub(super) const FORMS: [Form; 3] = [Form::Structured, Form::Binary, Form::Bare];
/// The name of the message of a dead letter.
pub(super) const DEAD_LETTER: &str = "dead-letter";

const JSON: &str = "application/json";
const TIME: &str = "2026-01-09T18:00:00Z";
const SECONDS: u32 = 1_767_981_600;
const EVENT: &str = "b7d086a6-c531-58c7-86d5-09f6d2276f00";

#[derive(Clone, Copy)]
pub(super) enum Form {
    Structured,
    Binary,
    Bare,
}

impl Form {
    /// Returns the name of the message of an event in this form.
    pub(super) fn of(self, name: &str) -> String {
        match self {
            Self::Structured => name.to_owned(),
            Self::Binary => format!("{name}.binary"),
            Self::Bare => format!("{name}.bare"),
        }
    }
}

/// Returns all messages by name.
pub(super) fn all(published: &[Described], accepted: &[Described]) -> Fields {
    let own = published.iter().map(|event| (event.name.to_owned(), own(event)));
    let given = accepted.iter().enumerate().flat_map(|(index, event)| {
        let prefix = PREFIXES.into_iter().cycle().nth(index).unwrap_or_default();
        FORMS.map(|form| (form.of(event.name), given(event, form, prefix)))
    });
    own.chain(given).chain([(DEAD_LETTER.to_owned(), dead_letter())]).collect()
}

/// Returns the schema of an envelope with a type and data.
fn envelope(kind: &str, types: &Value, data: &str) -> Value {
    let own = json!({ "type": types, "data": reference("schemas", data) });
    json!({ "allOf": [reference("schemas", kind), { "type": "object", "properties": own }] })
}

fn own(event: &Described) -> Value {
    let kind = format!("dats.{}", event.name);
    let examples = event.examples.iter().map(|data| {
        let task = &data["task_id"];
        json!({
            "headers": {
                "content_type": STRUCTURED, "delivery_mode": PERSISTENT, "message_id": EVENT, "type": kind,
                "timestamp": SECONDS, "correlation_id": task,
            },
            "payload": {
                "specversion": "1.0", "id": EVENT, "source": OWN_SOURCE, "type": kind, "time": TIME, "subject": task,
                "datacontenttype": JSON, "data": data,
            },
        })
    });
    let examples = examples.collect::<Vec<_>>();
    json!({
        "name": event.name,
        "title": kind,
        "summary": event.summary,
        "contentType": STRUCTURED,
        "headers": reference("schemas", OF_OWN),
        "payload": envelope("OwnEvent", &json!({ "const": kind }), &event.data),
        "correlationId": reference("correlationIds", "task"),
        "bindings": { "amqp": { "messageType": kind, "bindingVersion": BINDING_VERSION } },
        "examples": examples,
    })
}

fn given(event: &Described, form: Form, prefix: &str) -> Value {
    let title = format!("dats.{}", event.name);
    let (suffix, content_type, headers) = match form {
        Form::Structured => ("", STRUCTURED, OF_STRUCTURED),
        Form::Binary => (", in binary mode", JSON, OF_BINARY),
        Form::Bare => (", as bare data", JSON, OF_BARE),
    };
    let payload = match form {
        Form::Structured => envelope("GivenEvent", &json!({ "enum": [title, event.name] }), &event.data),
        Form::Binary | Form::Bare => reference("schemas", &event.data),
    };
    let examples: Vec<Value> = event.examples.iter().map(|data| example(event, form, prefix, data)).collect();
    json!({
        "name": form.of(event.name),
        "title": title,
        "summary": format!("{}{suffix}", event.summary),
        "contentType": content_type,
        "headers": reference("schemas", headers),
        "payload": payload,
        "bindings": { "amqp": { "bindingVersion": BINDING_VERSION } },
        "examples": examples,
    })
}

fn example(event: &Described, form: Form, prefix: &str, data: &Value) -> Value {
    let area = event.name.split('.').next().unwrap_or_default();
    let source = match (area, event.name) {
        ("artifact" | "rollback", _) => "/cascade",
        ("review", _) | (_, "task.validated" | "task.rejected") => "/qa",
        _ => "/worker",
    };
    let (id, title) = (format!("{}-1", event.name), format!("dats.{}", event.name));
    match form {
        Form::Structured => json!({
            "headers": { "content_type": STRUCTURED, "delivery_mode": PERSISTENT, "message_id": id },
            "payload": {
                "specversion": "1.0", "id": id, "source": source, "type": title, "time": TIME,
                "datacontenttype": JSON, "data": data,
            },
        }),
        Form::Binary => {
            let attributes =
                [("specversion", "1.0"), ("id", &id), ("source", source), ("type", &title), ("time", TIME)];
            let headers = attributes.map(|(name, value)| (format!("{prefix}{name}"), Value::from(value)));
            let headers: Fields = headers.into_iter().collect();
            json!({ "headers": { "content_type": JSON, "headers": headers }, "payload": data })
        }
        Form::Bare => json!({
            "headers": { "content_type": JSON, "message_id": id, "app_id": source },
            "payload": data,
        }),
    }
}

fn dead_letter() -> Value {
    let [reason, exchange, key] = DEAD_LETTER_HEADERS;
    let headers = json!({ reason: "/data/error is required", exchange: "task.events", key: "task.failed" });
    json!({
        "name": DEAD_LETTER,
        "title": "A dead letter",
        "summary": "A rejected message, unchanged, with the reason",
        "headers": reference("schemas", OF_DEAD_LETTER),
        "payload": { "description": "The original body, in any form." },
        "bindings": { "amqp": { "bindingVersion": BINDING_VERSION } },
        "examples": [{ "headers": { "delivery_mode": PERSISTENT, "headers": headers }, "payload": {} }],
    })
}
