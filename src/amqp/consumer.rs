//! The side that consumes: what comes in is taken in groups, one commit each,
//! and acknowledged on the channel that it came by once its effect is on disk.
//! What can't be taken becomes a dead letter here and at the broker, and is
//! acknowledged then.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Consumer as Subscription};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, LinkState, Side};
use super::connection::{Error, Link, name, step, unless_stopped};
use super::incoming::{self, Untaken};
use super::publisher::Posted;
use super::settings::Settings;
use super::{depths, topology};
use crate::clock::Clock;
use crate::engine::{self, Engine, Incoming};
use crate::store::DeadLetter;
use crate::telemetry::{Span, Tracer};

/// Most messages in one group, and most bytes, after which it ends.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 2 * 1024 * 1024;
/// Pause before the engine is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// The side that consumes.
pub(super) struct Consumer {
    pub(super) engine: Engine,
    pub(super) settings: Arc<Settings>,
    pub(super) broker: Arc<Broker>,
    pub(super) clock: Clock,
    pub(super) letters: mpsc::Sender<Posted>,
    /// Makes a span of each event, where they go to a collector.
    pub(super) tracer: Option<Tracer>,
    pub(super) stop: CancellationToken,
}

/// What has been read of a group.
#[derive(Default)]
struct Group {
    taken: Vec<(Delivery, Incoming, Option<Span>)>,
    untaken: Vec<(Delivery, Untaken)>,
}

impl Consumer {
    /// Consumes over one connection until it fails or until the stop.
    pub(super) async fn serve(&self) -> Result<(), Error> {
        let link = unless_stopped(&self.stop, Link::open(&self.settings, "consuming")).await?;
        let result = tokio::select! {
            result = self.serve_over(&link) => result,
            result = depths::watch(&link, &self.engine, &self.settings, &self.broker, &self.clock) => result,
        };
        link.close().await;
        result
    }

    async fn serve_over(&self, link: &Link) -> Result<(), Error> {
        loop {
            unless_stopped(&self.stop, topology::declare_for_consuming(link, &self.settings)).await?;
            let channel = link.channel().await?;
            let qos = channel.basic_qos(self.settings.prefetch, BasicQosOptions::default());
            step("limit what is delivered at once", qos).await?;
            let queue = name(&self.settings.queue)?;
            let options = BasicConsumeOptions::default();
            let consuming = channel.basic_consume(queue, "dats-orchestration".into(), options, FieldTable::default());
            let subscription = step(&format!("consume {}", self.settings.queue), consuming).await?;
            self.broker.note_state(Side::Consumer, LinkState::Connected);
            self.take_all(subscription).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            // The broker has ended the subscription and nothing else: the
            // queue was deleted, or has moved.
            tracing::warn!(queue = self.settings.queue, "the subscription ended; declaring and subscribing again");
            self.broker.note_state(Side::Consumer, LinkState::Away);
            sleep(PAUSE).await;
        }
    }

