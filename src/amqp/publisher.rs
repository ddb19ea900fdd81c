//! The publisher: sends the events of the log to the broker in waves, and
//! advances the log reader behind the confirmed events.
//!
//! The publisher waits for all confirms of a wave before it sends the next one.
//! Only then does it know which messages were returned, because the client
//! library can attach a returned message to the confirm of another one. When
//! every confirm of the wave has arrived, so has every returned message.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, LinkState, Side};
use super::connection::{Error, Link, step, unless_stopped};
use super::feed::Feed;
use super::outbox::PendingEvent;
use super::outgoing::{self, MAX_MESSAGE_BYTES, Message, RejectedMessage};
use super::search::RefusalSearch;
use super::settings::Settings;
use super::topology;
use super::wave::{ConfirmDeadline, POLL_INTERVAL, SendOutcome, Wave, send_and_confirm, state_of};
use crate::clock::Clock;
use crate::engine::{Engine, LogReader};
use crate::events::Envelope;
use crate::task::{Moment, Tier};

/// The pause after a wave, in which the next messages gather: this long for each message of the
/// wave, so that a single message hardly waits and a stream makes few waves.
const GATHER_PER_MESSAGE: Duration = Duration::from_millis(1);
/// The longest pause after a wave. A wave costs the broker a write to disk.
const MAX_GATHER: Duration = Duration::from_millis(25);
/// The shortest time between two declarations after returned messages, whose queue may have been
/// deleted.
const REDECLARE_INTERVAL: Duration = Duration::from_secs(5);

/// A message for the dead-letter exchange.
#[derive(Debug)]
pub(super) struct DeadLetterRequest {
    pub(super) message: RejectedMessage,
    /// Receives a value when the broker has confirmed the message.
    pub(super) confirmed: oneshot::Sender<()>,
}

/// A dead letter that is not confirmed yet.
struct PendingDeadLetter {
    message: Message,
    confirmed: oneshot::Sender<()>,
}

/// The result of a wave.
enum WaveResult {
    /// The broker has confirmed or nacked each message.
    Settled,
    /// The broker has returned messages that no queue took.
    Returned,
    /// The broker has refused a message because of its content and closed the channel.
    Refused,
}

/// Publishes the events of the log and the dead letters of the consumer.
pub(super) struct Publisher {
    engine: Engine,
    settings: Arc<Settings>,
    broker: Arc<Broker>,
    clock: Clock,
    envelope: Envelope,
    feed: Feed,
    /// The next wave of events.
    next: Wave,
    search: RefusalSearch,
    requests: mpsc::Receiver<DeadLetterRequest>,
    dead_letters: Vec<PendingDeadLetter>,
    /// The time of the last declaration.
    declared_at: Option<Moment>,
    /// The tiers whose work queues were missing at a declaration.
    missing_queues: BTreeSet<Tier>,
    stop: CancellationToken,
}

