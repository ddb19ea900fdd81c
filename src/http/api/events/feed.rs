//! The newest events of the log, read and rendered once for all streams.
//!
//! One task, the pump, reads the events that each commit appended, renders each event that any stream
//! selects, and keeps it for a while. Only the streams that select an event are woken: they are indexed by
//! task and by project, and only the filters of streams without either are checked for every event. The
//! pump runs only while there are streams.
//!
//! A stream that falls behind occupies no memory here but its position. It reads the log itself until it
//! has caught up (`follow.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, LoggedEvent};
use crate::events::Envelope;
use crate::http::api::events::filter::EventFilter;
use crate::http::server::sse;
use crate::store::{LogEntry, PageBudget};
use crate::task::{ProjectId, Seq, TaskId};

/// The largest number of events that are kept.
const MAX_EVENTS: usize = 4096;
/// The largest number of bytes of events that are kept.
const MAX_BYTES: usize = 8 << 20;
/// The largest number of entries that the pump reads at once.
const CHUNK: usize = 256;
/// The approximate memory of an event beside its frame.
const EVENT_BYTES: usize = 256;

/// A rendered event.
#[derive(Debug)]
pub(in crate::http) struct Event {
    /// The position of the event in the log.
    pub(in crate::http) seq: Seq,
    /// The event in the wire format of server-sent events.
    pub(in crate::http) frame: Bytes,
    /// The entry for filters, without the text of the event.
    entry: LogEntry,
}

/// The result of [`Subscription::take`].
#[derive(Debug)]
pub(in crate::http) enum Found {
    /// No new events.
    Nothing,
    /// The next events of the stream, in order.
    Events(Vec<Arc<Event>>),
    /// The next events are no longer kept. The stream reads the log, after the first position at least up to
    /// the second.
    InLog(Seq, Seq),
    /// The log cannot be read, or the service stops.
    Ended,
}

/// The kept events and the streams that are subscribed to them.
#[derive(Debug, Default)]
pub(in crate::http) struct Feed {
    state: Mutex<State>,
    /// Notifies the pump of new subscribers.
    joining: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_pumping: bool,
    /// The position up to which the pump has read the log.
    read_to: Seq,
    /// The events that any stream selected, in order.
    recent: VecDeque<Arc<Event>>,
    recent_bytes: usize,
    /// Events up to this position may be missing from `recent`.
    missing_to: Seq,
    /// Streams that join before the next page is read. The pump filters a page while it reads it, so a
    /// stream that joined in between would miss events.
    joining: Vec<Arc<Subscriber>>,
    by_task: HashMap<TaskId, Vec<Arc<Subscriber>>>,
    by_project: HashMap<ProjectId, Vec<Arc<Subscriber>>>,
    others: Vec<Arc<Subscriber>>,
}

/// A stream that is subscribed to the feed.
#[derive(Debug)]
struct Subscriber {
    filter: EventFilter,
    changed: Notify,
    progress: Mutex<Progress>,
}

/// The progress of a subscriber. Its lock is taken inside the lock of [`State`].
#[derive(Debug, Default)]
struct Progress {
    /// The position after which events are announced; `None` until the pump admits the subscriber.
    since: Option<Seq>,
    /// The first announced event that the stream has not taken.
    first: Option<Seq>,
    has_ended: bool,
}

impl Subscriber {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscription of a stream, which ends when this is dropped.
#[derive(Debug)]
pub(in crate::http) struct Subscription {
    feed: Arc<Feed>,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// Waits until the pump admits the subscriber, and returns the position after which events are announced.
    /// Returns `None` if the feed has ended.
    pub(in crate::http) async fn admitted(&self) -> Option<Seq> {
        loop {
            {
                let progress = self.subscriber.progress();
                if progress.has_ended || progress.since.is_some() {
                    return progress.since.filter(|_| !progress.has_ended);
                }
            }
            self.subscriber.changed.notified().await;
        }
    }

    /// Completes when there may be events to take.
    pub(in crate::http) async fn changed(&self) {
        self.subscriber.changed.notified().await;
    }

