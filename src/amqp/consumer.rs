//! The consumer: accepts messages in groups, with one commit for each group, and
//! acknowledges a message when its effect is on disk. A rejected message becomes a
//! dead letter in the store and at the broker, and is acknowledged then.

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
use super::fault::{Backoff, IntakeError};
use super::incoming::{self, Rejection};
use super::publisher::DeadLetterRequest;
use super::settings::Settings;
use super::{depths, topology};
use crate::clock::Clock;
use crate::engine::{self, Engine, IncomingEvent, PreparedEvent};
use crate::planted;
use crate::store::DeadLetter;
use crate::telemetry::{Span, Tracer};

/// The most messages of a group.
const MAX_GROUP: usize = 256;
/// The bytes of messages at which a group is closed.
const GROUP_BYTES: usize = 2 * 1024 * 1024;
/// The pause before another subscription after the broker has ended one.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_millis(50);

/// Consumes the queue of this service.
pub(super) struct Consumer {
    pub(super) engine: Engine,
    pub(super) settings: Arc<Settings>,
    pub(super) broker: Arc<Broker>,
    pub(super) clock: Clock,
    pub(super) dead_letters: mpsc::Sender<DeadLetterRequest>,
    /// Makes a span for each event; `None` without a collector.
    pub(super) tracer: Option<Tracer>,
    pub(super) stop: CancellationToken,
}

/// The delivered messages that are not acknowledged yet. Their number is bounded by the prefetch.
#[derive(Default)]
struct Unacknowledged {
    /// Messages that wait for room on the disk.
    waiting: Vec<ReceivedMessage>,
    /// Rejected messages that the store does not have as dead letters yet.
    rejected: Vec<(Delivery, Rejection)>,
    /// Waits for the broker's confirms of dead letters that the store has.
    unconfirmed: JoinSet<()>,
    /// The time of the next attempt for waiting and rejected messages.
    retry: Option<Pin<Box<Sleep>>>,
    backoff: Backoff,
}

impl Unacknowledged {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.rejected.is_empty() && self.unconfirmed.is_empty()
    }

    /// Sets the time of the next attempt if messages wait and no time is set.
    fn set_retry(&mut self) {
        let waits = !self.waiting.is_empty() || !self.rejected.is_empty();
        if waits && self.retry.is_none() {
            self.retry = Some(Box::pin(sleep(self.backoff.next_pause())));
        }
    }
}

/// A message and its event.
struct ReceivedMessage {
    delivery: Delivery,
    event: ReceivedEvent,
    span: Option<Span>,
}

enum ReceivedEvent {
    /// The contents of the event are not on disk yet.
    Read(IncomingEvent),
    Prepared(PreparedEvent),
}

/// A message whose event is ready for a commit: its contents are on disk.
struct Acceptable {
    delivery: Delivery,
    event: PreparedEvent,
    span: Option<Span>,
}

impl Acceptable {
    fn into_received(self) -> ReceivedMessage {
        ReceivedMessage { delivery: self.delivery, event: ReceivedEvent::Prepared(self.event), span: self.span }
    }

    fn reject(self, reason: String) -> (Delivery, Rejection) {
        if let Some(span) = self.span {
            span.end_with_error("refused");
        }
        let event = self.event.event();
        let rejection = Rejection { reason, raw: event.raw.clone(), task: incoming::task_of(event) };
        (self.delivery, rejection)
    }
}

impl Consumer {
    /// Consumes over one connection until it fails or the service stops.
    pub(super) async fn serve(&self) -> Result<(), Error> {
        let link = unless_stopped(&self.stop, Link::open(&self.settings, "consuming")).await?;
        let result = tokio::select! {
            result = self.serve_over(&link) => result,
            result = depths::count_queues(&link, &self.engine, &self.settings, &self.broker, &self.clock) => result,
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
            self.broker.set_state(Side::Consumer, LinkState::Connected);
            self.accept_all(subscription).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            // The broker has ended only the subscription, because the queue was deleted or has moved.
            tracing::warn!(
                queue = self.settings.queue,
                "the broker ended the subscription; declaring and subscribing again"
            );
            self.broker.set_state(Side::Consumer, LinkState::Away);
            sleep(RESUBSCRIBE_PAUSE).await;
        }
    }

