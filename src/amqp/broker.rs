//! What the rest of the service sees of the broker: how the connections are,
//! what went over them, and what went wrong last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::engine::Position;
use crate::task::{Moment, Tier, Timestamp};

/// What the rest of the service sees of the broker.
#[derive(Debug)]
pub struct Broker {
    address: String,
    clock: Clock,
    state: Mutex<State>,
    /// Whether a work queue of ours was found to be gone since it was last asked for.
    is_queue_missing: AtomicBool,
}

#[derive(Debug)]
struct State {
    figures: Figures,
    frontier: Frontier,
    /// What has gone from its work queue, each once however long publishing waits: at
    /// most what projects have slots for.
    lost: BTreeMap<Position, Lost>,
}

/// A dispatched task that has gone from its work queue.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    /// Where its `task.ready` stands.
    pub(super) position: Position,
    /// Its tier.
    pub(super) tier: Tier,
    /// When it was dispatched.
    pub(super) at: Moment,
}

/// Which dispatches are known to be at the broker: those before `read_at`,
/// unless their tier has older ones that are not.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    pub(super) read_at: Option<Moment>,
    pub(super) oldest_unpublished: BTreeMap<Tier, Moment>,
}

/// How the two connections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected; it is tried again and again.
    Away,
    /// Connected.
    Connected,
    /// Connected, but the broker takes no messages for lack of memory or disk.
    Blocked,
    /// The broker refuses what this service declares or who it is: a setting
    /// is wrong, here or there.
    Refused,
    /// Connected, but messages wait here: the disk has no room for them.
    StorageFull,
    /// Connected, but messages wait here: the disk fails to take them, or the
    /// store can't be read.
    StorageFailed,
}

impl LinkState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Away, Self::Connected, Self::Blocked, Self::Refused, Self::StorageFull, Self::StorageFailed];

    /// The word on the wire.
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

/// One of the connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFigures {
    /// How it is.
    pub state: LinkState,
    /// Since when.
    pub since: Timestamp,
    /// What went wrong last, and when.
    pub last_error: Option<(Timestamp, String)>,
    /// How often it was made.
    pub connects: u64,
}

/// Figures for metrics and health, counted since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The connection that publishes.
    pub publisher: LinkFigures,
    /// The connection that consumes.
    pub consumer: LinkFigures,
    /// Messages that the broker has confirmed.
    pub published: u64,
    /// Messages that no queue took, where one must: published again.
    pub returned: u64,
    /// Messages that the broker refused: published again.
    pub nacked: u64,
    /// Messages that the broker refused for themselves, such as one above its limit:
    /// published again much later.
    pub refused: u64,
    /// Events that came back or were refused and wait for their next turn.
    pub held: u64,
    /// Messages that were consumed and had their effect, or need none.
    pub consumed: u64,
    /// Messages that could not be taken.
    pub dead_lettered: u64,
    /// Tasks that wait for workers at the broker, by tier, as last counted.
    pub waiting: BTreeMap<Tier, Waiting>,
}

/// What a work queue was last seen to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Messages that no worker has.
    pub ready: u32,
    /// Workers that are there.
    pub consumers: u32,
}

impl Figures {
    /// The worse of the two connections.
    #[must_use]
    pub fn state(&self) -> LinkState {
        let (publisher, consumer) = (self.publisher.state, self.consumer.state);
        if publisher.severity() >= consumer.severity() { publisher } else { consumer }
    }

    /// What went wrong last on either.
    #[must_use]
    pub fn last_error(&self) -> Option<&(Timestamp, String)> {
        [&self.publisher, &self.consumer].into_iter().filter_map(|link| link.last_error.as_ref()).max_by_key(|e| e.0)
    }
}

