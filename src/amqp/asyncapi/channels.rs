//! Channels: the routing key of each event on its exchange, and the queues.

use serde_json::{Value, json};

use super::messages::{FORMS, LETTER};
use super::{BINDING, Fields, reference};
use crate::amqp::settings::Settings;
use crate::amqp::topology::{DEAD_LETTERS_GO_TO, EVERY_KEY, QUEUE_TYPE, heard};
use crate::events::{Described, ready_key};
use crate::task::Tier;

/// What the queues are called here, whatever their names.
pub(super) const QUEUE: &str = "queue";
pub(super) const WORK_QUEUE: &str = "work-queue";
pub(super) const LETTERS: &str = "dead-letters";
const LETTER_QUEUE: &str = "dead-letter-queue";

/// The place of a tier in keys and names.
const TIER: &str = "{tier}";

/// What the channel of a verdict on the exchange of the QA service has behind
/// the name of the event.
const FROM_QA: &str = ".fromQa";

/// The name of the channel of an event on an exchange.
fn channel_of(settings: &Settings, exchange: &str, key: &str) -> String {
    let is_second = exchange == settings.exchanges.qa && key.starts_with("task.");
    if is_second { format!("{key}{FROM_QA}") } else { key.to_owned() }
}

/// The channels by which an event comes.
pub(super) fn of_event(name: &str) -> Vec<String> {
    let is_verdict = matches!(name, "task.validated" | "task.rejected");
    std::iter::once(name.to_owned()).chain(is_verdict.then(|| format!("{name}{FROM_QA}"))).collect()
}

/// All channels by name. That of an event is called like it.
pub(super) fn all(settings: &Settings, published: &[Described], accepted: &[Described]) -> Fields {
    let own = published.iter().map(|event| (event.name.to_owned(), own(settings, event)));
    let given = heard(settings).into_iter().flat_map(|(exchange, keys)| keys.iter().map(move |key| (exchange, *key)));
    let given = given.map(|(exchange, key)| {
        let said = format!("Events that others publish: {key}.");
        (channel_of(settings, exchange, key), routed(settings, exchange, key, &said, messages_of(key)))
    });
    let queues = [
        (QUEUE, queue_of_service(settings, accepted)),
        (WORK_QUEUE, work_queue(settings)),
        (LETTERS, letters(settings)),
        (LETTER_QUEUE, letter_queue(settings)),
    ];
    own.chain(given).chain(queues.map(|(name, channel)| (name.to_owned(), channel))).collect()
}

/// The messages of an event that is taken, by name.
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
        return routed(settings, exchange, event.name, "Events of this service.", messages);
    }
    let said = "Work, by the tier of workers that it is for.";
    let mut channel = routed(settings, exchange, &ready_key(TIER), said, messages);
    channel["parameters"] = tier(settings);
    channel
}

fn tier(settings: &Settings) -> Value {
    let tiers: Vec<&str> = settings.tiers.iter().map(Tier::as_str).collect();
    json!({ "tier": { "description": "The tier: one of `routing.tiers`.", "enum": tiers,
        "location": "$message.payload#/data/tier" } })
}

/// A routing key of an exchange.
fn routed(settings: &Settings, exchange: &str, key: &str, said: &str, messages: Fields) -> Value {
    let exchange =
        json!({ "name": exchange, "type": "topic", "durable": true, "autoDelete": false, "vhost": settings.vhost });
    json!({
        "address": key,
        "description": said,
        "messages": Value::Object(messages),
        "bindings": { "amqp": { "is": "routingKey", "exchange": exchange, "bindingVersion": BINDING } },
    })
}

/// A queue that this service declares.
struct Queue<'a> {
    name: &'a str,
    said: &'a str,
    bound_to: Vec<(&'a str, Vec<&'a str>)>,
    more: Option<(&'static str, &'a str)>,
}

impl Queue<'_> {
    fn channel(self, settings: &Settings, messages: Fields) -> Value {
        let bound = self.bound_to.into_iter();
        let bound: Vec<Value> = bound.map(|(exchange, keys)| json!({ "exchange": exchange, "keys": keys })).collect();
        let arguments = [(QUEUE_TYPE, settings.queue_type.as_str())].into_iter().chain(self.more);
        let arguments: Fields = arguments.map(|(name, value)| (name.to_owned(), value.into())).collect();
        let queue = json!({
            "name": self.name, "durable": true, "exclusive": false, "autoDelete": false, "vhost": settings.vhost,
        });
        json!({
            "address": self.name,
            "description": self.said,
            "messages": Value::Object(messages),
            "bindings": { "amqp": { "is": "queue", "queue": queue, "bindingVersion": BINDING } },
            "x-bound-to": bound,
            "x-arguments": arguments,
        })
    }
}

fn queue_of_service(settings: &Settings, accepted: &[Described]) -> Value {
    let dead_letters = settings.dead_letters();
    let queue = Queue {
        name: &settings.queue,
        said: "The queue of this service: what it takes comes by it.",
        bound_to: heard(settings).into_iter().map(|(exchange, keys)| (exchange, keys.to_vec())).collect(),
        more: Some((DEAD_LETTERS_GO_TO, &dead_letters)),
    };
    queue.channel(settings, accepted.iter().flat_map(|event| messages_of(event.name)).collect())
}

fn work_queue(settings: &Settings) -> Value {
    let key = ready_key(TIER);
    let said = if settings.work_queues.declare {
        "The queue that workers of a tier take tasks from, each acknowledged by who has taken it."
    } else {
        "The queue that workers of a tier take tasks from. The workers declare it, as they like; here is what this \
         service would do."
    };
    let queue = Queue {
        name: &settings.work_queues.name,
        said,
        bound_to: vec![(&settings.exchanges.task, vec![&key])],
        more: None,
    };
    let mut channel = queue.channel(settings, [of_components("task.ready")].into_iter().collect());
    channel["parameters"] = tier(settings);
    channel
}

fn letters(settings: &Settings) -> Value {
    let said = "What can't be taken, by the key that it came by.";
    let messages = [of_components(LETTER)].into_iter().collect();
    let mut channel = routed(settings, &settings.dead_letters(), "{routing_key}", said, messages);
    channel["parameters"] = json!({ "routing_key": { "description": "The key that the message came by.",
        "location": "$message.header#/headers/dats-routing-key" } });
    channel
}

fn letter_queue(settings: &Settings) -> Value {
    let name = settings.dead_letters();
    let queue = Queue {
        name: &name,
        said: "Keeps what can't be taken for people to look at. What the broker itself gives up on of the queue of \
            this service comes here, too, without the headers of this service.",
        bound_to: vec![(&name, vec![EVERY_KEY])],
        more: None,
    };
    queue.channel(settings, [of_components(LETTER)].into_iter().collect())
}
