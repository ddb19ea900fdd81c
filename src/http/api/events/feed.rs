//! The newest events of the log, read once for all streams that follow it.
//!
//! One task, the pump, reads what each commit has added, renders an event that
//! any stream wants, once, and keeps it for a while. A stream is woken by its
//! own events alone: it is found by its task or its project, and only streams
//! that want neither are asked about every event. While nobody follows the
//! log there is no pump.
//!
//! A stream that does not keep up holds nothing here but its position: it
//! reads the log by itself and comes back (`events_out.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Logged};
use crate::events::Envelope;
use crate::http::api::events::filter::Wanted;
use crate::http::server::sse;
use crate::store::{LogEntry, PageBudget};
use crate::task::{ProjectId, Seq, TaskId};

/// Most events that are kept.
const MOST_EVENTS: usize = 4096;
/// Most bytes of them.
const MOST_BYTES: usize = 8 << 20;
/// Entries that the pump reads at once.
const CHUNK: usize = 256;
/// What an event takes beside its text, about.
const EVENT_BYTES: usize = 256;

/// An event as streams get it.
#[derive(Debug)]
pub(in crate::http) struct Event {
    /// Its position.
    pub(in crate::http) seq: Seq,
    /// Its lines on the wire.
    pub(in crate::http) frame: Bytes,
    /// What filters are held against; without the text of the event.
    entry: LogEntry,
}

/// What a stream finds when it looks for its events.
#[derive(Debug)]
pub(in crate::http) enum Found {
    /// Nothing since it last looked.
    Nothing,
    /// Its next events, in order.
    Events(Vec<Arc<Event>>),
    /// They are not kept any more: to be read from the log, after the first
    /// position at least up to the second.
    InLog(Seq, Seq),
    /// The log can't be read, or the service stops.
    Ended,
}

/// The events and who wants them.
#[derive(Debug, Default)]
pub(in crate::http) struct Feed {
    state: Mutex<State>,
    /// Tells the pump that somebody joins.
    joining: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_pumping: bool,
    /// Up to where the log was read.
    read_to: Seq,
    /// What any stream wanted of it, in order.
    recent: VecDeque<Arc<Event>>,
    recent_bytes: usize,
    /// Events up to this position may be missing from `recent`.
    missing_to: Seq,
    /// Streams that join when the next page is begun: events are asked for only
    /// while a page is read, and a stream that came in the middle would miss some.
    joining: Vec<Arc<Follower>>,
    by_task: HashMap<TaskId, Vec<Arc<Follower>>>,
    by_project: HashMap<ProjectId, Vec<Arc<Follower>>>,
    others: Vec<Arc<Follower>>,
}

/// A stream, as the feed knows it.
#[derive(Debug)]
struct Follower {
    wanted: Wanted,
    changed: Notify,
    place: Mutex<Place>,
}

/// Where a stream is. Locked inside the lock of [`State`].
#[derive(Debug, Default)]
struct Place {
    /// From which position on its events are announced.
    since: Option<Seq>,
    /// The first event that was announced and not yet taken.
    first: Option<Seq>,
    has_ended: bool,
}

impl Follower {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream's part in the feed; dropping it leaves the feed.
#[derive(Debug)]
pub(in crate::http) struct Following {
    feed: Arc<Feed>,
    follower: Arc<Follower>,
}

impl Following {
    /// Waits until events are announced, and gives the position after which
    /// they are. `None`: the feed has ended.
    pub(in crate::http) async fn since(&self) -> Option<Seq> {
        loop {
            {
                let place = self.follower.place();
                if place.has_ended || place.since.is_some() {
                    return place.since.filter(|_| !place.has_ended);
                }
            }
            self.follower.changed.notified().await;
        }
    }

    /// Completes when there may be something to take.
    pub(in crate::http) async fn changed(&self) {
        self.follower.changed.notified().await;
    }

