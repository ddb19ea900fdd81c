//! What goes through the broker, as an `AsyncAPI` document: put together from
//! what is declared and bound (`topology`), the catalogue of events and the
//! types of their data, and the settings, whose names stand in it.

mod channels;
mod messages;
mod operations;
mod properties;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::settings::Settings;
use crate::events::{self, Described};

/// The version of the bindings of AMQP 0-9-1.
const BINDING: &str = "0.3.0";

const ABOUT: &str = "\
What the service publishes to RabbitMQ and what it takes from it.

Each event has a channel: its routing key on a topic exchange. `publish…` says what the service makes, `take…` what \
others publish for it, and `passOn…` that it publishes events, too, that came in over HTTP. Other channels are the \
queues that it declares; `x-bound-to` names the exchanges and keys that they are bound to, `x-arguments` what they \
are declared with. Names of exchanges and queues, and tiers, are those of the settings.

Events are CloudEvents 1.0 in structured mode. Those of others may as well come in binary mode, or as bare data whose \
name is the routing key. `headers` of a message are the properties that AMQP 0-9-1 has for it; its table of headers is \
one of them. What is not named here is tolerated and not looked at.

Published is until the broker confirms it, always under the same id, and the events of a task in their order. Taken \
is once: an event is known by its `source` and `id` for 72 hours, unless set otherwise. It is acknowledged after its \
effect is on disk, at most 1 MiB long. What can't be taken goes to the dead letters.";

/// A map with the keys in the order in which they were put in.
type Fields = Map<String, Value>;

/// The document as text for people and files, ending with a new line.
#[must_use]
pub fn asyncapi_text(settings: &Settings) -> String {
    let mut text = serde_json::to_string_pretty(&document(settings)).unwrap_or_default();
    text.push('\n');
    text
}

/// The document.
#[must_use]
pub fn document(settings: &Settings) -> Value {
    let (published, accepted) = (events::published(), events::accepted());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "DATS orchestration service",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "servers": {
            "plain": server(settings, false),
            "encrypted": server(settings, true),
        },
        "channels": channels::all(settings, &published, &accepted),
        "operations": operations::all(&published, &accepted),
        "components": {
            "messages": messages::all(&published, &accepted),
            "schemas": schemas(&published, &accepted),
            "correlationIds": {
                "task": { "description": "The task it is about.", "location": "$message.header#/correlation_id" },
            },
            "securitySchemes": {
                "login": { "type": "plain", "description": "`events.rabbitmq.username` and `password`." },
            },
        },
    })
}

fn server(settings: &Settings, encrypted: bool) -> Value {
    let usual = if encrypted { 5671 } else { 5672 };
    let port = if settings.tls == encrypted { settings.port } else { usual };
    let vhost = utf8_percent_encode(&settings.vhost, NON_ALPHANUMERIC).to_string();
    let said = if encrypted {
        "Encrypted (`events.rabbitmq.tls`): the certificate must name the host."
    } else {
        "Not encrypted."
    };
    json!({
        "host": "{host}:{port}",
        "pathname": "/{vhost}",
        "protocol": if encrypted { "amqps" } else { "amqp" },
        "protocolVersion": "0-9-1",
        "description": said,
        "variables": {
            "host": { "default": settings.host, "description": "`events.rabbitmq.host`" },
            "port": { "default": port.to_string(), "description": "`events.rabbitmq.port`" },
            "vhost": { "default": vhost, "description": "`events.rabbitmq.vhost`, percent-encoded." },
        },
        "security": [reference("securitySchemes", "login")],
    })
}

/// All schemas by name.
fn schemas(published: &[Described], accepted: &[Described]) -> Fields {
    let envelopes = events::envelopes().map(|(name, schema)| (name.to_owned(), schema));
    let of_messages = properties::all().map(|(name, schema)| (name.to_owned(), schema));
    let of_data = published.iter().chain(accepted).flat_map(|each| each.schemas.clone());
    envelopes.into_iter().chain(of_messages).chain(of_data).collect()
}

/// Refers to one of the components.
fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

#[cfg(test)]
mod tests;
