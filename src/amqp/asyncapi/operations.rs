//! Operations: the messages that this service sends and receives on each channel.

use serde_json::{Value, json};

use super::channels::{self, DEAD_LETTERS, QUEUE};
use super::messages::{DEAD_LETTER, FORMS, Form};
use super::parts::{BINDING_VERSION, Fields};
use crate::amqp::outgoing::{PERSISTENT, is_mandatory};
use crate::events::Described;

/// Returns all operations by id.
pub(super) fn all(published: &[Described], accepted: &[Described]) -> Fields {
    let publish = published.iter().map(|event| {
        let mut operation = sends(event.name, event.name, event.summary);
        if is_mandatory(event.name) {
            operation["bindings"]["amqp"]["mandatory"] = true.into();
            operation["description"] = "Mandatory: a message that no queue takes is published again.".into();
        }
        (id("publish", event.name), operation)
    });
    let take = accepted.iter().flat_map(|event| {
        let summary = format!("{}: the service acknowledges the message when the effect is on disk", event.summary);
        let by = move |channel: String| {
            (id("take", &channel), receives(&channel, FORMS.map(|form| form.of(event.name)), &summary))
        };
        channels::of_event(event.name).into_iter().map(by)
    });
    let pass_on = accepted.iter().map(|event| {
        let summary = format!("{}: the service accepted the event over HTTP", event.summary);
        (id("passOn", event.name), sends(event.name, &Form::Structured.of(event.name), &summary))
    });
    let names = accepted.iter().flat_map(|event| FORMS.map(|form| form.of(event.name)));
    let consume = receives(QUEUE, names, "Consumes all messages of the queue of this service");
    let dead_letter = sends(DEAD_LETTERS, DEAD_LETTER, "Publishes rejected messages before it acknowledges them");
    let both = [("consume".to_owned(), consume), ("bury".to_owned(), dead_letter)];
    publish.chain(take).chain(pass_on).chain(both).collect()
}

/// Returns an operation id such as `publishTaskCreated`.
fn id(verb: &str, name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    [verb.to_owned()].into_iter().chain(name.split('.').map(capital)).collect()
}

fn message(channel: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/channels/{channel}/messages/{name}") })
}

fn sends(channel: &str, name: &str, summary: &str) -> Value {
    let amqp = json!({
        "deliveryMode": PERSISTENT, "mandatory": false, "timestamp": channel != DEAD_LETTERS, "bindingVersion": BINDING_VERSION,
    });
    json!({
        "action": "send",
        "channel": { "$ref": format!("#/channels/{channel}") },
        "summary": summary,
        "bindings": { "amqp": amqp },
        "messages": [message(channel, name)],
    })
}

fn receives(channel: &str, names: impl IntoIterator<Item = String>, summary: &str) -> Value {
    let messages: Vec<Value> = names.into_iter().map(|name| message(channel, &name)).collect();
    json!({
        "action": "receive",
        "channel": { "$ref": format!("#/channels/{channel}") },
        "summary": summary,
        "bindings": { "amqp": { "ack": true, "bindingVersion": BINDING_VERSION } },
        "messages": messages,
    })
}