    /// Returns the next events after a position, of about `bytes` bytes together.
    pub(in crate::http) fn take(&self, after: Seq, bytes: usize) -> Found {
        let state = self.feed.state();
        let mut progress = self.subscriber.progress();
        if progress.has_ended {
            return Found::Ended;
        }
        let Some(first) = progress.first else { return Found::Nothing };
        let from = first.max(after.next());
        if from <= state.missing_to {
            progress.first = None;
            return Found::InLog(Seq(from.0 - 1), state.read_to);
        }
        let (mut events, mut budget) = (Vec::new(), PageBudget::with_bytes(CHUNK, bytes));
        progress.first = None;
        let begin = state.recent.partition_point(|event| event.seq < from);
        for event in state.recent.range(begin..).filter(|event| self.subscriber.filter.matches(&event.entry)) {
            if !budget.admit(event.frame.len()) {
                progress.first = Some(event.seq);
                break;
            }
            events.push(event.clone());
        }
        if events.is_empty() { Found::Nothing } else { Found::Events(events) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.state().remove(&self.subscriber);
    }
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes a stream, and starts the pump if it does not run.
    pub(in crate::http) fn subscribe(
        self: &Arc<Self>,
        filter: EventFilter,
        engine: &Engine,
        envelope: Envelope,
        stopping: &CancellationToken,
    ) -> Subscription {
        let subscriber = Arc::new(Subscriber { filter, changed: Notify::new(), progress: Mutex::default() });
        let mut state = self.state();
        state.joining.push(subscriber.clone());
        if !std::mem::replace(&mut state.is_pumping, true) {
            let pump = Pump { feed: self.clone(), engine: engine.clone(), envelope };
            let stopping = stopping.clone();
            tokio::spawn(async move {
                let is_over = tokio::select! {
                    is_over = pump.run() => is_over,
                    () = stopping.cancelled() => false,
                };
                if !is_over {
                    pump.feed.state().end();
                }
            });
        }
        drop(state);
        self.joining.notify_one();
        Subscription { feed: self.clone(), subscriber }
    }

    /// Whether any stream selects an entry.
    fn is_selected(&self, entry: &LogEntry) -> bool {
        self.state().subscribers(entry).any(|subscriber| subscriber.filter.matches(entry))
    }
}

impl State {
    /// Returns the subscribers that may select an entry.
    fn subscribers(&self, entry: &LogEntry) -> impl Iterator<Item = &Arc<Subscriber>> {
        let of_task = entry.task().and_then(|task| self.by_task.get(&task));
        let of_project = self.by_project.get(&entry.project);
        of_task.into_iter().chain(of_project).chain(std::iter::once(&self.others)).flatten()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Subscriber>> {
        let known = self.by_task.values().chain(self.by_project.values()).flatten();
        known.chain(&self.others).chain(&self.joining)
    }

    /// Admits the waiting subscribers. Returns whether there are any subscribers.
    fn admit(&mut self) -> bool {
        for subscriber in std::mem::take(&mut self.joining) {
            subscriber.progress().since = Some(self.read_to);
            subscriber.changed.notify_one();
            match (subscriber.filter.task, &subscriber.filter.project) {
                (Some(task), _) => self.by_task.entry(task).or_default().push(subscriber),
                (None, Some(project)) => self.by_project.entry(project.clone()).or_default().push(subscriber),
                (None, None) => self.others.push(subscriber),
            }
        }
        !(self.by_task.is_empty() && self.by_project.is_empty() && self.others.is_empty())
    }

    fn remove(&mut self, gone: &Arc<Subscriber>) {
        let stays = |subscriber: &Arc<Subscriber>| !Arc::ptr_eq(subscriber, gone);
        self.joining.retain(stays);
        match (gone.filter.task, &gone.filter.project) {
            (Some(task), _) => {
                if let Some(subscribers) = self.by_task.get_mut(&task) {
                    subscribers.retain(stays);
                    if subscribers.is_empty() {
                        self.by_task.remove(&task);
                    }
                }
            }
            (None, Some(project)) => {
                if let Some(subscribers) = self.by_project.get_mut(project) {
                    subscribers.retain(stays);
                    if subscribers.is_empty() {
                        self.by_project.remove(project);
                    }
                }
            }
            (None, None) => self.others.retain(stays),
        }
    }

    /// Keeps an event, and announces it to the subscribers that select it.
    fn put(&mut self, event: Event) {
        for subscriber in self.subscribers(&event.entry).filter(|subscriber| subscriber.filter.matches(&event.entry)) {
            subscriber.progress().first.get_or_insert(event.seq);
            subscriber.changed.notify_one();
        }
        self.recent_bytes += event.frame.len() + EVENT_BYTES;
        self.recent.push_back(Arc::new(event));
        while self.recent.len() > MAX_EVENTS || self.recent_bytes > MAX_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.frame.len() + EVENT_BYTES;
            self.missing_to = oldest.seq;
        }
    }

