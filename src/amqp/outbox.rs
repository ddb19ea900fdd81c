//! Which events are to be published next. It keeps positions, not events: what
//! waits for a broker that is away costs a few dozen bytes an event, and only
//! so many of them.
//!
//! A task has at most one event under way, so that its events reach the broker
//! in their order. The place that is reported to the log is below everything
//! that is not confirmed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::broker::Frontier;
use crate::engine::Position;
use crate::task::{Moment, Seq, TaskId, Tier};

/// Most events that are known and not published. When so many are held back
/// by what no queue takes, the rest waits in the log.
const MOST_HELD: usize = 65_536;
/// First and longest pause before an event is published again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pause before an event is published again whose message the broker refuses for
/// itself: nothing but a changed limit of the broker can help it, and each try
/// costs a channel.
const REFUSED_PAUSE: Duration = Duration::from_mins(10);

/// An event that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its place among the others: the position of what makes it be published.
    pub(super) order: Seq,
    /// Where it stands itself.
    pub(super) position: Position,
    /// For a `task.ready`: its tier, and when it was dispatched.
    pub(super) ready: Option<(Tier, Moment)>,
    /// How often it was published in vain.
    pub(super) tries: u32,
    /// Whether the broker refuses its message for itself: then it is published alone.
    pub(super) is_refused: bool,
}

impl Event {
    /// An event that was not published yet.
    pub(super) const fn new(order: Seq, position: Position, ready: Option<(Tier, Moment)>) -> Self {
        Self { order, position, ready, tries: 0, is_refused: false }
    }

    fn key(&self) -> (Seq, Line) {
        (self.order, self.line())
    }

    fn line(&self) -> Line {
        self.position.task.map_or(Line::Alone(self.order), Line::Task)
    }
}

/// What must keep its order: the events of a task. One that is about no task
/// is a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Line {
    Task(TaskId),
    Alone(Seq),
}

/// The events that are known and not published.
#[derive(Debug)]
pub(super) struct Outbox {
    read_to: Seq,
    lines: HashMap<Line, VecDeque<Event>>,
    /// First events of their tasks that can be published now.
    due: BTreeSet<(Seq, Line)>,
    /// First events of their tasks that are to wait a while.
    later: BTreeSet<(Moment, Seq, Line)>,
    /// All of them.
    unpublished: BTreeSet<(Seq, Line)>,
    dispatches: BTreeMap<Tier, BTreeSet<(Moment, Seq, Line)>>,
}

impl Outbox {
    /// One that goes on behind a position of the log.
    pub(super) fn new(read_to: Seq) -> Self {
        Self {
            read_to,
            lines: HashMap::new(),
            due: BTreeSet::new(),
            later: BTreeSet::new(),
            unpublished: BTreeSet::new(),
            dispatches: BTreeMap::new(),
        }
    }

    /// Up to where the log was read.
    pub(super) const fn read_to(&self) -> Seq {
        self.read_to
    }

    /// The log was read up to here.
    pub(super) fn note_read(&mut self, position: Seq) {
        self.read_to = self.read_to.max(position);
    }

    /// Whether more of the log is to be read: less than a wave is due, and
    /// there is room.
    pub(super) fn wants_more(&self, wave: usize) -> bool {
        self.due.len() < wave && self.unpublished.len() < MOST_HELD
    }

    /// Everything up to here is published.
    pub(super) fn place(&self) -> Seq {
        self.unpublished.first().map_or(self.read_to, |(order, _)| Seq(order.0.saturating_sub(1)))
    }

    /// How many events have been published in vain and wait.
    pub(super) fn held(&self) -> usize {
        self.later.len()
    }

    /// Adds an event behind those of its task. Whether it was not known.
    pub(super) fn push(&mut self, event: Event) -> bool {
        if !self.unpublished.insert(event.key()) {
            return false;
        }
        if let Some((tier, at)) = &event.ready {
            let (order, line) = event.key();
            self.dispatches.entry(tier.clone()).or_default().insert((*at, order, line));
        }
        let line = self.lines.entry(event.line()).or_default();
        if line.is_empty() {
            self.due.insert(event.key());
        }
        line.push_back(event);
        true
    }

