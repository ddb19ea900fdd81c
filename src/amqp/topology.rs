//! Declares exchanges, queues and bindings at the broker. A declaration of an
//! existing object changes nothing; an existing object with other arguments is an
//! error of the settings.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ErrorKind, ExchangeKind, Queue};

use super::connection::{Error, Link, name, step, table};
use super::settings::Settings;
use crate::events::ready_key;
use crate::task::Tier;

/// The argument of queues for their type.
pub(super) const QUEUE_TYPE: &str = "x-queue-type";
/// The argument of queues for the exchange of messages that the broker drops.
pub(super) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
/// The binding key that matches every routing key.
pub(super) const EVERY_KEY: &str = "#";
/// The time limit for the inspection of a queue.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// The events that this service consumes from each exchange.
const TASK_EVENTS: [&str; 5] =
    ["task.started", "task.output.created", "task.validated", "task.rejected", "task.failed"];
const CASCADE_EVENTS: [&str; 3] = ["rollback.requested", "artifact.tainted", "artifact.suspect"];
/// With the verdicts, because some QA services publish to their own exchange only.
const QA_EVENTS: [&str; 4] = ["review.requested", "review.completed", "task.validated", "task.rejected"];

/// Declares the objects for publishing, and those for consuming: a worker may answer before the
/// consumer is connected, and the broker drops messages for which no queue is bound. Returns the
/// tiers whose work queues were missing; messages that were in such a queue are lost.
pub(super) async fn declare_for_publishing(link: &Link, settings: &Settings) -> Result<Vec<Tier>, Error> {
    match declare_for_consuming(link, settings).await {
        // A queue with other arguments still accepts answers. The consumer reports the refusal.
        Ok(()) | Err(Error::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    let mut missing = Vec::new();
    let mut channel = link.channel().await?;
    declare_exchanges(&channel, settings).await?;
    if settings.work_queues.declare {
        for tier in &settings.tiers {
            let queue = settings.work_queues.queue_name(tier);
            if inspect_queue(&channel, &queue).await?.is_none() {
                missing.push(tier.clone());
            }
            if !channel.status().connected() {
                channel = link.channel().await?;
            }
            declare_queue(&channel, settings, &queue, &[]).await?;
            bind(&channel, &queue, &settings.exchanges.task, &ready_key(tier.as_str())).await?;
        }
    }
    let _ = channel.close(200, "done".into()).await;
    Ok(missing)
}

/// Reads the message and consumer counts of a queue. Returns `None` if the queue does not exist; the
/// broker has closed the channel then.
pub(super) async fn inspect_queue(channel: &Channel, queue: &str) -> Result<Option<Queue>, Error> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let asking = channel.queue_declare(name(queue)?, options, FieldTable::default());
    match tokio::time::timeout(LOOKUP_TIMEOUT, asking).await {
        Ok(Ok(queue)) => Ok(Some(queue)),
        Ok(Err(error)) if is_missing(&error) => Ok(None),
        Ok(Err(error)) => Err(Error::from(error).at(&format!("inspect the queue {queue}"))),
        Err(_) => Err(Error::Away(format!(
            "the broker did not answer the inspection of the queue {queue} within {} s",
            LOOKUP_TIMEOUT.as_secs()
        ))),
    }
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404)
}

/// Declares the objects for consuming.
pub(super) async fn declare_for_consuming(link: &Link, settings: &Settings) -> Result<(), Error> {
    let channel = link.channel().await?;
    declare_exchanges(&channel, settings).await?;
    let dead_letters = settings.dead_letter_name();
    // The broker moves messages here that it gives up on, such as expired ones.
    declare_queue(&channel, settings, &settings.queue, &[(DEAD_LETTER_EXCHANGE, &dead_letters)]).await?;
    for (exchange, keys) in bound_keys(settings) {
        for key in keys {
            bind(&channel, &settings.queue, exchange, key).await?;
        }
    }
    let _ = channel.close(200, "done".into()).await;
    Ok(())
}

/// Returns the keys of each exchange to which the queue of this service is bound.
pub(super) fn bound_keys(settings: &Settings) -> [(&str, &'static [&'static str]); 3] {
    let exchanges = &settings.exchanges;
    [(&exchanges.task, &TASK_EVENTS), (&exchanges.cascade, &CASCADE_EVENTS), (&exchanges.qa, &QA_EVENTS)]
}

/// Declares the exchanges, and the queue of dead letters.
async fn declare_exchanges(channel: &Channel, settings: &Settings) -> Result<(), Error> {
    let dead_letters = settings.dead_letter_name();
    let exchanges = &settings.exchanges;
    for exchange in [&exchanges.task, &exchanges.cascade, &exchanges.qa, &dead_letters] {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declaring = channel.exchange_declare(name(exchange)?, ExchangeKind::Topic, options, FieldTable::default());
        step(&format!("declare the exchange {exchange}"), declaring).await?;
    }
    declare_queue(channel, settings, &dead_letters, &[]).await?;
    bind(channel, &dead_letters, &dead_letters, EVERY_KEY).await
}

async fn declare_queue(
    channel: &Channel,
    settings: &Settings,
    queue: &str,
    more: &[(&'static str, &str)],
) -> Result<(), Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let arguments = table([(QUEUE_TYPE, settings.queue_type.as_str())].into_iter().chain(more.iter().copied()));
    let declaring = channel.queue_declare(name(queue)?, options, arguments);
    step(&format!("declare the queue {queue}"), declaring).await.map(|_| ())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
    let options = QueueBindOptions::default();
    let binding = channel.queue_bind(name(queue)?, name(exchange)?, name(key)?, options, FieldTable::default());
    step(&format!("bind {queue} to {key} of {exchange}"), binding).await
}
