//! The outbox: the unpublished events and their order. It keeps positions of the
//! log instead of events, so an event that waits for the broker costs a few dozen
//! bytes, and the number of events is bounded.
//!
//! A task has at most one unconfirmed event at the broker, so that its events
//! arrive in their order. The position that is reported to the log is below all
//! unconfirmed events.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::broker::Frontier;
use crate::engine::EventPosition;
use crate::task::{Moment, Seq, TaskId, Tier};

/// The most unpublished events. Beyond them, events wait in the log.
const MAX_UNPUBLISHED: usize = 65_536;
/// The first and the longest pause before an event is published again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pause before an event is published again whose message the broker refuses because of its
/// content. Only a changed limit of the broker can help, and each attempt costs a channel.
const REFUSED_PAUSE: Duration = Duration::from_mins(10);

/// An event that is not published yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingEvent {
    /// The position of the log entry that causes the publication. It orders the events.
    pub(super) order: Seq,
    /// The position of the event itself.
    pub(super) position: EventPosition,
    /// For a `task.ready`, the tier and the time of the dispatch.
    pub(super) ready: Option<(Tier, Moment)>,
    /// The number of failed attempts.
    pub(super) tries: u32,
    /// Whether the broker has refused the message because of its content. Such an event is
    /// published in a wave of its own.
    pub(super) is_refused: bool,
}

impl PendingEvent {
    /// Returns an event without attempts.
    pub(super) const fn new(order: Seq, position: EventPosition, ready: Option<(Tier, Moment)>) -> Self {
        Self { order, position, ready, tries: 0, is_refused: false }
    }

    fn key(&self) -> EventKey {
        EventKey { order: self.order, subject: self.subject() }
    }

    fn subject(&self) -> EventSubject {
        self.position.task.map_or(EventSubject::None(self.order), EventSubject::Task)
    }
}

/// The task of an event, whose events are published in order. An event without a task has no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum EventSubject {
    Task(TaskId),
    None(Seq),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EventKey {
    order: Seq,
    subject: EventSubject,
}

/// The unpublished events.
#[derive(Debug)]
pub(super) struct Outbox {
    read_to: Seq,
    /// The events of each task, in their order.
    events: HashMap<EventSubject, VecDeque<PendingEvent>>,
    /// First events of their tasks that can be published now.
    due: BTreeSet<EventKey>,
    /// First events of their tasks that wait until a time.
    later: BTreeSet<(Moment, EventKey)>,
    /// All events.
    unpublished: BTreeSet<EventKey>,
    /// The unpublished dispatches of each tier, by time.
    dispatches: BTreeMap<Tier, BTreeSet<(Moment, EventKey)>>,
}

impl Outbox {
    /// Returns an empty outbox for the log after a position.
    pub(super) fn new(read_to: Seq) -> Self {
        Self {
            read_to,
            events: HashMap::new(),
            due: BTreeSet::new(),
            later: BTreeSet::new(),
            unpublished: BTreeSet::new(),
            dispatches: BTreeMap::new(),
        }
    }

    /// Returns the position up to which the log was read.
    pub(super) const fn read_to(&self) -> Seq {
        self.read_to
    }

    /// Records that the log was read up to a position.
    pub(super) fn set_read_to(&mut self, position: Seq) {
        self.read_to = self.read_to.max(position);
    }

    /// Whether to read more of the log: less than a wave is due, and there is room.
    pub(super) fn has_room(&self, wave: usize) -> bool {
        self.due.len() < wave && self.unpublished.len() < MAX_UNPUBLISHED
    }

    /// Returns the position up to which all events are published.
    pub(super) fn published_to(&self) -> Seq {
        self.unpublished.first().map_or(self.read_to, |key| Seq(key.order.0.saturating_sub(1)))
    }

    /// Returns the number of events that wait after a failed attempt.
    pub(super) fn held_count(&self) -> usize {
        self.later.len()
    }

    /// Appends an event to those of its task. Returns whether it was not there.
    pub(super) fn push(&mut self, event: PendingEvent) -> bool {
        if !self.unpublished.insert(event.key()) {
            return false;
        }
        if let Some((tier, at)) = &event.ready {
            self.dispatches.entry(tier.clone()).or_default().insert((*at, event.key()));
        }
        let of_task = self.events.entry(event.subject()).or_default();
        if of_task.is_empty() {
            self.due.insert(event.key());
        }
        of_task.push_back(event);
        true
    }