    /// Takes what comes until the subscription ends.
    async fn take_all(&self, mut subscription: Subscription) -> Result<(), Error> {
        let mut unconfirmed = JoinSet::new();
        loop {
            let first = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                Some(_) = unconfirmed.join_next() => continue,
                delivery = subscription.next() => delivery,
            };
            let Some(first) = first else { return Ok(()) };
            let mut deliveries = vec![first?];
            let mut bytes = 0;
            while deliveries.len() < GROUP && bytes < GROUP_BYTES {
                let Some(next) = at_once(&mut subscription).await else { break };
                let next = next?;
                bytes += next.data.len();
                deliveries.push(next);
            }
            self.take(deliveries, &mut unconfirmed).await?;
        }
    }

    async fn take(&self, deliveries: Vec<Delivery>, unconfirmed: &mut JoinSet<()>) -> Result<(), Error> {
        let mut group = Group::default();
        for delivery in deliveries {
            match incoming::read(&delivery) {
                Ok((event, trace)) => {
                    let span = self.tracer.as_ref().map(|tracer| tracer.event(&self.settings.queue, trace.as_deref()));
                    group.taken.push((delivery, event, span));
                }
                Err(untaken) => group.untaken.push((delivery, untaken)),
            }
        }
        let mut acknowledged = Vec::new();
        if !group.taken.is_empty() {
            let events = group.taken.iter().map(|(_, event, _)| event.clone()).collect();
            let outcomes = self.persistently(|| self.engine.accept(Vec::clone(&events))).await?;
            for ((delivery, event, span), outcome) in group.taken.into_iter().zip(outcomes) {
                match outcome {
                    Ok(_) => acknowledged.push(delivery.acker),
                    Err(refusal) => {
                        if let Some(span) = span {
                            span.failed("refused");
                        }
                        let task = incoming::task_of(&event);
                        group.untaken.push((delivery, Untaken { reason: refusal.to_string(), raw: event.raw, task }));
                    }
                }
            }
        }
        let consumed = u64::try_from(acknowledged.len()).unwrap_or(u64::MAX);
        let untaken = u64::try_from(group.untaken.len()).unwrap_or(u64::MAX);
        self.bury(group.untaken, unconfirmed).await?;
        match acknowledged.last() {
            // One word for all, when nothing before them waits for anything.
            Some(last) if untaken == 0 && unconfirmed.is_empty() => acknowledge(last, true).await?,
            Some(_) | None => {
                for acker in &acknowledged {
                    acknowledge(acker, false).await?;
                }
            }
        }
        self.broker.count(|figures| {
            figures.consumed += consumed;
            figures.dead_lettered += untaken;
        });
        Ok(())
    }

    /// Keeps what can't be taken, and acknowledges each once the broker has
    /// it as a dead letter.
    async fn bury(&self, untaken: Vec<(Delivery, Untaken)>, unconfirmed: &mut JoinSet<()>) -> Result<(), Error> {
        if untaken.is_empty() {
            return Ok(());
        }
        let at = self.clock.now();
        let letters = untaken.iter().map(|(_, untaken)| DeadLetter {
            at,
            task: untaken.task,
            reason: untaken.reason.clone(),
            raw: untaken.raw.clone(),
        });
        let letters: Vec<DeadLetter> = letters.collect();
        self.persistently(|| self.engine.bury(letters.clone())).await?;
        for (delivery, untaken) in untaken {
            tracing::warn!(routing_key = %delivery.routing_key, reason = untaken.reason, "a message can't be taken");
            let acker = delivery.acker.clone();
            let letter = incoming::letter(delivery, untaken.reason);
            let (confirmed, confirmation) = oneshot::channel();
            let posting = self.letters.clone();
            unconfirmed.spawn(async move {
                let posted = posting.send(Posted { letter, confirmed }).await.is_ok();
                if posted && confirmation.await.is_ok() {
                    // When the channel has gone it is delivered again.
                    let _ = acknowledge(&acker, false).await;
                }
            });
        }
        Ok(())
    }

    /// Asks the engine until it can take more; an error only when it stops.
    async fn persistently<T, F: Future<Output = Result<T, engine::Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, Error> {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(engine::Error::ShuttingDown | engine::Error::Unknown) => return Err(Error::Stopping),
                Err(error) => tracing::debug!(%error, "the engine takes no events at the moment"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(Error::Stopping),
                () = sleep(PAUSE) => {}
            }
        }
    }
}

async fn acknowledge(acker: &Acker, all_before: bool) -> Result<(), Error> {
    let acknowledging = acker.ack(BasicAckOptions { multiple: all_before });
    if step("acknowledge", acknowledging).await? {
        Ok(())
    } else {
        Err(Error::Away("the channel of a message has gone".to_owned()))
    }
}

/// What is there already.
async fn at_once(subscription: &mut Subscription) -> Option<lapin::Result<Delivery>> {
    std::future::poll_fn(|context| {
        let next = tokio_stream::Stream::poll_next(Pin::new(&mut *subscription), context);
        match next {
            std::task::Poll::Ready(next) => std::task::Poll::Ready(next),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        }
    })
    .await
}