    /// Sends all subscribers to the log for the events between two positions, which the pump could not read.
    fn skip(&mut self, from: Seq, to: Seq) {
        self.missing_to = to;
        for subscriber in self.all() {
            subscriber.progress().first.get_or_insert(from.next());
            subscriber.changed.notify_one();
        }
    }

    /// Ends every stream and resets the feed for the next one.
    fn end(&mut self) {
        for subscriber in self.all() {
            subscriber.progress().has_ended = true;
            subscriber.changed.notify_one();
        }
        *self = Self::default();
    }
}

/// Reads the log for all subscribers.
struct Pump {
    feed: Arc<Feed>,
    engine: Engine,
    envelope: Envelope,
}

impl Pump {
    /// Runs until there are no subscribers (`true`, the feed has ended too) or until the log cannot be read
    /// (`false`).
    async fn run(&self) -> bool {
        let mut head = self.engine.log().head();
        {
            let mut state = self.feed.state();
            state.read_to = *head.borrow();
            state.missing_to = state.read_to;
        }
        loop {
            let newest = *head.borrow_and_update();
            let read_to = {
                let mut state = self.feed.state();
                if !state.admit() {
                    // Under the lock, so that the next subscriber starts another pump.
                    state.end();
                    return true;
                }
                state.read_to
            };
            if read_to < newest {
                if self.read(read_to).await.is_none() {
                    return false;
                }
                continue;
            }
            tokio::select! {
                changed = head.changed() => if changed.is_err() { return false },
                () = self.feed.joining.notified() => {}
            }
        }
    }

    /// Reads a page of the log. Returns `None` if the log cannot be read.
    async fn read(&self, after: Seq) -> Option<()> {
        let feed = self.feed.clone();
        let read = self.engine.log().page(after, CHUNK, move |entry| feed.is_selected(entry)).await;
        let page = read
            .inspect_err(|error| tracing::warn!(%error, "event streams end because the log cannot be read"))
            .ok()?;
        let events: Vec<Event> = page.entries.into_iter().filter_map(|logged| self.event(logged)).collect();
        let mut state = self.feed.state();
        if page.reset.is_some() {
            state.skip(after, page.read_to);
        }
        for event in events {
            state.put(event);
        }
        state.read_to = page.read_to.max(after);
        Some(())
    }