    /// Accepts messages until the subscription ends. Messages for which the disk has no room wait and
    /// are tried again, while others are accepted.
    async fn accept_all(&self, mut subscription: Subscription) -> Result<(), Error> {
        let mut intake = Unacknowledged::default();
        loop {
            intake.set_retry();
            let Unacknowledged { retry, unconfirmed, .. } = &mut intake;
            let first = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                Some(_) = unconfirmed.join_next() => continue,
                () = wait_for(retry) => {
                    intake.retry = None;
                    self.retry_waiting(&mut intake).await?;
                    continue;
                }
                delivery = subscription.next() => delivery,
            };
            let Some(first) = first else { return Ok(()) };
            let mut deliveries = vec![first?];
            let mut bytes = 0;
            while deliveries.len() < MAX_GROUP && bytes < GROUP_BYTES {
                let Some(next) = next_delivered(&mut subscription).await else { break };
                let next = next?;
                bytes += next.data.len();
                deliveries.push(next);
            }
            self.accept_deliveries(deliveries, &mut intake).await?;
        }
    }

    /// Reads deliveries and accepts their events.
    async fn accept_deliveries(&self, deliveries: Vec<Delivery>, intake: &mut Unacknowledged) -> Result<(), Error> {
        let mut group = Vec::with_capacity(deliveries.len());
        let store = self.engine.store_id();
        for delivery in deliveries {
            match incoming::read(&delivery) {
                Ok((event, _)) if incoming::was_accepted(&delivery, &event, store) => {
                    acknowledge(&delivery.acker, false).await?;
                    self.broker.update_figures(|figures| figures.consumed += 1);
                }
                Ok((event, trace)) => {
                    let span =
                        self.tracer.as_ref().map(|tracer| tracer.start_event(&self.settings.queue, trace.as_deref()));
                    group.push(ReceivedMessage { delivery, event: ReceivedEvent::Read(event), span });
                }
                Err(rejection) => intake.rejected.push((delivery, rejection)),
            }
        }
        self.accept_group(group, intake).await
    }

    /// Tries the waiting messages one by one, because a large message must not delay smaller ones.
    async fn retry_waiting(&self, intake: &mut Unacknowledged) -> Result<(), Error> {
        for message in std::mem::take(&mut intake.waiting) {
            self.accept_group(vec![message], intake).await?;
        }
        if intake.waiting.is_empty() && intake.rejected.is_empty() {
            intake.backoff.reset();
            self.broker.set_state(Side::Consumer, LinkState::Connected);
        }
        Ok(())
    }

    async fn accept_group(&self, group: Vec<ReceivedMessage>, intake: &mut Unacknowledged) -> Result<(), Error> {
        let mut acknowledged = Vec::new();
        let ready = self.prepare(group, intake).await?;
        if let Some(ready) = self.commit(ready, intake, &mut acknowledged).await? {
            for one in ready {
                if let Some(ready) = self.commit(vec![one], intake, &mut acknowledged).await? {
                    intake.waiting.extend(ready.into_iter().map(Acceptable::into_received));
                }
            }
        }
        let consumed = u64::try_from(acknowledged.len()).unwrap_or(u64::MAX);
        let dead_lettered = self.store_rejected(intake).await?;
        match acknowledged.last() {
            // One acknowledgement covers all messages if no earlier one is unacknowledged.
            Some(last) if dead_lettered == 0 && intake.is_empty() => acknowledge(last, true).await?,
            Some(_) | None => {
                for acker in &acknowledged {
                    acknowledge(acker, false).await?;
                }
            }
        }
        self.broker.update_figures(|figures| {
            figures.consumed += consumed;
            figures.dead_lettered += dead_lettered;
        });
        Ok(())
    }

    /// Writes the contents of events to disk. A message whose contents can't be written waits.
    async fn prepare(
        &self,
        group: Vec<ReceivedMessage>,
        intake: &mut Unacknowledged,
    ) -> Result<Vec<Acceptable>, Error> {
        let mut ready = Vec::with_capacity(group.len());
        for ReceivedMessage { delivery, event, span } in group {
            let event = match event {
                ReceivedEvent::Prepared(event) => Ok(event),
                ReceivedEvent::Read(event) => match self.engine.events().prepare(vec![event.clone()]).await {
                    Ok(mut prepared) => prepared.pop().ok_or((event, IntakeError::Busy)),
                    Err(error) => Err((event, error.into())),
                },
            };
            match event {
                Ok(event) => ready.push(Acceptable { delivery, event, span }),
                Err((event, IntakeError::Refused(reason))) => {
                    let task = incoming::task_of(&event);
                    intake.rejected.push((delivery, Rejection { reason, raw: event.raw, task }));
                }
                Err((event, fault)) => {
                    self.report_fault(fault)?;
                    intake.waiting.push(ReceivedMessage { delivery, event: ReceivedEvent::Read(event), span });
                }
            }
        }
        Ok(ready)
    }

    /// Commits the events of a group together. Returns the group if the engine did not accept it.
    async fn commit(
        &self,
        group: Vec<Acceptable>,
        intake: &mut Unacknowledged,
        acknowledged: &mut Vec<Acker>,
    ) -> Result<Option<Vec<Acceptable>>, Error> {
        if group.is_empty() {
            return Ok(None);
        }
        if planted::is(planted::Fault::MessageAcknowledgedEarly) {
            for ready in &group {
                acknowledge(&ready.delivery.acker, false).await?;
            }
        }
        let events: Vec<PreparedEvent> = group.iter().map(|ready| ready.event.clone()).collect();
        let outcomes = match self.retry_while_busy(|| self.engine.events().accept_prepared(events.clone())).await {
            Ok(outcomes) => outcomes,
            Err(IntakeError::Refused(reason)) if group.len() == 1 => {
                intake.rejected.extend(group.into_iter().map(|ready| ready.reject(reason.clone())));
                return Ok(None);
            }
            Err(IntakeError::Refused(_)) => return Ok(Some(group)),
            Err(fault) => {
                self.report_fault(fault)?;
                return Ok(Some(group));
            }
        };
        for (ready, outcome) in group.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) if planted::is(planted::Fault::MessageAcknowledgedEarly) => {}
                Ok(_) => acknowledged.push(ready.delivery.acker),
                Err(refusal) => intake.rejected.push(ready.reject(refusal.to_string())),
            }
        }
        Ok(None)
    }

    /// Stores rejected messages as dead letters and lets the publisher send them to the dead-letter
    /// exchange; each is acknowledged when the broker has confirmed it. Returns the number of stored
    /// dead letters. If the store has no room, the messages wait.
    async fn store_rejected(&self, intake: &mut Unacknowledged) -> Result<u64, Error> {
        if intake.rejected.is_empty() {
            return Ok(0);
        }
        let at = self.clock.wall();
        let letters = intake.rejected.iter().map(|(_, rejection)| DeadLetter {
            at,
            task: rejection.task,
            reason: rejection.reason.clone(),
            raw: rejection.raw.clone(),
        });
        let letters: Vec<DeadLetter> = letters.collect();
        if let Err(fault) = self.retry_while_busy(|| self.engine.dead_letters().add(letters.clone())).await {
            self.report_fault(fault)?;
            return Ok(0);
        }
        let rejected = std::mem::take(&mut intake.rejected);
        let count = u64::try_from(rejected.len()).unwrap_or(u64::MAX);
        for (delivery, rejection) in rejected {
            tracing::warn!(routing_key = %delivery.routing_key, reason = rejection.reason, "a message was rejected");
            let acker = delivery.acker.clone();
            let message = incoming::rejected_message(delivery, rejection.reason);
            let (confirmed, confirmation) = oneshot::channel();
            let requests = self.dead_letters.clone();
            intake.unconfirmed.spawn(async move {
                let requested = requests.send(DeadLetterRequest { message, confirmed }).await.is_ok();
                if requested && confirmation.await.is_ok() {
                    // If the channel has closed, the broker delivers the message again.
                    let _ = acknowledge(&acker, false).await;
                }
            });
        }
        Ok(count)
    }

    /// Records why messages wait, and logs a new cause. Returns an error if no message can be accepted
    /// at all.
    fn report_fault(&self, fault: IntakeError) -> Result<(), Error> {
        match fault {
            IntakeError::Storage(state, message) => {
                if self.broker.record_error(Side::Consumer, state, message.clone()) {
                    let state = state.as_str();
                    tracing::warn!(
                        state,
                        error = message,
                        "messages wait because the disk does not take them; trying again"
                    );
                }
                Ok(())
            }
            IntakeError::Unreadable(message) => Err(Error::Store(message)),
            IntakeError::Stopping => Err(Error::Stopping),
            IntakeError::Busy | IntakeError::Refused(_) => Ok(()),
        }
    }

    /// Repeats a request while the engine is overloaded.
    async fn retry_while_busy<T, F: Future<Output = Result<T, engine::Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, IntakeError> {
        let mut backoff = Backoff::default();
        loop {
            match ask().await.map_err(IntakeError::from) {
                Err(IntakeError::Busy) => {}
                other => return other,
            }
            let pause = backoff.next_pause();
            tracing::debug!(?pause, "the engine is overloaded; retrying");
            tokio::select! {
                () = self.stop.cancelled() => return Err(IntakeError::Stopping),
                () = sleep(pause) => {}
            }
        }
    }
}

/// Completes at the time that is set, or never if none is set.
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
        Err(Error::Away("the channel of a message was closed".to_owned()))
    }
}

/// Returns the next delivery if it has arrived already.
async fn next_delivered(subscription: &mut Subscription) -> Option<lapin::Result<Delivery>> {
    std::future::poll_fn(|context| {
        let next = tokio_stream::Stream::poll_next(Pin::new(&mut *subscription), context);
        match next {
            std::task::Poll::Ready(next) => std::task::Poll::Ready(next),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        }
    })
    .await
}
