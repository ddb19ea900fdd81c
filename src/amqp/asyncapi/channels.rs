//! Channels: the routing key of each event on its exchange, and the queues.

use serde_json::{Value, json};

use super::messages::{DEAD_LETTER, FORMS};
use super::parts::{BINDING_VERSION, Fields, reference};
use crate::amqp::settings::Settings;
use crate::amqp::topology::{DEAD_LETTER_EXCHANGE, EVERY_KEY, QUEUE_TYPE, bound_keys};
use crate::events::{Described, ready_key};
use crate::task::Tier;

/// The names of the queues in the document. Their names at the broker are settings.
pub(super) const QUEUE: &str = "queue";
pub(super) const WORK_QUEUE: &str = "work-queue";
pub(super) const DEAD_LETTERS: &str = "dead-letters";
const DEAD_LETTER_QUEUE: &str = "dead-letter-queue";

/// The placeholder of the tier in keys and names.
const TIER: &str = "{tier}";

/// The suffix of the channel of a verdict on the exchange of the QA service.
const QA_SUFFIX: &str = ".fromQa";

/// Returns the name of the channel of an event on an exchange.
fn channel_of(settings: &Settings, exchange: &str, key: &str) -> String {
    let is_second = exchange == settings.exchanges.qa && key.starts_with("task.");
    if is_second { format!("{key}{QA_SUFFIX}") } else { key.to_owned() }
}

/// Returns the channels of an event that the service consumes.
pub(super) fn of_event(name: &str) -> Vec<String> {
    let is_verdict = matches!(name, "task.validated" | "task.rejected");
    std::iter::once(name.to_owned()).chain(is_verdict.then(|| format!("{name}{QA_SUFFIX}"))).collect()
}

/// Returns all channels by name. The channel of an event has the name of the event.
pub(super) fn all(settings: &Settings, published: &[Described], accepted: &[Described]) -> Fields {
    let own = published.iter().map(|event| (event.name.to_owned(), own(settings, event)));
    let given =
        bound_keys(settings).into_iter().flat_map(|(exchange, keys)| keys.iter().map(move |key| (exchange, *key)));
    let given = given.map(|(exchange, key)| {
        let description = format!("The event `{key}`, which other services publish.");
        (channel_of(settings, exchange, key), routed(settings, exchange, key, &description, messages_of(key)))
    });
    let queues = [
        (QUEUE, queue_of_service(settings, accepted)),
        (WORK_QUEUE, work_queue(settings)),
        (DEAD_LETTERS, dead_letters(settings)),
        (DEAD_LETTER_QUEUE, dead_letter_queue(settings)),
    ];
    own.chain(given).chain(queues.map(|(name, channel)| (name.to_owned(), channel))).collect()
}

/// Returns the messages of a consumed event by name.
fn messages_of(name: &str) -> Fields {
    FORMS.map(|form| form.of(name)).into_iter().map(|name| of_components(&name)).collect()
}

fn of_components(message: &str) -> (String, Value) {
    (message.to_owned(), reference("messages", message))
}

fn own(settings: &Settings, event: &Described) -> Value {
    let exchange = settings.exchange_of(event.name);
    let messages = [of_components(event.name)].into_iter().collect();
    if event.name != "task.ready" {
        return routed(settings, exchange, event.name, "An event of this service.", messages);
    }
    let description = "Attempts that are ready for a worker, by the tier of the worker.";
    let mut channel = routed(settings, exchange, &ready_key(TIER), description, messages);
    channel["parameters"] = tier(settings);
    channel
}

fn tier(settings: &Settings) -> Value {
    let tiers: Vec<&str> = settings.tiers.iter().map(Tier::as_str).collect();
    json!({ "tier": { "description": "The tier of workers: one of `routing.tiers`.", "enum": tiers,
        "location": "$message.payload#/data/tier" } })
}

/// Returns the channel of a routing key on an exchange.
fn routed(settings: &Settings, exchange: &str, key: &str, description: &str, messages: Fields) -> Value {
    let exchange =
        json!({ "name": exchange, "type": "topic", "durable": true, "autoDelete": false, "vhost": settings.vhost });
    json!({
        "address": key,
        "description": description,
        "messages": Value::Object(messages),
        "bindings": { "amqp": { "is": "routingKey", "exchange": exchange, "bindingVersion": BINDING_VERSION } },
    })
}

/// A queue that this service declares.
struct Queue<'a> {
    name: &'a str,
    description: &'a str,
    bound_to: Vec<(&'a str, Vec<&'a str>)>,
    argument: Option<(&'static str, &'a str)>,
}

impl Queue<'_> {
    fn channel(self, settings: &Settings, messages: Fields) -> Value {
        let bound = self.bound_to.into_iter();
        let bound: Vec<Value> = bound.map(|(exchange, keys)| json!({ "exchange": exchange, "keys": keys })).collect();
        let arguments = [(QUEUE_TYPE, settings.queue_type.as_str())].into_iter().chain(self.argument);
        let arguments: Fields = arguments.map(|(name, value)| (name.to_owned(), value.into())).collect();
        let queue = json!({
            "name": self.name, "durable": true, "exclusive": false, "autoDelete": false, "vhost": settings.vhost,
        });
        json!({
            "address": self.name,
            "description": self.description,
            "messages": Value::Object(messages),
            "bindings": { "amqp": { "is": "queue", "queue": queue, "bindingVersion": BINDING_VERSION } },
            "x-bound-to": bound,
            "x-arguments": arguments,
        })
    }
}

fn queue_of_service(settings: &Settings, accepted: &[Described]) -> Value {
    let dead_letters = settings.dead_letter_name();
    let queue = Queue {
        name: &settings.queue,
        description: "The queue of this service, from which it consumes events.",
        bound_to: bound_keys(settings).into_iter().map(|(exchange, keys)| (exchange, keys.to_vec())).collect(),
        argument: Some((DEAD_LETTER_EXCHANGE, &dead_letters)),
    };
    queue.channel(settings, accepted.iter().flat_map(|event| messages_of(event.name)).collect())
}

fn work_queue(settings: &Settings) -> Value {
    let key = ready_key(TIER);
    let description = if settings.work_queues.declare {
        "The queue from which the workers of a tier consume tasks. A worker acknowledges the task that it has accepted."
    } else {
        "The queue from which the workers of a tier consume tasks. The workers declare the queue; this is the \
         declaration that the service would make."
    };
    let queue = Queue {
        name: &settings.work_queues.name,
        description,
        bound_to: vec![(&settings.exchanges.task, vec![&key])],
        argument: None,
    };
    let mut channel = queue.channel(settings, [of_components("task.ready")].into_iter().collect());
    channel["parameters"] = tier(settings);
    channel
}

fn dead_letters(settings: &Settings) -> Value {
    let description = "Rejected messages, by their original routing key.";
    let messages = [of_components(DEAD_LETTER)].into_iter().collect();
    let mut channel = routed(settings, &settings.dead_letter_name(), "{routing_key}", description, messages);
    channel["parameters"] = json!({ "routing_key": { "description": "The original routing key of the message.",
        "location": "$message.header#/headers/dats-routing-key" } });
    channel
}

fn dead_letter_queue(settings: &Settings) -> Value {
    let name = settings.dead_letter_name();
    let queue = Queue {
        name: &name,
        description: "Keeps rejected messages for inspection. Messages that the broker drops from the queue of this \
            service arrive here too, without the headers of this service.",
        bound_to: vec![(&name, vec![EVERY_KEY])],
        argument: None,
    };
    queue.channel(settings, [of_components(DEAD_LETTER)].into_iter().collect())
}