    fn event(&self, logged: LoggedEvent) -> Option<Event> {
        let frame = sse::frame(logged.seq.0, logged.entry.change.name(), &self.envelope.render(&logged)?);
        Some(Event { seq: logged.seq, frame: frame.into(), entry: LogEntry { event: None, ..logged.entry } })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::{About, Standing};
    use crate::task::{Change, Moment, Phase, Status, Timestamp};

    fn event(seq: u64, task: u128, project: &str, bytes: usize) -> Event {
        let about = About::Task(Standing {
            task: TaskId::new(Uuid::from_u128(task)),
            version: 1,
            status: Status::Pending,
            phase: Phase::Queued,
            attempt: 0,
        });
        let (at, project) = (Timestamp::from_micros(0), ProjectId::new(project).unwrap());
        let entry = LogEntry {
            at,
            project,
            about,
            change: Change::Created,
            event: None,
            on_bus: false,
            observed: Moment::default(),
        };
        Event { seq: Seq(seq), frame: vec![b'x'; bytes].into(), entry }
    }

    fn of_task(task: u128) -> EventFilter {
        EventFilter { task: Some(TaskId::new(Uuid::from_u128(task))), ..EventFilter::default() }
    }

    fn of_project(project: &str) -> EventFilter {
        EventFilter { project: Some(ProjectId::new(project).unwrap()), ..EventFilter::default() }
    }

    /// Subscribes without a pump.
    fn subscribe(feed: &Arc<Feed>, filter: EventFilter) -> Subscription {
        let subscriber = Arc::new(Subscriber { filter, changed: Notify::new(), progress: Mutex::default() });
        let mut state = feed.state();
        state.joining.push(subscriber.clone());
        assert!(state.admit());
        Subscription { feed: feed.clone(), subscriber }
    }

    fn put(feed: &Arc<Feed>, event: Event) {
        let mut state = feed.state();
        state.read_to = event.seq;
        state.put(event);
    }

    fn taken(subscription: &Subscription, after: u64) -> Vec<u64> {
        match subscription.take(Seq(after), 1 << 20) {
            Found::Events(events) => events.iter().map(|event| event.seq.0).collect(),
            Found::Nothing => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn is_announced(subscription: &Subscription) -> bool {
        subscription.subscriber.progress().first.is_some()
    }

    #[test]
    fn an_event_is_announced_only_to_subscribers_that_select_it() {
        let feed = Arc::new(Feed::default());
        let [one, other] = [1, 2].map(|task| subscribe(&feed, of_task(task)));
        let (p, q) = (subscribe(&feed, of_project("p")), subscribe(&feed, of_project("q")));
        let all = subscribe(&feed, EventFilter::default());
        put(&feed, event(5, 1, "p", 10));
        assert!([&one, &p, &all].into_iter().all(is_announced));
        assert!(![&other, &q].into_iter().any(is_announced));
        assert_eq!((taken(&one, 0), taken(&p, 0), taken(&all, 0)), (vec![5], vec![5], vec![5]));
        assert_eq!((taken(&one, 5), taken(&other, 0)), (vec![], vec![]));
        // An event that was read from the log is not taken again.
        put(&feed, event(6, 1, "p", 10));
        put(&feed, event(7, 1, "p", 10));
        assert_eq!((taken(&one, 6), taken(&all, 7)), (vec![7], vec![]));
    }

    #[test]
    fn a_batch_is_bounded_and_the_rest_stays_announced() {
        let feed = Arc::new(Feed::default());
        let all = subscribe(&feed, EventFilter::default());
        for seq in 1..=5 {
            put(&feed, event(seq, 1, "p", 400));
        }
        let mut after = 0;
        for expected in [[1, 2], [3, 4]] {
            let Found::Events(events) = all.take(Seq(after), 1000) else { panic!("no events") };
            assert_eq!(events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), expected);
            after = expected[1];
        }
        assert_eq!(taken(&all, after), [5]);
    }

    #[test]
    fn dropped_events_are_read_from_the_log() {
        let feed = Arc::new(Feed::default());
        let (slow, quick) = (subscribe(&feed, of_task(1)), subscribe(&feed, of_task(1)));
        for seq in 1..=20 {
            put(&feed, event(seq, 1, "p", 1 << 20));
        }
        assert!(feed.state().recent_bytes <= MAX_BYTES && feed.state().recent.len() == 7);
        assert!(matches!(slow.take(Seq(0), 1 << 30), Found::InLog(Seq(0), Seq(20))));
        assert_eq!(taken(&slow, 20), [0; 0]);
        assert!(matches!(quick.take(Seq(13), 1 << 30), Found::Events(events) if events.len() == 7));
        for seq in 21..=21 + u64::try_from(MAX_EVENTS).unwrap() {
            put(&feed, event(seq, 1, "p", 1));
        }
        assert_eq!(feed.state().recent.len(), MAX_EVENTS);
    }

    #[test]
    fn a_dropped_subscription_leaves_nothing_behind() {
        let feed = Arc::new(Feed::default());
        let subscription = [of_task(1), of_project("p"), EventFilter::default()].map(|filter| subscribe(&feed, filter));
        feed.state().end();
        assert!(subscription.iter().all(|each| matches!(each.take(Seq(0), 1), Found::Ended)));
        let subscription = [of_task(1), of_project("p"), EventFilter::default()].map(|filter| subscribe(&feed, filter));
        drop(subscription);
        let mut state = feed.state();
        assert!(!state.admit() && state.all().next().is_none());
    }
}
