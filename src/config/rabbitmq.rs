//! Reads the section of the broker.

use crate::amqp::{Credentials, Exchanges, QueueType, RequireConsumer, Settings, WorkQueues};
use crate::task::Tier;

use super::reader::Reader;
use super::tree::Value;

/// Longest name of an exchange or a queue. With the suffixes that the service adds, it fits
/// into the 255 bytes of the protocol.
const MAX_NAME_BYTES: usize = 200;
/// Longest `unobserved_wait_seconds`: a year.
const MAX_UNOBSERVED_SECONDS: u64 = 366 * 86_400;
const NAME: &str = "a name of 1 to 200 printable characters without blanks";
const WORK_QUEUE: &str = "a name of 1 to 200 printable characters with {tier} in it";

/// Reads the section; `None` if the bus is embedded. Invalid values are refused even then.
pub(super) fn read(reader: &mut Reader<'_>, tiers: &[Tier]) -> Option<Settings> {
    let is_wanted = is_wanted(reader);
    let host = optional_name(reader, "events.rabbitmq.host");
    let port = reader.narrow("events.rabbitmq.port", 1..=65_535);
    let username = reader.text("events.rabbitmq.username");
    let password = reader.secret("events.rabbitmq.password");
    let vhost = reader.text("events.rabbitmq.vhost");
    let tls = reader.flag("events.rabbitmq.tls");
    let ca_file = reader.ca_file("events.rabbitmq.ca_file", tls, "events.rabbitmq.tls is false");
    let exchanges = exchanges(reader);
    let queue = reader.list("events.rabbitmq.queues", NAME, name).into_iter().next();
    let declare = reader.flag("events.rabbitmq.work_queues.declare");
    let work_queue = reader.parsed("events.rabbitmq.work_queues.name", WORK_QUEUE, |text| {
        name(text).filter(|text| text.contains("{tier}"))
    });
    let rules =
        [("auto", RequireConsumer::Auto), ("always", RequireConsumer::Always), ("never", RequireConsumer::Never)];
    let require_consumer = reader.word("events.rabbitmq.work_queues.require_consumer", &rules);
    let types = [("quorum", QueueType::Quorum), ("classic", QueueType::Classic)];
    let queue_type = reader.word("events.rabbitmq.queue_type", &types);
    let prefetch = reader.narrow("events.rabbitmq.prefetch", 1..=65_535);
    let window = reader.count("events.rabbitmq.window", 1..=65_535);
    let confirm_timeout = reader.seconds("events.rabbitmq.confirm_timeout_seconds", 1..=3600);
    let unobserved_wait = reader.seconds("events.rabbitmq.unobserved_wait_seconds", 1..=MAX_UNOBSERVED_SECONDS);
    if !is_wanted {
        return None;
    }
    Some(Settings {
        host: host?,
        port,
        credentials: Credentials {
            password: password.map_or_else(|| "guest".to_owned(), |password| password.expose().to_owned()),
            username,
        },
        vhost,
        tls,
        ca_file,
        exchanges: exchanges?,
        queue: queue?,
        work_queues: WorkQueues { declare, name: work_queue?, require_consumer: require_consumer? },
        queue_type: queue_type?,
        prefetch,
        window,
        confirm_timeout,
        unobserved_wait,
        tiers: tiers.to_vec(),
    })
}

/// Returns whether the settings select the broker, by name or by its host.
fn is_wanted(reader: &mut Reader<'_>) -> bool {
    let path = "events.bus";
    let node = reader.node(path);
    let has_host = reader.node("events.rabbitmq.host").value != Value::Null;
    match &node.value {
        Value::Null => has_host,
        Value::Text(bus) if bus == "embedded" => false,
        Value::Text(bus) if bus == "rabbitmq" && has_host => true,
        Value::Text(bus) if bus == "rabbitmq" => {
            reader.refuse(path, node, "embedded or null as long as events.rabbitmq.host is not set");
            false
        }
        _ => {
            reader.refuse(path, node, "embedded, rabbitmq or null");
            false
        }
    }
}

fn exchanges(reader: &mut Reader<'_>) -> Option<Exchanges> {
    let path = "events.rabbitmq.exchanges";
    let mut names = reader.list(path, NAME, name).into_iter();
    match (names.next(), names.next(), names.next(), names.next()) {
        (Some(task), Some(cascade), Some(qa), None) => Some(Exchanges { task, cascade, qa }),
        // An empty list is refused already.
        (None, ..) => None,
        _ => {
            let node = reader.node(path);
            reader.refuse(path, node, "three names: for task events, cascade events and QA events");
            None
        }
    }
}

fn optional_name(reader: &mut Reader<'_>, path: &str) -> Option<String> {
    match reader.node(path).value {
        Value::Null => None,
        _ => reader.parsed(path, "the name or address of a machine, without a port", name),
    }
}

fn name(text: &str) -> Option<String> {
    let has_length = !text.is_empty() && text.len() <= MAX_NAME_BYTES;
    (has_length && text.chars().all(|each| !each.is_whitespace() && !each.is_control())).then(|| text.to_owned())
}