    /// The next events to publish, one a task, at most `most`; one that was refused
    /// for itself comes alone. Each must be told of with [`Self::published`],
    /// [`Self::again`] or [`Self::hold`].
    pub(super) fn take(&mut self, most: usize, now: Moment) -> Vec<Event> {
        while let Some(entry) = self.later.first().copied().filter(|(at, ..)| *at <= now) {
            self.later.remove(&entry);
            self.due.insert((entry.1, entry.2));
        }
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(key) = self.due.first().copied() else { break };
            let front = self.lines.get(&key.1).and_then(VecDeque::front).cloned();
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

    /// When the next one that waits is due.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.later.first().map(|(at, ..)| *at)
    }

    /// An event is published: the next one of its task follows.
    pub(super) fn published(&mut self, event: &Event) {
        self.unpublished.remove(&event.key());
        self.remove_dispatch(event);
        let Some(line) = self.lines.get_mut(&event.line()) else { return };
        line.pop_front();
        match line.front() {
            Some(next) => drop(self.due.insert(next.key())),
            None => drop(self.lines.remove(&event.line())),
        }
    }

    /// An event is to be published again: at once where nobody has refused
    /// it, else after a pause that grows with each try.
    pub(super) fn again(&mut self, event: &Event, refused: bool, now: Moment) {
        let (order, line) = event.key();
        if !refused {
            self.due.insert((order, line));
            return;
        }
        let front = self.lines.get_mut(&line).and_then(VecDeque::front_mut);
        let tries = front.map_or(1, |front| {
            front.tries = front.tries.saturating_add(1);
            front.tries
        });
        let pause = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        self.later.insert((now.after(pause), order, line));
    }

    /// The broker refuses the message of an event for itself. It is published again
    /// after a long pause, and holds up no event but those of its task. A dispatch
    /// counts as made: its deadline ends an attempt that can't reach a worker, and
    /// those behind it are not held up.
    pub(super) fn hold(&mut self, event: &Event, now: Moment) {
        let (order, line) = event.key();
        if let Some(front) = self.lines.get_mut(&line).and_then(VecDeque::front_mut) {
            front.is_refused = true;
            front.tries = front.tries.saturating_add(1);
        }
        self.remove_dispatch(event);
        self.later.insert((now.after(REFUSED_PAUSE), order, line));
    }

    /// Removes an event from the dispatches that wait for the broker.
    fn remove_dispatch(&mut self, event: &Event) {
        if let Some((tier, at)) = &event.ready
            && let Some(dispatches) = self.dispatches.get_mut(tier)
        {
            let (order, line) = event.key();
            dispatches.remove(&(*at, order, line));
            if dispatches.is_empty() {
                self.dispatches.remove(tier);
            }
        }
    }

    /// How far publishing is, when the log was read to its end as it was at
    /// `read_at`.
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

    fn event(seq: u64, task: u128) -> Event {
        let position = Position { seq: Seq(seq), task: Some(TaskId::new(Uuid::from_u128(task))) };
        Event::new(Seq(seq), position, None)
    }

    fn dispatch(seq: u64, task: u128) -> Event {
        let at = Moment::from_micros(NOW.as_micros() + i64::try_from(seq).unwrap());
        Event { ready: Some((Tier::new("small").unwrap(), at)), ..event(seq, task) }
    }