    /// Takes the next events to publish, at most `max` and one of each task; a refused event is taken
    /// alone. The caller passes each event to [`Self::remove_published`], [`Self::requeue`],
    /// [`Self::retry_later`] or [`Self::hold_refused`].
    pub(super) fn take_due(&mut self, max: usize, now: Moment) -> Vec<PendingEvent> {
        while let Some(entry) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&entry);
            self.due.insert(entry.1);
        }
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(key) = self.due.first().copied() else { break };
            let front = self.events.get(&key.subject).and_then(VecDeque::front).cloned();
            let is_refused = front.as_ref().is_some_and(|front| front.is_refused);
            if is_refused && !taken.is_empty() {
                break;
            }
            self.due.remove(&key);
            taken.extend(front);
            if is_refused {
                break;
            }
        }
        taken
    }

    /// Returns the time at which the next waiting event is due.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Removes a published event. The next event of its task becomes due.
    pub(super) fn remove_published(&mut self, event: &PendingEvent) {
        self.unpublished.remove(&event.key());
        self.remove_dispatch(event);
        let Some(of_task) = self.events.get_mut(&event.subject()) else { return };
        of_task.pop_front();
        match of_task.front() {
            Some(next) => drop(self.due.insert(next.key())),
            None => drop(self.events.remove(&event.subject())),
        }
    }

    /// Makes an event due again at once, because the broker has not answered for it.
    pub(super) fn requeue(&mut self, event: &PendingEvent) {
        self.due.insert(event.key());
    }

    /// Makes an event due again after a pause that grows with each attempt, because the broker has
    /// returned or nacked its message.
    pub(super) fn retry_later(&mut self, event: &PendingEvent, now: Moment) {
        let front = self.events.get_mut(&event.subject()).and_then(VecDeque::front_mut);
        let tries = front.map_or(1, |front| {
            front.tries = front.tries.saturating_add(1);
            front.tries
        });
        let pause = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        self.later.insert((now.after(pause), event.key()));
    }

    /// Makes an event due again after a long pause, because the broker refuses its message for its
    /// content. Only the events of the same task wait for it. A dispatch counts as published, so
    /// that its deadline ends an attempt that can't reach a worker, and the deadlines of later
    /// dispatches begin.
    pub(super) fn hold_refused(&mut self, event: &PendingEvent, now: Moment) {
        if let Some(front) = self.events.get_mut(&event.subject()).and_then(VecDeque::front_mut) {
            front.is_refused = true;
            front.tries = front.tries.saturating_add(1);
        }
        self.remove_dispatch(event);
        self.later.insert((now.after(REFUSED_PAUSE), event.key()));
    }

    /// Removes an event from the unpublished dispatches.
    fn remove_dispatch(&mut self, event: &PendingEvent) {
        if let Some((tier, at)) = &event.ready
            && let Some(dispatches) = self.dispatches.get_mut(tier)
        {
            dispatches.remove(&(*at, event.key()));
            if dispatches.is_empty() {
                self.dispatches.remove(tier);
            }
        }
    }

    /// Returns how far publishing has come, for a log that was read up to the time `read_at`.
    pub(super) fn frontier(&self, read_at: Option<Moment>) -> Frontier {
        let oldest = self.dispatches.iter().filter_map(|(tier, all)| Some((tier.clone(), all.first()?.0)));
        Frontier { read_at, oldest_unpublished: oldest.collect() }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const NOW: Moment = Moment::from_micros(1_767_981_600_000_000);

    fn event(seq: u64, task: u128) -> PendingEvent {
        let position = EventPosition { seq: Seq(seq), task: Some(TaskId::new(Uuid::from_u128(task))) };
        PendingEvent::new(Seq(seq), position, None)
    }

    fn dispatch(seq: u64, task: u128) -> PendingEvent {
        let at = Moment::from_micros(NOW.as_micros() + i64::try_from(seq).unwrap());
        PendingEvent { ready: Some((Tier::new("small").unwrap(), at)), ..event(seq, task) }
    }

    fn orders(events: &[PendingEvent]) -> Vec<u64> {
        events.iter().map(|event| event.order.0).collect()
    }

    #[test]
    fn a_task_has_one_unconfirmed_event() {
        let mut outbox = Outbox::new(Seq(0));
        for event in [event(1, 1), event(2, 1), event(3, 2), event(5, 1)] {
            outbox.push(event);
        }
        outbox.set_read_to(Seq(6));
        let wave = outbox.take_due(10, NOW);
        assert_eq!(orders(&wave), [1, 3]);
        assert!(outbox.take_due(10, NOW).is_empty());
        outbox.remove_published(&wave[1]);
        assert_eq!(outbox.published_to(), Seq(0));
        outbox.remove_published(&wave[0]);
        assert_eq!(outbox.published_to(), Seq(1));
        let wave = outbox.take_due(1, NOW);
        assert_eq!(orders(&wave), [2]);
        outbox.remove_published(&wave[0]);
        let wave = outbox.take_due(1, NOW);
        outbox.remove_published(&wave[0]);
        assert_eq!((outbox.published_to(), outbox.unpublished.len()), (Seq(6), 0));
    }

    #[test]
    fn events_without_a_task_do_not_wait_for_each_other() {
        let mut outbox = Outbox::new(Seq(0));
        for seq in 1..=3 {
            let position = EventPosition { seq: Seq(seq), task: None };
            outbox.push(PendingEvent::new(Seq(seq), position, None));
        }
        let wave = outbox.take_due(10, NOW);
        assert_eq!(orders(&wave), [1, 2, 3]);
        outbox.retry_later(&wave[1], NOW);
        outbox.remove_published(&wave[0]);
        outbox.remove_published(&wave[2]);
        assert_eq!(outbox.published_to(), Seq(1));
    }

    #[test]
    fn a_returned_event_delays_only_its_task() {
        let mut outbox = Outbox::new(Seq(0));
        for event in [dispatch(1, 1), event(2, 1), dispatch(3, 2)] {
            outbox.push(event);
        }
        let wave = outbox.take_due(10, NOW);
        outbox.retry_later(&wave[0], NOW);
        outbox.remove_published(&wave[1]);
        assert_eq!((outbox.held_count(), outbox.published_to()), (1, Seq(0)));
        assert!(outbox.take_due(10, NOW).is_empty());
        let due = outbox.next_due().unwrap();
        let again = outbox.take_due(10, due);
        assert_eq!((orders(&again), again[0].tries), (vec![1], 1));
        outbox.retry_later(&again[0], due);
        assert!(outbox.next_due().unwrap().since(due) > due.since(NOW), "the pause does not grow");
        let again = outbox.take_due(10, due.after(LONGEST_PAUSE));
        outbox.requeue(&again[0]);
        assert_eq!(orders(&outbox.take_due(10, NOW)), [1]);
    }

    #[test]
    fn the_frontier_names_the_oldest_unpublished_dispatch() {
        let small = Tier::new("small").unwrap();
        let mut outbox = Outbox::new(Seq(0));
        let (first, second) = (dispatch(1, 1), dispatch(2, 2));
        outbox.push(first.clone());
        outbox.push(second.clone());
        let at = |event: &PendingEvent| event.ready.clone().map(|(_, at)| at);
        assert_eq!(outbox.frontier(Some(NOW)).oldest_unpublished.get(&small).copied(), at(&first));
        let wave = outbox.take_due(10, NOW);
        outbox.remove_published(&wave[0]);
        assert_eq!(outbox.frontier(Some(NOW)).oldest_unpublished.get(&small).copied(), at(&second));
        outbox.remove_published(&wave[1]);
        assert!(outbox.frontier(Some(NOW)).oldest_unpublished.is_empty());
    }

    #[test]
    fn a_refused_event_is_published_alone_and_delays_no_tier() {
        let small = Tier::new("small").unwrap();
        let mut outbox = Outbox::new(Seq(0));
        for event in [dispatch(1, 1), event(2, 1), dispatch(3, 2), event(4, 3)] {
            outbox.push(event);
        }
        let wave = outbox.take_due(1, NOW);
        outbox.hold_refused(&wave[0], NOW);
        let oldest = |outbox: &Outbox| outbox.frontier(Some(NOW)).oldest_unpublished.get(&small).copied();
        assert_eq!(oldest(&outbox), dispatch(3, 2).ready.map(|(_, at)| at), "the tier waits for a refused event");
        let later = NOW.after(REFUSED_PAUSE);
        assert_eq!((outbox.held_count(), outbox.published_to(), outbox.next_due()), (1, Seq(0), Some(later)));
        assert_eq!(orders(&outbox.take_due(10, NOW)), [3, 4]);
        outbox.push(event(5, 4));
        let again = outbox.take_due(10, later);
        assert_eq!((orders(&again), again[0].is_refused), (vec![1], true));
        assert_eq!(orders(&outbox.take_due(10, later)), [5], "a refused event is taken with others");
        outbox.remove_published(&again[0]);
        assert_eq!(orders(&outbox.take_due(10, later)), [2]);
    }

    #[test]
    fn the_number_of_unpublished_events_is_bounded() {
        let mut outbox = Outbox::new(Seq(0));
        for number in 1..=MAX_UNPUBLISHED {
            let number = u64::try_from(number).unwrap();
            outbox.push(event(number, number.into()));
            let wave = outbox.take_due(1, NOW);
            outbox.retry_later(&wave[0], NOW);
        }
        assert!(!outbox.has_room(10));
        assert_eq!(outbox.published_to(), Seq(0));
    }
}
