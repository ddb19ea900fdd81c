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
use tokio::time::{Sleep, sleep};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, LinkState, Side};
use super::connection::{Error, Link, name, step, unless_stopped};
use super::fault::{Backoff, Fault};
use super::incoming::{self, Untaken};
use super::publisher::Posted;
use super::settings::Settings;
use super::{depths, topology};
use crate::clock::Clock;
use crate::engine::{self, Engine, Incoming, Prepared};
use crate::planted;
use crate::store::DeadLetter;
use crate::telemetry::{Span, Tracer};

/// Most messages in one group, and most bytes, after which it ends.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 2 * 1024 * 1024;
/// Pause before the subscription is made again.
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

/// What was delivered and is not acknowledged.
#[derive(Default)]
struct Intake {
    /// What the disk could not take: at most as many as are delivered at once.
    waiting: Vec<Held>,
    /// What can't be taken and is not kept yet.
    untaken: Vec<(Delivery, Untaken)>,
    /// What is kept and waits for the broker to have it as a dead letter.
    unconfirmed: JoinSet<()>,
    /// When what waits is tried again.
    retry: Option<Pin<Box<Sleep>>>,
    backoff: Backoff,
}

impl Intake {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.untaken.is_empty() && self.unconfirmed.is_empty()
    }

    /// Sets the time at which what waits is tried again, unless it is set.
    fn set_retry(&mut self) {
        let waits = !self.waiting.is_empty() || !self.untaken.is_empty();
        if waits && self.retry.is_none() {
            self.retry = Some(Box::pin(sleep(self.backoff.next())));
        }
    }
}

/// A message and the event that it holds.
struct Held {
    delivery: Delivery,
    event: Event,
    span: Option<Span>,
}

enum Event {
    /// Its contents are still to be written.
    Read(Incoming),
    Prepared(Prepared),
}

/// A message whose event the engine can be asked to take.
struct Ready {
    delivery: Delivery,
    event: Prepared,
    span: Option<Span>,
}

impl Ready {
    fn into_held(self) -> Held {
        Held { delivery: self.delivery, event: Event::Prepared(self.event), span: self.span }
    }

    fn untaken(self, reason: String) -> (Delivery, Untaken) {
        if let Some(span) = self.span {
            span.failed("refused");
        }
        let event = self.event.event();
        let untaken = Untaken { reason, raw: event.raw.clone(), task: incoming::task_of(event) };
        (self.delivery, untaken)
    }
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

    /// Takes what comes until the subscription ends. What the disk can't take
    /// waits, and is tried again, while other messages are taken.
    async fn take_all(&self, mut subscription: Subscription) -> Result<(), Error> {
        let mut intake = Intake::default();
        loop {
            intake.set_retry();
            let Intake { retry, unconfirmed, .. } = &mut intake;
            let first = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                Some(_) = unconfirmed.join_next() => continue,
                () = wait_for(retry) => {
                    intake.retry = None;
                    self.take_waiting(&mut intake).await?;
                    continue;
                }
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
            self.take(deliveries, &mut intake).await?;
        }
    }

    async fn take(&self, deliveries: Vec<Delivery>, intake: &mut Intake) -> Result<(), Error> {
        let mut group = Vec::with_capacity(deliveries.len());
        let store = self.engine.store_id();
        for delivery in deliveries {
            match incoming::read(&delivery) {
                Ok((event, _)) if incoming::was_accepted(&delivery, &event, store) => {
                    acknowledge(&delivery.acker, false).await?;
                    self.broker.count(|figures| figures.consumed += 1);
                }
                Ok((event, trace)) => {
                    let span = self.tracer.as_ref().map(|tracer| tracer.event(&self.settings.queue, trace.as_deref()));
                    group.push(Held { delivery, event: Event::Read(event), span });
                }
                Err(untaken) => intake.untaken.push((delivery, untaken)),
            }
        }
        self.take_group(group, intake).await
    }

    /// Tries what waits, one after the other, since one that is too large must
    /// not hold up those that are not.
    async fn take_waiting(&self, intake: &mut Intake) -> Result<(), Error> {
        for held in std::mem::take(&mut intake.waiting) {
            self.take_group(vec![held], intake).await?;
        }
        if intake.waiting.is_empty() && intake.untaken.is_empty() {
            intake.backoff.reset();
            self.broker.note_state(Side::Consumer, LinkState::Connected);
        }
        Ok(())
    }

    async fn take_group(&self, group: Vec<Held>, intake: &mut Intake) -> Result<(), Error> {
        let mut acknowledged = Vec::new();
        let ready = self.prepare(group, intake).await?;
        if let Some(ready) = self.accept(ready, intake, &mut acknowledged).await? {
            for one in ready {
                if let Some(ready) = self.accept(vec![one], intake, &mut acknowledged).await? {
                    intake.waiting.extend(ready.into_iter().map(Ready::into_held));
                }
            }
        }
        let consumed = u64::try_from(acknowledged.len()).unwrap_or(u64::MAX);
        let dead_lettered = self.bury(intake).await?;
        match acknowledged.last() {
            // One word for all, when nothing before them waits for anything.
            Some(last) if dead_lettered == 0 && intake.is_empty() => acknowledge(last, true).await?,
            Some(_) | None => {
                for acker in &acknowledged {
                    acknowledge(acker, false).await?;
                }
            }
        }
        self.broker.count(|figures| {
            figures.consumed += consumed;
            figures.dead_lettered += dead_lettered;
        });
        Ok(())
    }

