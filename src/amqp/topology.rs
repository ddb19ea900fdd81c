//! What is declared at the broker. To declare what is there already changes
//! nothing; what is there in another form is an error of the settings.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ErrorKind, ExchangeKind, Queue};

use super::connection::{Error, Link, name, step, table};
use super::settings::Settings;
use crate::events::ready_key;
use crate::task::Tier;

/// The arguments of queues.
pub(super) const QUEUE_TYPE: &str = "x-queue-type";
pub(super) const DEAD_LETTERS_GO_TO: &str = "x-dead-letter-exchange";
/// The key that a queue is bound to which takes all.
pub(super) const EVERY_KEY: &str = "#";
/// Longest time for one look at a queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of events, exchange by exchange.
const OF_TASKS: [&str; 5] = ["task.started", "task.output.created", "task.validated", "task.rejected", "task.failed"];
const OF_CASCADE: [&str; 3] = ["rollback.requested", "artifact.tainted", "artifact.suspect"];
/// Verdicts too: some QA services keep to their own exchange.
const OF_QA: [&str; 4] = ["review.requested", "review.completed", "task.validated", "task.rejected"];

/// Declares what publishing needs: also where answers arrive, since who is given
/// a task may answer before the side that consumes is connected, and the broker
/// drops what no queue is bound for. Whose work queues were not there: what was in
/// them is lost, if they ever were.
pub(super) async fn declare_for_publishing(link: &Link, settings: &Settings) -> Result<Vec<Tier>, Error> {
    match declare_for_consuming(link, settings).await {
        // A queue of ours that is there in another form takes answers all the
        // same. The side that consumes tells of it.
        Ok(()) | Err(Error::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    let mut missing = Vec::new();
    let mut channel = link.channel().await?;
    exchanges(&channel, settings).await?;
    if settings.work_queues.declare {
        for tier in &settings.tiers {
            let queue = settings.work_queues.of(tier);
            if look(&channel, &queue).await?.is_none() {
                missing.push(tier.clone());
            }
            if !channel.status().connected() {
                channel = link.channel().await?;
            }
            self::queue(&channel, settings, &queue, &[]).await?;
            bind(&channel, &queue, &settings.exchanges.task, &ready_key(tier.as_str())).await?;
        }
    }
    let _ = channel.close(200, "done".into()).await;
    Ok(missing)
}

/// A queue as it is; `None`: there is none of this name, and the channel has
/// gone with the question.
pub(super) async fn look(channel: &Channel, queue: &str) -> Result<Option<Queue>, Error> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let asking = channel.queue_declare(name(queue)?, options, FieldTable::default());
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(queue)) => Ok(Some(queue)),
        Ok(Err(error)) if is_missing(&error) => Ok(None),
        Ok(Err(error)) => Err(Error::from(error).at(&format!("look at the queue {queue}"))),
        Err(_) => Err(Error::Away(format!("the broker does not tell of the queue {queue}"))),
    }
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404)
}

/// Declares what consuming needs.
pub(super) async fn declare_for_consuming(link: &Link, settings: &Settings) -> Result<(), Error> {
    let channel = link.channel().await?;
    exchanges(&channel, settings).await?;
    let dead_letters = settings.dead_letters();
    // What the broker itself gives up on must not be lost, either.
    queue(&channel, settings, &settings.queue, &[(DEAD_LETTERS_GO_TO, &dead_letters)]).await?;
    for (exchange, keys) in heard(settings) {
        for key in keys {
            bind(&channel, &settings.queue, exchange, key).await?;
        }
    }
    let _ = channel.close(200, "done".into()).await;
    Ok(())
}

/// What this service hears of: the keys that its queue is bound to.
pub(super) fn heard(settings: &Settings) -> [(&str, &'static [&'static str]); 3] {
    let exchanges = &settings.exchanges;
    [(&exchanges.task, &OF_TASKS), (&exchanges.cascade, &OF_CASCADE), (&exchanges.qa, &OF_QA)]
}

async fn exchanges(channel: &Channel, settings: &Settings) -> Result<(), Error> {
    let dead_letters = settings.dead_letters();
    let exchanges = &settings.exchanges;
    for exchange in [&exchanges.task, &exchanges.cascade, &exchanges.qa, &dead_letters] {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declaring = channel.exchange_declare(name(exchange)?, ExchangeKind::Topic, options, FieldTable::default());
        step(&format!("declare the exchange {exchange}"), declaring).await?;
    }
    queue(channel, settings, &dead_letters, &[]).await?;
    bind(channel, &dead_letters, &dead_letters, EVERY_KEY).await
}

async fn queue(
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