    /// The next events after a position, about `bytes` of them.
    pub(in crate::http) fn take(&self, after: Seq, bytes: usize) -> Found {
        let state = self.feed.state();
        let mut place = self.follower.place();
        if place.has_ended {
            return Found::Ended;
        }
        let Some(first) = place.first else { return Found::Nothing };
        let from = first.max(after.next());
        if from <= state.missing_to {
            place.first = None;
            return Found::InLog(Seq(from.0 - 1), state.read_to);
        }
        let (mut events, mut budget) = (Vec::new(), PageBudget::with_bytes(CHUNK, bytes));
        place.first = None;
        let begin = state.recent.partition_point(|event| event.seq < from);
        for event in state.recent.range(begin..).filter(|event| self.follower.wanted.wants(&event.entry)) {
            if !budget.admit(event.frame.len()) {
                place.first = Some(event.seq);
                break;
            }
            events.push(event.clone());
        }
        if events.is_empty() { Found::Nothing } else { Found::Events(events) }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.feed.state().remove(&self.follower);
    }
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part in the feed, and starts the pump where there is none.
    pub(in crate::http) fn follow(
        self: &Arc<Self>,
        wanted: Wanted,
        engine: &Engine,
        envelope: Envelope,
        stopping: &CancellationToken,
    ) -> Following {
        let follower = Arc::new(Follower { wanted, changed: Notify::new(), place: Mutex::default() });
        let mut state = self.state();
        state.joining.push(follower.clone());
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
        Following { feed: self.clone(), follower }
    }

    /// Whether any stream wants an entry.
    fn is_wanted(&self, entry: &LogEntry) -> bool {
        self.state().followers(entry).any(|follower| follower.wanted.wants(entry))
    }
}

impl State {
    /// Those that may want an entry.
    fn followers(&self, entry: &LogEntry) -> impl Iterator<Item = &Arc<Follower>> {
        let of_task = entry.task().and_then(|task| self.by_task.get(&task));
        let of_project = self.by_project.get(&entry.project);
        of_task.into_iter().chain(of_project).chain(std::iter::once(&self.others)).flatten()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Follower>> {
        let known = self.by_task.values().chain(self.by_project.values()).flatten();
        known.chain(&self.others).chain(&self.joining)
    }

    /// Lets in those who wait for it; `false`: nobody follows.
    fn admit(&mut self) -> bool {
        for follower in std::mem::take(&mut self.joining) {
            follower.place().since = Some(self.read_to);
            follower.changed.notify_one();
            match (follower.wanted.task, &follower.wanted.project) {
                (Some(task), _) => self.by_task.entry(task).or_default().push(follower),
                (None, Some(project)) => self.by_project.entry(project.clone()).or_default().push(follower),
                (None, None) => self.others.push(follower),
            }
        }
        !(self.by_task.is_empty() && self.by_project.is_empty() && self.others.is_empty())
    }

    fn remove(&mut self, gone: &Arc<Follower>) {
        let stays = |follower: &Arc<Follower>| !Arc::ptr_eq(follower, gone);
        self.joining.retain(stays);
        match (gone.wanted.task, &gone.wanted.project) {
            (Some(task), _) => {
                if let Some(followers) = self.by_task.get_mut(&task) {
                    followers.retain(stays);
                    if followers.is_empty() {
                        self.by_task.remove(&task);
                    }
                }
            }
            (None, Some(project)) => {
                if let Some(followers) = self.by_project.get_mut(project) {
                    followers.retain(stays);
                    if followers.is_empty() {
                        self.by_project.remove(project);
                    }
                }
            }
            (None, None) => self.others.retain(stays),
        }
    }

    /// Keeps an event, and announces it to those who want it.
    fn put(&mut self, event: Event) {
        for follower in self.followers(&event.entry).filter(|follower| follower.wanted.wants(&event.entry)) {
            follower.place().first.get_or_insert(event.seq);
            follower.changed.notify_one();
        }
        self.recent_bytes += event.frame.len() + EVENT_BYTES;
        self.recent.push_back(Arc::new(event));
        while self.recent.len() > MOST_EVENTS || self.recent_bytes > MOST_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.frame.len() + EVENT_BYTES;
            self.missing_to = oldest.seq;
        }
    }

    /// What was between two positions is not known here: everybody reads it
    /// from the log.
    fn skip(&mut self, from: Seq, to: Seq) {
        self.missing_to = to;
        for follower in self.all() {
            follower.place().first.get_or_insert(from.next());
            follower.changed.notify_one();
        }
    }

    /// Ends every stream: the next one begins anew.
    fn end(&mut self) {
        for follower in self.all() {
            follower.place().has_ended = true;
            follower.changed.notify_one();
        }
        *self = Self::default();
    }
}

/// Reads the log for everybody.
struct Pump {
    feed: Arc<Feed>,
    engine: Engine,
    envelope: Envelope,
}

impl Pump {
    /// Ends when nobody follows any more, having ended the feed as well (`true`),
    /// or when the log can't be read.
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
                    // Under the lock, so that whoever comes now starts another pump.
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

