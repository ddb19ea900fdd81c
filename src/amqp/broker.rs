//! The state of the broker for the rest of the service: the connections, the
//! counts of messages, and the last errors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::engine::EventPosition;
use crate::task::{Moment, Tier, Timestamp};

/// The state of the broker's connections, shared by the publisher, the consumer and the readers of
/// figures.
#[derive(Debug)]
pub struct Broker {
    address: String,
    clock: Clock,
    state: Mutex<State>,
    /// Whether a declared work queue was found missing since [`Broker::take_missing_queue`].
    is_queue_missing: AtomicBool,
}

#[derive(Debug)]
struct State {
    figures: Figures,
    frontier: Frontier,
    /// Tasks that have gone from their work queues and are not in the outbox yet. Each is listed
    /// once; the slots of all projects bound their number.
    lost: BTreeMap<EventPosition, LostDispatch>,
}

/// A dispatched task whose message has gone from its work queue without a worker.
#[derive(Debug, Clone)]
pub(super) struct LostDispatch {
    /// The position of the `task.ready` in the log.
    pub(super) position: EventPosition,
    /// The tier whose queue has lost the message.
    pub(super) tier: Tier,
    /// The time of the dispatch.
    pub(super) at: Moment,
}

/// The dispatches that the broker is known to have: those before `read_at`, and in each tier those
/// before the oldest unpublished one.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    pub(super) read_at: Option<Moment>,
    pub(super) oldest_unpublished: BTreeMap<Tier, Moment>,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected; the driver keeps trying.
    Away,
    /// Connected.
    Connected,
    /// Connected, but the broker accepts no messages because it lacks memory or disk space.
    Blocked,
    /// The broker refuses the credentials or a declaration of this service: a setting is wrong
    /// here or at the broker.
    Refused,
    /// Connected, but messages wait because the disk of this service has no room for them.
    StorageFull,
    /// Connected, but messages wait because the disk of this service fails or the store can't be
    /// read.
    StorageFailed,
}

impl LinkState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Away, Self::Connected, Self::Blocked, Self::Refused, Self::StorageFull, Self::StorageFailed];

    /// Returns the name of the state in metrics and in the health answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Connected => "connected",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
            Self::StorageFull => "storage_full",
            Self::StorageFailed => "storage_failed",
        }
    }

    const fn severity(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Blocked => 1,
            Self::StorageFull => 2,
            Self::StorageFailed => 3,
            Self::Away => 4,
            Self::Refused => 5,
        }
    }
}

/// The figures of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFigures {
    /// The current state.
    pub state: LinkState,
    /// The time of the last change of the state.
    pub since: Timestamp,
    /// The time and text of the last error; kept while the connection works again.
    pub last_error: Option<(Timestamp, String)>,
    /// The number of connections that were established.
    pub connects: u64,
}

/// Figures for metrics and health. Counters begin at the start of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The connection of the publisher.
    pub publisher: LinkFigures,
    /// The connection of the consumer.
    pub consumer: LinkFigures,
    /// Messages that the broker has confirmed.
    pub published: u64,
    /// Mandatory messages that the broker returned because no queue took them. The publisher
    /// repeats them.
    pub returned: u64,
    /// Messages that the broker rejected with a nack. The publisher repeats them.
    pub nacked: u64,
    /// Messages that the broker refused because of their content, such as one above its size
    /// limit. The publisher repeats them after a long pause.
    pub refused: u64,
    /// Events that were returned, nacked or refused and wait to be published again.
    pub held: u64,
    /// Messages that were consumed and accepted, with or without an effect.
    pub consumed: u64,
    /// Messages that were consumed and became dead letters.
    pub dead_lettered: u64,
    /// The last count of each work queue, by tier.
    pub waiting: BTreeMap<Tier, Waiting>,
}

/// The last count of a work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Messages that were not delivered to a worker.
    pub ready: u32,
    /// Workers that consume from the queue.
    pub consumers: u32,
}

impl Figures {
    /// Returns the worse state of the two connections.
    #[must_use]
    pub fn state(&self) -> LinkState {
        let (publisher, consumer) = (self.publisher.state, self.consumer.state);
        if publisher.severity() >= consumer.severity() { publisher } else { consumer }
    }

    /// Returns the later one of the last errors of both connections.
    #[must_use]
    pub fn last_error(&self) -> Option<&(Timestamp, String)> {
        [&self.publisher, &self.consumer].into_iter().filter_map(|link| link.last_error.as_ref()).max_by_key(|e| e.0)
    }
}

/// One of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Publisher,
    Consumer,
}

impl Side {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Consumer => "consumer",
        }
    }
}

impl Broker {
    /// Returns the state before the first connection. `address` appears in logs and answers.
    #[must_use]
    pub fn new(address: String, clock: Clock) -> Self {
        let link = LinkFigures { state: LinkState::Away, since: clock.wall(), last_error: None, connects: 0 };
        let figures = Figures {
            publisher: link.clone(),
            consumer: link,
            published: 0,
            returned: 0,
            nacked: 0,
            refused: 0,
            held: 0,
            consumed: 0,
            dead_lettered: 0,
            waiting: BTreeMap::new(),
        };
        Self {
            address,
            clock,
            state: Mutex::new(State { figures, frontier: Frontier::default(), lost: BTreeMap::new() }),
            is_queue_missing: AtomicBool::new(false),
        }
    }