    /// Brings the contents of events to disk. One that can't be written waits.
    async fn prepare(&self, group: Vec<Held>, intake: &mut Intake) -> Result<Vec<Ready>, Error> {
        let mut ready = Vec::with_capacity(group.len());
        for held in group {
            let Held { delivery, event, span } = held;
            let event = match event {
                Event::Prepared(event) => Ok(event),
                Event::Read(event) => match self.engine.events().prepare(vec![event.clone()]).await {
                    Ok(mut prepared) => prepared.pop().ok_or((event, Fault::Busy)),
                    Err(error) => Err((event, error.into())),
                },
            };
            match event {
                Ok(event) => ready.push(Ready { delivery, event, span }),
                Err((event, Fault::Message(reason))) => {
                    let task = incoming::task_of(&event);
                    intake.untaken.push((delivery, Untaken { reason, raw: event.raw, task }));
                }
                Err((event, fault)) => {
                    self.note_fault(fault)?;
                    intake.waiting.push(Held { delivery, event: Event::Read(event), span });
                }
            }
        }
        Ok(ready)
    }

    /// Takes a group in one commit. Gives it back where there is no room for it.
    async fn accept(
        &self,
        group: Vec<Ready>,
        intake: &mut Intake,
        acknowledged: &mut Vec<Acker>,
    ) -> Result<Option<Vec<Ready>>, Error> {
        if group.is_empty() {
            return Ok(None);
        }
        if planted::is(planted::Fault::MessageAcknowledgedEarly) {
            for ready in &group {
                acknowledge(&ready.delivery.acker, false).await?;
            }
        }
        let events: Vec<Prepared> = group.iter().map(|ready| ready.event.clone()).collect();
        let outcomes = match self.until_taken(|| self.engine.events().accept_prepared(events.clone())).await {
            Ok(outcomes) => outcomes,
            Err(Fault::Message(reason)) if group.len() == 1 => {
                intake.untaken.extend(group.into_iter().map(|ready| ready.untaken(reason.clone())));
                return Ok(None);
            }
            Err(Fault::Message(_)) => return Ok(Some(group)),
            Err(fault) => {
                self.note_fault(fault)?;
                return Ok(Some(group));
            }
        };
        for (ready, outcome) in group.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) if planted::is(planted::Fault::MessageAcknowledgedEarly) => {}
                Ok(_) => acknowledged.push(ready.delivery.acker),
                Err(refusal) => intake.untaken.push(ready.untaken(refusal.to_string())),
            }
        }
        Ok(None)
    }

    /// Keeps what can't be taken, and acknowledges each once the broker has
    /// it as a dead letter; how many these are. Where there is no room to keep
    /// them they wait.
    async fn bury(&self, intake: &mut Intake) -> Result<u64, Error> {
        if intake.untaken.is_empty() {
            return Ok(0);
        }
        let at = self.clock.wall();
        let letters = intake.untaken.iter().map(|(_, untaken)| DeadLetter {
            at,
            task: untaken.task,
            reason: untaken.reason.clone(),
            raw: untaken.raw.clone(),
        });
        let letters: Vec<DeadLetter> = letters.collect();
        if let Err(fault) = self.until_taken(|| self.engine.dead_letters().add(letters.clone())).await {
            self.note_fault(fault)?;
            return Ok(0);
        }
        let untaken = std::mem::take(&mut intake.untaken);
        let count = u64::try_from(untaken.len()).unwrap_or(u64::MAX);
        for (delivery, untaken) in untaken {
            tracing::warn!(routing_key = %delivery.routing_key, reason = untaken.reason, "a message can't be taken");
            let acker = delivery.acker.clone();
            let letter = incoming::letter(delivery, untaken.reason);
            let (confirmed, confirmation) = oneshot::channel();
            let posting = self.letters.clone();
            intake.unconfirmed.spawn(async move {
                let posted = posting.send(Posted { letter, confirmed }).await.is_ok();
                if posted && confirmation.await.is_ok() {
                    // When the channel has gone it is delivered again.
                    let _ = acknowledge(&acker, false).await;
                }
            });
        }
        Ok(count)
    }

    /// Shows what keeps messages waiting, and logs it when it is news. An error
    /// where none can be taken at all.
    fn note_fault(&self, fault: Fault) -> Result<(), Error> {
        match fault {
            Fault::Storage(state, message) => {
                if self.broker.note_error(Side::Consumer, state, message.clone()) {
                    let state = state.as_str();
                    tracing::warn!(state, error = message, "messages from the broker wait; trying again");
                }
                Ok(())
            }
            Fault::Failed(message) => Err(Error::Store(message)),
            Fault::Stopping => Err(Error::Stopping),
            Fault::Busy | Fault::Message(_) => Ok(()),
        }
    }

    /// Asks the engine again while it has too much to do.
    async fn until_taken<T, F: Future<Output = Result<T, engine::Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, Fault> {
        let mut backoff = Backoff::default();
        loop {
            match ask().await.map_err(Fault::from) {
                Err(Fault::Busy) => {}
                other => return other,
            }
            let pause = backoff.next();
            tracing::debug!(?pause, "the engine takes no events at the moment");
            tokio::select! {
                () = self.stop.cancelled() => return Err(Fault::Stopping),
                () = sleep(pause) => {}
            }
        }
    }
}

/// Completes at the time that is set; never where none is.
async fn wait_for(retry: &mut Option<Pin<Box<Sleep>>>) {
    match retry {
        Some(sleep) => sleep.as_mut().await,
        None => std::future::pending().await,
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