    /// Takes a page of the log; `None`: it can't be read.
    async fn read(&self, after: Seq) -> Option<()> {
        let feed = self.feed.clone();
        let read = self.engine.log().page(after, CHUNK, move |entry| feed.is_wanted(entry)).await;
        let page = read.inspect_err(|error| tracing::warn!(%error, "event streams end: the log can't be read")).ok()?;
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

    fn event(&self, logged: Logged) -> Option<Event> {
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

    fn of_task(task: u128) -> Wanted {
        Wanted { task: Some(TaskId::new(Uuid::from_u128(task))), ..Wanted::default() }
    }

    fn of_project(project: &str) -> Wanted {
        Wanted { project: Some(ProjectId::new(project).unwrap()), ..Wanted::default() }
    }

    /// Joins without a pump.
    fn follow(feed: &Arc<Feed>, wanted: Wanted) -> Following {
        let follower = Arc::new(Follower { wanted, changed: Notify::new(), place: Mutex::default() });
        let mut state = feed.state();
        state.joining.push(follower.clone());
        assert!(state.admit());
        Following { feed: feed.clone(), follower }
    }

    fn put(feed: &Arc<Feed>, event: Event) {
        let mut state = feed.state();
        state.read_to = event.seq;
        state.put(event);
    }

    fn taken(following: &Following, after: u64) -> Vec<u64> {
        match following.take(Seq(after), 1 << 20) {
            Found::Events(events) => events.iter().map(|event| event.seq.0).collect(),
            Found::Nothing => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn is_announced(following: &Following) -> bool {
        following.follower.place().first.is_some()
    }

    #[test]
    fn an_event_is_announced_to_those_who_want_it_alone() {
        let feed = Arc::new(Feed::default());
        let [one, other] = [1, 2].map(|task| follow(&feed, of_task(task)));
        let (p, q) = (follow(&feed, of_project("p")), follow(&feed, of_project("q")));
        let all = follow(&feed, Wanted::default());
        put(&feed, event(5, 1, "p", 10));
        assert!([&one, &p, &all].into_iter().all(is_announced));
        assert!(![&other, &q].into_iter().any(is_announced));
        assert_eq!((taken(&one, 0), taken(&p, 0), taken(&all, 0)), (vec![5], vec![5], vec![5]));
        assert_eq!((taken(&one, 5), taken(&other, 0)), (vec![], vec![]));
        // What was read from the log already is not told again.
        put(&feed, event(6, 1, "p", 10));
        put(&feed, event(7, 1, "p", 10));
        assert_eq!((taken(&one, 6), taken(&all, 7)), (vec![7], vec![]));
    }

    #[test]
    fn a_batch_is_bounded_and_the_rest_stays_announced() {
        let feed = Arc::new(Feed::default());
        let all = follow(&feed, Wanted::default());
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
    fn what_is_not_kept_any_more_is_in_the_log() {
        let feed = Arc::new(Feed::default());
        let (slow, quick) = (follow(&feed, of_task(1)), follow(&feed, of_task(1)));
        for seq in 1..=20 {
            put(&feed, event(seq, 1, "p", 1 << 20));
        }
        assert!(feed.state().recent_bytes <= MOST_BYTES && feed.state().recent.len() == 7);
        assert!(matches!(slow.take(Seq(0), 1 << 30), Found::InLog(Seq(0), Seq(20))));
        assert_eq!(taken(&slow, 20), [0; 0]);
        assert!(matches!(quick.take(Seq(13), 1 << 30), Found::Events(events) if events.len() == 7));
        for seq in 21..=21 + u64::try_from(MOST_EVENTS).unwrap() {
            put(&feed, event(seq, 1, "p", 1));
        }
        assert_eq!(feed.state().recent.len(), MOST_EVENTS);
    }

    #[test]
    fn those_who_leave_leave_nothing_behind() {
        let feed = Arc::new(Feed::default());
        let following = [of_task(1), of_project("p"), Wanted::default()].map(|wanted| follow(&feed, wanted));
        feed.state().end();
        assert!(following.iter().all(|each| matches!(each.take(Seq(0), 1), Found::Ended)));
        let following = [of_task(1), of_project("p"), Wanted::default()].map(|wanted| follow(&feed, wanted));
        drop(following);
        let mut state = feed.state();
        assert!(!state.admit() && state.all().next().is_none());
    }
}