    fn orders(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.order.0).collect()
    }

    #[test]
    fn a_task_has_one_event_under_way() {
        let mut outbox = Outbox::new(Seq(0));
        for event in [event(1, 1), event(2, 1), event(3, 2), event(5, 1)] {
            outbox.push(event);
        }
        outbox.note_read(Seq(6));
        let wave = outbox.take(10, NOW);
        assert_eq!(orders(&wave), [1, 3]);
        assert!(outbox.take(10, NOW).is_empty());
        outbox.published(&wave[1]);
        assert_eq!(outbox.place(), Seq(0));
        outbox.published(&wave[0]);
        assert_eq!(outbox.place(), Seq(1));
        let wave = outbox.take(1, NOW);
        assert_eq!(orders(&wave), [2]);
        outbox.published(&wave[0]);
        let wave = outbox.take(1, NOW);
        outbox.published(&wave[0]);
        assert_eq!((outbox.place(), outbox.unpublished.len()), (Seq(6), 0));
    }

    #[test]
    fn what_is_about_no_task_waits_for_nothing() {
        let mut outbox = Outbox::new(Seq(0));
        for seq in 1..=3 {
            let position = Position { seq: Seq(seq), task: None };
            outbox.push(Event::new(Seq(seq), position, None));
        }
        let wave = outbox.take(10, NOW);
        assert_eq!(orders(&wave), [1, 2, 3]);
        outbox.again(&wave[1], true, NOW);
        outbox.published(&wave[0]);
        outbox.published(&wave[2]);
        assert_eq!(outbox.place(), Seq(1));
    }

    #[test]
    fn what_is_refused_holds_up_its_task_alone() {
        let mut outbox = Outbox::new(Seq(0));
        for event in [dispatch(1, 1), event(2, 1), dispatch(3, 2)] {
            outbox.push(event);
        }
        let wave = outbox.take(10, NOW);
        outbox.again(&wave[0], true, NOW);
        outbox.published(&wave[1]);
        assert_eq!((outbox.held(), outbox.place()), (1, Seq(0)));
        assert!(outbox.take(10, NOW).is_empty());
        let due = outbox.next_due().unwrap();
        let again = outbox.take(10, due);
        assert_eq!((orders(&again), again[0].tries), (vec![1], 1));
        outbox.again(&again[0], true, due);
        assert!(outbox.next_due().unwrap().since(due) > due.since(NOW), "the pause does not grow");
        let again = outbox.take(10, due.after(LONGEST_PAUSE));
        outbox.again(&again[0], false, NOW);
        assert_eq!(orders(&outbox.take(10, NOW)), [1]);
    }

    #[test]
    fn it_tells_which_dispatches_are_out() {
        let small = Tier::new("small").unwrap();
        let mut outbox = Outbox::new(Seq(0));
        let (first, second) = (dispatch(1, 1), dispatch(2, 2));
        outbox.push(first.clone());
        outbox.push(second.clone());
        let at = |event: &Event| event.ready.clone().map(|(_, at)| at);
        assert_eq!(outbox.frontier(Some(NOW)).oldest_unpublished.get(&small).copied(), at(&first));
        let wave = outbox.take(10, NOW);
        outbox.published(&wave[0]);
        assert_eq!(outbox.frontier(Some(NOW)).oldest_unpublished.get(&small).copied(), at(&second));
        outbox.published(&wave[1]);
        assert!(outbox.frontier(Some(NOW)).oldest_unpublished.is_empty());
    }

    #[test]
    fn what_is_refused_for_itself_goes_alone_and_holds_up_no_tier() {
        let small = Tier::new("small").unwrap();
        let mut outbox = Outbox::new(Seq(0));
        for event in [dispatch(1, 1), event(2, 1), dispatch(3, 2), event(4, 3)] {
            outbox.push(event);
        }
        let wave = outbox.take(1, NOW);
        outbox.hold(&wave[0], NOW);
        let oldest = |outbox: &Outbox| outbox.frontier(Some(NOW)).oldest_unpublished.get(&small).copied();
        assert_eq!(oldest(&outbox), dispatch(3, 2).ready.map(|(_, at)| at), "a tier waits for what is refused");
        let later = NOW.after(REFUSED_PAUSE);
        assert_eq!((outbox.held(), outbox.place(), outbox.next_due()), (1, Seq(0), Some(later)));
        assert_eq!(orders(&outbox.take(10, NOW)), [3, 4]);
        outbox.push(event(5, 4));
        let again = outbox.take(10, later);
        assert_eq!((orders(&again), again[0].is_refused), (vec![1], true));
        assert_eq!(orders(&outbox.take(10, later)), [5], "it comes with others");
        outbox.published(&again[0]);
        assert_eq!(orders(&outbox.take(10, later)), [2]);
    }

    #[test]
    fn there_is_an_end_to_what_it_keeps() {
        let mut outbox = Outbox::new(Seq(0));
        for number in 1..=MOST_HELD {
            let number = u64::try_from(number).unwrap();
            outbox.push(event(number, number.into()));
            let wave = outbox.take(1, NOW);
            outbox.again(&wave[0], true, NOW);
        }
        assert!(!outbox.wants_more(10));
        assert_eq!(outbox.place(), Seq(0));
    }
}
