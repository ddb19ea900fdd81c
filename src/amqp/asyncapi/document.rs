//! The whole document.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::parts::{Fields, reference};
use super::{channels, messages, operations, properties};
use crate::amqp::settings::Settings;
use crate::events::{self, Described};

const ABOUT: &str = "\
The messages that the service exchanges with RabbitMQ.

Each event has a channel: its routing key on a topic exchange. The operations `publish…` send the events of the \
service, `take…` receive the events of other services, and `passOn…` send events that the service has accepted over \
HTTP. The other channels are the queues that the service declares: `x-bound-to` names the exchanges and keys of their \
bindings, `x-arguments` their arguments. The names of exchanges, queues and tiers are those of the settings.

Events are CloudEvents 1.0 in structured mode. Events of other services may also be in binary mode, or bare data whose \
routing key is the name of the event. The `headers` of a message are its AMQP 0-9-1 properties, one of which is the \
table of headers. The service ignores fields and properties that are not described here.

The service publishes an event under the same id until the broker confirms it, and the events of a task in their \
order. It accepts an event once: it remembers `source` and `id` for 72 hours by default. It acknowledges a message, of \
at most 1 MiB, when the effect is on disk, and sends rejected messages to the dead letters.";

/// Returns the document as indented JSON with a final newline.
#[must_use]
pub fn asyncapi_text(settings: &Settings) -> String {
    let mut text = serde_json::to_string_pretty(&document(settings)).unwrap_or_default();
    text.push('\n');
    text
}

/// Returns the document.
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
                "task": { "description": "The task of the event.", "location": "$message.header#/correlation_id" },
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
    let description = if encrypted {
        "With TLS (`events.rabbitmq.tls`). The certificate must name the host."
    } else {
        "Without TLS."
    };
    json!({
        "host": "{host}:{port}",
        "pathname": "/{vhost}",
        "protocol": if encrypted { "amqps" } else { "amqp" },
        "protocolVersion": "0-9-1",
        "description": description,
        "variables": {
            "host": { "default": settings.host, "description": "`events.rabbitmq.host`" },
            "port": { "default": port.to_string(), "description": "`events.rabbitmq.port`" },
            "vhost": { "default": vhost, "description": "`events.rabbitmq.vhost`, percent-encoded." },
        },
        "security": [reference("securitySchemes", "login")],
    })
}

/// Returns all schemas by name.
fn schemas(published: &[Described], accepted: &[Described]) -> Fields {
    let envelopes = events::envelopes().map(|(name, schema)| (name.to_owned(), schema));
    let of_messages = properties::all().map(|(name, schema)| (name.to_owned(), schema));
    let of_data = published.iter().chain(accepted).flat_map(|each| each.schemas.clone());
    envelopes.into_iter().chain(of_messages).chain(of_data).collect()
}

#[cfg(test)]
mod tests;