    /// Returns the address of the broker, without credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns a copy of the current figures.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the figures under the lock.
    pub(super) fn update_figures(&self, update: impl FnOnce(&mut Figures)) {
        update(&mut self.lock().figures);
    }

    /// Sets the state of a connection and logs the change. Returns whether the state has changed.
    pub(super) fn set_state(&self, side: Side, state: LinkState) -> bool {
        let now = self.clock.wall();
        let mut shared = self.lock();
        let link = shared.figures.link(side);
        if link.state == state {
            return false;
        }
        let before = std::mem::replace(&mut link.state, state);
        let was_connected = matches!(before, LinkState::Blocked | LinkState::StorageFull | LinkState::StorageFailed);
        link.since = now;
        link.connects += u64::from(state == LinkState::Connected && !was_connected);
        drop(shared);
        match state {
            LinkState::Connected if was_connected => {
                tracing::info!(side = side.as_str(), address = self.address, "rabbitmq link works again");
            }
            LinkState::Connected => {
                tracing::info!(side = side.as_str(), address = self.address, "connected to rabbitmq");
            }
            LinkState::Blocked => tracing::warn!(
                side = side.as_str(),
                address = self.address,
                "rabbitmq accepts no messages because it lacks memory or disk space; publishing waits"
            ),
            // The driver and the consumer log these states with their cause.
            LinkState::Away | LinkState::Refused | LinkState::StorageFull | LinkState::StorageFailed => {}
        }
        true
    }

    /// Records the error of a connection and sets its state. Returns whether the error should be
    /// logged: the state or the text has changed.
    pub(super) fn record_error(&self, side: Side, state: LinkState, message: String) -> bool {
        let now = self.clock.wall();
        let is_new = self.set_state(side, state);
        let mut shared = self.lock();
        let last = &mut shared.figures.link(side).last_error;
        let is_other = last.as_ref().is_none_or(|(_, known)| *known != message);
        *last = Some((now, message));
        is_new || is_other
    }

    /// Records that a work queue which this service declares does not exist.
    pub(super) fn record_missing_queue(&self) {
        self.is_queue_missing.store(true, Ordering::Relaxed);
    }

    /// Returns whether a declared work queue was missing since the last call.
    pub(super) fn take_missing_queue(&self) -> bool {
        self.is_queue_missing.swap(false, Ordering::Relaxed)
    }

    /// Adds tasks that have gone from their work queues, for the publisher to publish again.
    pub(super) fn add_lost(&self, lost: Vec<LostDispatch>) {
        self.lock().lost.extend(lost.into_iter().map(|lost| (lost.position, lost)));
    }

    /// Returns the lost tasks that are not in the outbox yet.
    pub(super) fn lost_dispatches(&self) -> Vec<LostDispatch> {
        self.lock().lost.values().cloned().collect()
    }

    /// Removes lost tasks that the publisher has put into the outbox.
    pub(super) fn remove_lost(&self, found: &[LostDispatch]) {
        let mut state = self.lock();
        for lost in found {
            state.lost.remove(&lost.position);
        }
    }

    /// Sets how far the publisher has come.
    pub(super) fn set_frontier(&self, frontier: Frontier) {
        self.lock().frontier = frontier;
    }

    /// Returns the time before which the broker has every dispatch of a tier. A lost task counts as
    /// unpublished until it is published again.
    pub(super) fn published_before(&self, tier: &Tier) -> Option<Moment> {
        let state = self.lock();
        let unpublished = state.frontier.oldest_unpublished.get(tier).copied();
        let lost = state.lost.values().filter(|lost| lost.tier == *tier).map(|lost| lost.at);
        state.frontier.read_at.map(|read_at| lost.chain(unpublished).fold(read_at, Moment::min))
    }
}

impl Figures {
    const fn link(&mut self, side: Side) -> &mut LinkFigures {
        match side {
            Side::Publisher => &mut self.publisher,
            Side::Consumer => &mut self.consumer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Seq, TaskId};

    /// The count finds the same tasks every minute while publishing is blocked for days.
    #[test]
    fn a_lost_dispatch_is_listed_once() {
        let broker = Broker::new("here".to_owned(), Clock::new());
        let tier = Tier::new("small").unwrap();
        let lost = |seq| {
            let task = Some(TaskId::from_bytes([u8::try_from(seq).unwrap(); 16]));
            LostDispatch {
                position: EventPosition { seq: Seq(seq), task },
                tier: tier.clone(),
                at: Moment::from_micros(5),
            }
        };
        for _ in 0..1000 {
            broker.add_lost(vec![lost(2), lost(1)]);
        }
        let read_at = Some(Moment::from_micros(9));
        broker.set_frontier(Frontier { read_at, oldest_unpublished: BTreeMap::new() });
        let other = Tier::new("large").unwrap();
        assert_eq!(broker.published_before(&tier), Some(Moment::from_micros(5)), "its deadline would run");
        assert_eq!(broker.published_before(&other), read_at);
        let all = broker.lost_dispatches();
        let positions: Vec<u64> = all.iter().map(|lost| lost.position.seq.0).collect();
        assert_eq!(positions, [1, 2]);
        broker.remove_lost(&all);
        assert!(broker.lost_dispatches().is_empty());
        assert_eq!(broker.published_before(&tier), read_at);
    }
}