impl Publisher {
    pub(super) fn new(
        (engine, reader): (Engine, LogReader),
        settings: Arc<Settings>,
        (broker, clock): (Arc<Broker>, Clock),
        requests: mpsc::Receiver<DeadLetterRequest>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            envelope: Envelope::new(engine.store_id()),
            feed: Feed::new(engine.clone(), reader, broker.clone()),
            next: Wave::default(),
            search: RefusalSearch::default(),
            engine,
            settings,
            broker,
            clock,
            requests,
            dead_letters: Vec::new(),
            declared_at: None,
            missing_queues: BTreeSet::new(),
            stop,
        }
    }

    /// Publishes over one connection until it fails or the service stops.
    pub(super) async fn serve(&mut self) -> Result<(), Error> {
        let link = unless_stopped(&self.stop, Link::open(&self.settings, "publishing")).await?;
        let result = self.serve_over(&link).await;
        link.close().await;
        result
    }

    async fn serve_over(&mut self, link: &Link) -> Result<(), Error> {
        self.declare(link).await?;
        let mut channel = open_confirm_channel(link).await?;
        let mut head = self.engine.log().head();
        while !self.stop.is_cancelled() {
            if !link.is_connected() || !channel.status().connected() {
                return Err(Error::Away("the connection was lost".to_owned()));
            }
            self.broker.set_state(Side::Publisher, state_of(link));
            if link.is_blocked() {
                sleep(POLL_INTERVAL).await;
                continue;
            }
            if self.broker.take_missing_queue() {
                self.declare(link).await?;
            }
            head.borrow_and_update();
            self.prepare_wave().await?;
            self.feed.add_tasks_of_missing_queues(&mut self.missing_queues).await?;
            self.feed.add_lost_dispatches().await;
            // Before the wave is sent, so that no worker can have one of its tasks yet.
            self.feed.report();
            self.receive_dead_letters();
            if self.next.is_empty() && self.dead_letters.is_empty() {
                let now = self.clock.observed();
                let until = self.feed.outbox.next_due().map_or(POLL_INTERVAL, |at| at.since(now).min(POLL_INTERVAL));
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    changed = head.changed() => changed.map_err(|_| Error::Stopping)?,
                    Some(request) = self.requests.recv() => self.add_dead_letter(request),
                    () = sleep(until) => {}
                }
                continue;
            }
            let sent = self.next.len() + self.dead_letters.len();
            match self.send_wave(link, &channel).await? {
                WaveResult::Settled => {}
                WaveResult::Returned => self.redeclare(link).await?,
                WaveResult::Refused => channel = open_confirm_channel(link).await?,
            }
            self.gather(sent).await;
        }
        Ok(())
    }

    /// Pauses after a wave of `sent` messages, so that the next messages gather. A full wave has no
    /// pause.
    async fn gather(&self, sent: usize) {
        let pause = GATHER_PER_MESSAGE.saturating_mul(u32::try_from(sent).unwrap_or(u32::MAX)).min(MAX_GATHER);
        if sent < self.settings.window {
            let _ = tokio::time::timeout(pause, self.stop.cancelled()).await;
        }
    }

    async fn declare(&mut self, link: &Link) -> Result<(), Error> {
        // This declaration covers the queues that were found missing so far.
        self.broker.take_missing_queue();
        let missing = unless_stopped(&self.stop, topology::declare_for_publishing(link, &self.settings)).await?;
        self.missing_queues.extend(missing);
        self.declared_at = Some(self.clock.observed());
        Ok(())
    }

    /// Declares the queues again after returned messages, unless that was done just before.
    async fn redeclare(&mut self, link: &Link) -> Result<(), Error> {
        let now = self.clock.observed();
        let is_recent = self.declared_at.is_some_and(|at| now.since(at) < REDECLARE_INTERVAL);
        if is_recent || !self.settings.work_queues.declare { Ok(()) } else { self.declare(link).await }
    }

    fn add_dead_letter(&mut self, DeadLetterRequest { message, confirmed }: DeadLetterRequest) {
        self.dead_letters.push(PendingDeadLetter { message: message.into_message(&self.settings), confirmed });
    }

    fn receive_dead_letters(&mut self) {
        while self.dead_letters.len() < self.settings.window {
            let Ok(request) = self.requests.try_recv() else { break };
            self.add_dead_letter(request);
        }
    }

    /// Reads and renders the next wave, unless it is there already.
    async fn prepare_wave(&mut self) -> Result<(), Error> {
        while self.next.is_empty() {
            self.feed.read_log(self.settings.window).await?;
            let max = self.search.max_wave_len().unwrap_or(self.settings.window);
            let taken = self.feed.outbox.take_due(max, self.clock.observed());
            if taken.is_empty() {
                return Ok(());
            }
            let positions = taken.iter().map(|event| event.position).collect();
            let logged = match self.engine.broker().events_at(positions).await {
                Ok(logged) => logged,
                Err(error) => {
                    self.requeue_all(&taken);
                    return Err(error.into());
                }
            };
            // The engine returns fewer events if they are large; the rest comes with the next wave.
            self.requeue_all(taken.get(logged.len()..).unwrap_or_default());
            for (event, logged) in taken.into_iter().zip(logged) {
                let message = logged.and_then(|logged| outgoing::message(&logged, &self.envelope, &self.settings));
                match message {
                    Some(message) if message.payload.len() > MAX_MESSAGE_BYTES => {
                        self.hold(&event, &message, &format!("at most {MAX_MESSAGE_BYTES} bytes are published"));
                    }
                    Some(message) => self.next.push(event, message),
                    None => {
                        tracing::warn!(position = %event.position.seq, "an event is not published because its task was removed");
                        self.feed.outbox.remove_published(&event);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends the next wave and waits for its confirms. If the wave is full, the one after it is
    /// prepared meanwhile.
    async fn send_wave(&mut self, link: &Link, channel: &Channel) -> Result<WaveResult, Error> {
        let mut wave = std::mem::take(&mut self.next);
        let mut dead_letters = std::mem::take(&mut self.dead_letters);
        let mut later = Vec::new();
        if let Some(max) = self.search.max_wave_len().filter(|_| !dead_letters.is_empty()) {
            // During a search, dead letters have waves of their own.
            self.next = std::mem::take(&mut wave);
            later = dead_letters.split_off(max.min(dead_letters.len()));
        }
        let is_full = wave.len() >= self.settings.window;
        let deadline = ConfirmDeadline::new(&self.broker, self.settings.confirm_timeout, &self.stop);
        let messages = wave.messages.iter().chain(dead_letters.iter().map(|letter| &letter.message));
        let sending = deadline.wait(link, send_and_confirm(channel, messages));
        let (sent, prepared) =
            tokio::join!(sending, async { if is_full { self.prepare_wave().await } else { Ok(()) } });
        let sent = match sent {
            Ok(sent) => sent,
            Err(Error::Message(reason)) => {
                self.settle_refused(wave, dead_letters, &reason).await;
                self.dead_letters.extend(later);
                return prepared.map(|()| WaveResult::Refused);
            }
            Err(error) => {
                self.requeue_all(&wave.events);
                self.dead_letters.extend(dead_letters);
                self.dead_letters.extend(later);
                return Err(error);
            }
        };
        self.search.record_accepted(self.settings.window);
        self.settle_dead_letters(dead_letters, sent.get(wave.len()..).unwrap_or_default());
        self.dead_letters.extend(later);
        let result = self.settle(&wave.events, &sent).await;
        prepared.and(result)
    }

    fn requeue_all(&mut self, events: &[PendingEvent]) {
        for event in events {
            self.feed.outbox.requeue(event);
        }
    }

    /// Settles the events of a wave by their outcomes.
    async fn settle(&mut self, events: &[PendingEvent], sent: &[SendOutcome]) -> Result<WaveResult, Error> {
        let now = self.clock.observed();
        let (mut published, mut returned, mut nacked) = (0, 0, 0);
        let back = events.iter().zip(sent).filter(|(_, sent)| matches!(sent, SendOutcome::Returned));
        let waiting = self.engine.broker().still_waiting(back.map(|(event, _)| event.position).collect()).await.ok();
        for (event, sent) in events.iter().zip(sent) {
            match sent {
                SendOutcome::Confirmed => {
                    published += 1;
                    self.feed.record_published(event);
                }
                SendOutcome::Returned => {
                    returned += 1;
                    // A returned `task.ready` is settled if its task no longer waits.
                    if waiting.as_ref().is_none_or(|waiting| waiting.contains_key(&event.position)) {
                        self.feed.outbox.retry_later(event, now);
                    } else {
                        self.feed.record_published(event);
                    }
                }
                SendOutcome::Nacked => {
                    nacked += 1;
                    self.feed.outbox.retry_later(event, now);
                }
            }
        }
        if returned > 0 {
            tracing::debug!(returned, "no queue took some tasks; they are published again");
        }
        let held = u64::try_from(self.feed.outbox.held_count()).unwrap_or(u64::MAX);
        self.broker.update_figures(|figures| {
            figures.published += published;
            figures.returned += returned;
            figures.nacked += nacked;
            figures.held = held;
        });
        self.feed.report();
        Ok(if returned > 0 { WaveResult::Returned } else { WaveResult::Settled })
    }

    fn settle_dead_letters(&mut self, dead_letters: Vec<PendingDeadLetter>, sent: &[SendOutcome]) {
        for (letter, sent) in dead_letters.into_iter().zip(sent) {
            match sent {
                // The consumer may have lost its connection and dropped the receiver.
                SendOutcome::Confirmed | SendOutcome::Returned => drop(letter.confirmed.send(())),
                SendOutcome::Nacked => self.dead_letters.push(letter),
            }
        }
    }

    /// Settles a wave of which the broker has refused one message: holds that message if the search
    /// has found it, else publishes the wave again in parts.
    async fn settle_refused(&mut self, wave: Wave, dead_letters: Vec<PendingDeadLetter>, reason: &str) {
        let next = std::mem::take(&mut self.next);
        self.requeue_all(&next.events);
        if !self.search.record_refused(wave.len() + dead_letters.len()) {
            self.requeue_all(&wave.events);
            self.dead_letters.extend(dead_letters);
            return;
        }
        let waiting =
            self.engine.broker().still_waiting(wave.events.iter().map(|event| event.position).collect()).await.ok();
        for (event, message) in wave.events.iter().zip(&wave.messages) {
            let is_needed = waiting.as_ref().is_none_or(|waiting| waiting.contains_key(&event.position));
            if event.is_refused && event.ready.is_some() && !is_needed {
                self.feed.record_published(event);
            } else {
                self.hold(event, message, reason);
            }
        }
        for PendingDeadLetter { message, confirmed } in dead_letters {
            let bytes = message.payload.len();
            tracing::error!(bytes, reason, "the broker refuses a dead letter; only the table of dead letters has it");
            // The consumer may have lost its connection and dropped the receiver.
            let _ = confirmed.send(());
        }
    }

    /// Delays an event whose message can't be published, and reports it. Events of other tasks are
    /// not delayed.
    fn hold(&mut self, event: &PendingEvent, message: &Message, reason: &str) {
        let (id, bytes, task) = (&message.id, message.payload.len(), event.position.task.map(|task| task.to_string()));
        let what = format!("event {id} of {bytes} bytes ({}) can't be published: {reason}", message.routing_key);
        if !event.is_refused {
            tracing::error!(
                id,
                task,
                bytes,
                key = message.routing_key,
                reason,
                "a message can't be published; its task waits, and other tasks continue"
            );
        }
        self.broker.record_error(Side::Publisher, LinkState::Connected, what);
        self.feed.outbox.hold_refused(event, self.clock.observed());
        let held = u64::try_from(self.feed.outbox.held_count()).unwrap_or(u64::MAX);
        self.broker.update_figures(|figures| {
            figures.refused += 1;
            figures.held = held;
        });
    }
}

/// Opens a channel on which the broker confirms messages.
async fn open_confirm_channel(link: &Link) -> Result<Channel, Error> {
    let channel = link.channel().await?;
    step("ask for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}