/// Which connection.
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
    /// One that is not connected yet. `address` is shown to people.
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

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The figures now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts something.
    pub(super) fn count(&self, count: impl FnOnce(&mut Figures)) {
        count(&mut self.lock().figures);
    }

    /// A connection is in this state now. Whether that is new.
    pub(super) fn note_state(&self, side: Side, now_in: LinkState) -> bool {
        let now = self.clock.wall();
        let mut state = self.lock();
        let link = state.figures.link(side);
        if link.state == now_in {
            return false;
        }
        let before = std::mem::replace(&mut link.state, now_in);
        let was_connected = matches!(before, LinkState::Blocked | LinkState::StorageFull | LinkState::StorageFailed);
        link.since = now;
        link.connects += u64::from(now_in == LinkState::Connected && !was_connected);
        drop(state);
        match now_in {
            LinkState::Connected if was_connected => {
                tracing::info!(side = side.as_str(), address = self.address, "messages are taken again");
            }
            LinkState::Connected => {
                tracing::info!(side = side.as_str(), address = self.address, "connected to RabbitMQ");
            }
            LinkState::Blocked => tracing::warn!(
                side = side.as_str(),
                address = self.address,
                "RabbitMQ takes no messages for lack of memory or disk; publishing waits"
            ),
            // What went wrong is told by who saw it.
            LinkState::Away | LinkState::Refused | LinkState::StorageFull | LinkState::StorageFailed => {}
        }
        true
    }

    /// A connection failed. Whether that is news: another error than the last
    /// one, or the first after it worked.
    pub(super) fn note_error(&self, side: Side, now_in: LinkState, message: String) -> bool {
        let now = self.clock.wall();
        let is_new = self.note_state(side, now_in);
        let mut state = self.lock();
        let last = &mut state.figures.link(side).last_error;
        let is_other = last.as_ref().is_none_or(|(_, known)| *known != message);
        *last = Some((now, message));
        is_new || is_other
    }

    /// A work queue that this service declares is not there.
    pub(super) fn note_missing_queue(&self) {
        self.is_queue_missing.store(true, Ordering::Relaxed);
    }

    /// Whether that was so since this was last asked for.
    pub(super) fn take_missing_queue(&self) -> bool {
        self.is_queue_missing.swap(false, Ordering::Relaxed)
    }

    /// Tasks have gone from their work queues.
    pub(super) fn publish_again(&self, lost: Vec<Lost>) {
        self.lock().lost.extend(lost.into_iter().map(|lost| (lost.position, lost)));
    }

    /// Returns the tasks that were lost and do not stand in the outbox yet.
    pub(super) fn lost(&self) -> Vec<Lost> {
        self.lock().lost.values().cloned().collect()
    }

    /// Removes lost tasks that stand in the outbox from now on.
    pub(super) fn forget_lost(&self, found: &[Lost]) {
        let mut state = self.lock();
        for lost in found {
            state.lost.remove(&lost.position);
        }
    }

    /// How far publishing is.
    pub(super) fn note_frontier(&self, frontier: Frontier) {
        self.lock().frontier = frontier;
    }

    /// The time before which every dispatch of a tier is at the broker, as far as is
    /// known: what is lost is not, until it is published again.
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

    /// Counted each minute, while publishing is blocked for days.
    #[test]
    fn what_is_lost_is_kept_once() {
        let broker = Broker::new("here".to_owned(), Clock::new());
        let tier = Tier::new("small").unwrap();
        let lost = |seq| {
            let task = Some(TaskId::from_bytes([u8::try_from(seq).unwrap(); 16]));
            Lost { position: Position { seq: Seq(seq), task }, tier: tier.clone(), at: Moment::from_micros(5) }
        };
        for _ in 0..1000 {
            broker.publish_again(vec![lost(2), lost(1)]);
        }
        let read_at = Some(Moment::from_micros(9));
        broker.note_frontier(Frontier { read_at, oldest_unpublished: BTreeMap::new() });
        let other = Tier::new("large").unwrap();
        assert_eq!(broker.published_before(&tier), Some(Moment::from_micros(5)), "its deadline would run");
        assert_eq!(broker.published_before(&other), read_at);
        let all = broker.lost();
        let positions: Vec<u64> = all.iter().map(|lost| lost.position.seq.0).collect();
        assert_eq!(positions, [1, 2]);
        broker.forget_lost(&all);
        assert!(broker.lost().is_empty());
        assert_eq!(broker.published_before(&tier), read_at);
    }
}
