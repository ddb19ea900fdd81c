//! The read side: what readers use without ever waiting for the writer.

pub(super) mod audit;
pub(super) mod cascades;
pub(super) mod dead_letters;
pub(super) mod dispatches;
pub(super) mod list;
pub(super) mod log;
mod pauses;
mod reader_places;
pub(super) mod records;
mod shown;
pub(super) mod signals;
pub(super) mod tree;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use pauses::Pauses;
use reader_places::ReaderPlaces;
use shown::Shown;
use signals::Signals;

use super::api::{Answer, Backlog, ChangedAnswer, EventCounts, Figures, Publication, Totals, Version};
use super::shared::{Progress, Shared};
use crate::clock::Clock;
use crate::lineage::Graph;
use crate::store::{self, ReaderPosition, StatusView, Store, View, guarded};
use crate::task::{Moment, Now, Seq, TaskId};
use crate::wire::{self, Fixed};

const MIB: u64 = 1024 * 1024;
/// A commit that takes this long is worth a line in the log.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What readers use without ever waiting for the writer.
#[derive(Debug)]
pub(super) struct ReadSide {
    pub(super) store: Store,
    clock: Clock,
    /// The maps that the writer changes.
    pub(super) shared: Shared,
    /// Where answers come from that are not in memory: opened for the first
    /// one after a commit, and open until the next commit.
    cold: ArcSwap<OnceLock<StatusView>>,
    pub(super) signals: Arc<Signals>,
    pauses: Pauses,
    graph: ArcSwap<Graph>,
    /// Projects and work queues.
    pub(super) shown: Shown,
    /// The group of the writer that was published last.
    version: AtomicU64,
    head: watch::Sender<Seq>,
    /// Where the readers of the log are.
    pub(super) places: ReaderPlaces,
    /// Counts the commits after which a task waited to be routed.
    routing: watch::Sender<u64>,
    figures: Mutex<Figures>,
    commands: AtomicU64,
    busy_micros: AtomicU64,
    longest_commit_ms: AtomicU64,
    longest_step_micros: AtomicU64,
    /// Commits that removed tasks.
    removals: AtomicU64,
    /// The number of the last commit that is in the tables.
    pub(super) published: AtomicU64,
    /// Whether there is such a number.
    lists_changes: bool,
    /// The time of the last group that was committed, in microseconds of observed time.
    committed_at: AtomicI64,
    /// Up to which commit a copy elsewhere has everything.
    pub(super) copied: AtomicU64,
    stopped: AtomicBool,
    halted: AtomicBool,
    /// How far the writer and the thread of the tables are.
    pub(super) progress: Arc<Progress>,
}

impl ReadSide {
    /// Shows the state of a start: `first` has all of it, and `readers` are the places of
    /// the readers of the log.
    pub(super) fn new(
        store: Store,
        shared: Shared,
        first: Publication,
        readers: BTreeMap<String, ReaderPosition>,
        clock: Clock,
    ) -> Result<Self, store::Error> {
        let (head, _) = watch::channel(first.head);
        let (routing, _) = watch::channel(0);
        let view = store.view()?;
        let published = AtomicU64::new(view.commit_number()?.0);
        let lists_changes = view.changes_from()?.is_some();
        let read = Self {
            cold: ArcSwap::default(),
            store,
            clock,
            shared,
            signals: Signals::new(),
            pauses: Pauses::default(),
            graph: ArcSwap::default(),
            shown: Shown::default(),
            version: AtomicU64::new(0),
            head,
            places: ReaderPlaces::new(readers),
            routing,
            figures: Mutex::default(),
            commands: AtomicU64::new(0),
            busy_micros: AtomicU64::new(0),
            longest_commit_ms: AtomicU64::new(0),
            longest_step_micros: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            published,
            committed_at: AtomicI64::new(i64::MIN),
            lists_changes,
            copied: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            progress: Arc::default(),
        };
        read.publish(first, EventCounts::default(), false);
        Ok(read)
    }

    /// Shows what a committed group has changed, and wakes those who wait for it.
    pub(super) fn publish(&self, publication: Publication, events: EventCounts, wrote: bool) {
        if wrote {
            // First of all: an answer that leaves memory must be found there.
            self.cold.store(Arc::default());
        }
        let hot = &self.shared.hot;
        let mut changed = Vec::with_capacity(publication.answers.len());
        for ChangedAnswer { task, has_ended, answer } in publication.answers {
            match answer {
                Some(answer) if has_ended => hot.put_finished(task, answer),
                Some(answer) => hot.put_open(task, answer),
                None => hot.remove(task),
            }
            changed.push(task);
        }
        if !publication.removed.is_empty() {
            self.removals.fetch_add(1, Ordering::AcqRel);
        }
        for task in publication.removed {
            hot.remove(task);
        }
        self.record_totals(publication.head, &publication.totals, events, wrote);
        if let Some(backlog) = publication.backlog {
            self.record_backlog(backlog);
        }
        self.shown.show(publication.projects, publication.queues);
        if let Some(graph) = publication.graph {
            self.graph.store(Arc::new(graph));
        }
        // Whoever sees it sees the graph as well.
        self.version.store(publication.version.0, Ordering::Release);
        for pause in &publication.pauses {
            self.pauses.change(pause);
        }
        if publication.pauses.is_empty() {
            for task in changed {
                self.signals.wake(task);
            }
        } else {
            // It may concern any number of tasks.
            self.signals.wake_all();
        }
        if publication.has_routing_work {
            self.routing.send_modify(|count| *count = count.wrapping_add(1));
        }
        // Who asks learns of it; who follows is woken when there is something to read.
        self.head.send_if_modified(|head| {
            *head = publication.head;
            false
        });
    }

    /// Whether somebody follows the log.
    pub(super) fn is_followed(&self) -> bool {
        self.head.receiver_count() > 0
    }

    /// The tables have what was published: those who follow what is in them go on.
    pub(super) fn publish_tables(&self) {
        if self.lists_changes {
            self.record_commit_number();
        }
        self.head.send_modify(|_| ());
    }

    fn record_commit_number(&self) {
        match self.store.view_of_tables().and_then(|view| view.commit_number()) {
            Ok(number) => self.published.store(number.0, Ordering::Release),
            // Who brings the next batch into the tables meets it too; until then the copy waits.
            Err(error) => tracing::error!(%error, "the number of the last commit can't be read"),
        }
    }

    fn record_backlog(&self, backlog: Backlog) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.oldest_analyzing = backlog.oldest_analyzing;
        figures.oldest_queued = backlog.oldest_queued;
        figures.readers = backlog.readers;
    }

    fn record_totals(&self, head: Seq, totals: &Totals, events: EventCounts, wrote: bool) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.commits += u64::from(wrote);
        figures.head = head.0;
        figures.tail = totals.tail.0;
        figures.dead_letters = totals.dead_letters;
        figures.events = events;
        figures.projects = totals.projects;
        figures.paused_projects = totals.paused_projects;
        figures.counters = totals.counters;
        figures.estimates = totals.estimates;
    }

    /// Counts a group that took `busy`, of which `committing` went by until it was durable.
    pub(super) fn record_group(&self, commands: u64, busy: Duration, committing: Duration) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
        self.busy_micros.fetch_add(micros(busy), Ordering::Relaxed);
        self.longest_step_micros.fetch_max(micros(busy.saturating_sub(committing)), Ordering::Relaxed);
    }

    /// A group of this time is committed.
    pub(super) fn record_committed(&self, at: Moment) {
        self.committed_at.fetch_max(at.as_micros(), Ordering::AcqRel);
    }

    /// The time of the last group that was committed.
    pub(super) fn committed_at(&self) -> Moment {
        Moment::from_micros(self.committed_at.load(Ordering::Acquire))
    }

    /// Everybody waits for a commit: one that takes long should not have to
    /// be guessed at.
    pub(super) fn record_commit_time(&self, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.longest_commit_ms.fetch_max(took_ms, Ordering::Relaxed);
        if took >= SLOW_COMMIT {
            tracing::warn!(took_ms, "a commit took long; the disk is slow, or a checkpoint had much to write");
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Figures {
            commands: self.commands.load(Ordering::Relaxed),
            longest_commit_ms: self.longest_commit_ms.load(Ordering::Relaxed),
            longest_step_micros: self.longest_step_micros.load(Ordering::Relaxed),
            writer_busy_micros: self.busy_micros.load(Ordering::Relaxed),
            queues: self.shown.queues(),
            store_bytes: self.store.file_bytes(),
            hot_tasks: u64::try_from(self.shared.hot.len()).unwrap_or(u64::MAX),
            free_mib: self.store.room().free() / MIB,
            room: self.store.room().state(),
            ..figures
        }
    }

    pub(super) fn head(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// The group of the writer that was published last.
    pub(super) fn version(&self) -> Version {
        Version(self.version.load(Ordering::Acquire))
    }

    /// The provenance of everything, as of the last commit.
    pub(super) fn graph(&self) -> Arc<Graph> {
        self.graph.load_full()
    }

    pub(super) fn routing(&self) -> watch::Receiver<u64> {
        self.routing.subscribe()
    }

    /// The writer has ended: who waits is woken.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.progress.stop();
        self.signals.wake_all();
    }

    pub(super) fn halt(&self) {
        self.halted.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// The status answer of a task. Waits while the tables follow a commit,
    /// if it is not in memory.
    pub(super) fn status(&self, task: TaskId) -> Result<Option<Answer>, store::Error> {
        loop {
            match self.status_now(task)? {
                Poll::Ready(answer) => return Ok(answer),
                Poll::Pending => self.store.wait()?,
            }
        }
    }

    /// The same; `Pending` where that would wait.
    pub(super) fn status_now(&self, task: TaskId) -> Result<Poll<Option<Answer>>, store::Error> {
        match self.shared.hot.get(task, |answer| self.pauses.holding(answer)) {
            Some(answer) => Ok(Poll::Ready(Some(answer))),
            None => guarded(|| self.cold_status(task)),
        }
    }

    /// The same, read from the store.
    fn cold_status(&self, id: TaskId) -> Result<Poll<Option<Answer>>, store::Error> {
        let cold = self.cold.load();
        let view = if let Some(view) = cold.get() {
            view
        } else {
            let Some(view) = self.store.view_now()? else { return Ok(Poll::Pending) };
            let view = view.statuses()?;
            cold.get_or_init(|| view)
        };
        let Some((task, submission)) = view.task(id)? else { return Ok(Poll::Ready(None)) };
        let compact = wire::compact(&task, &Fixed::of(&submission, &task), self.clock.now());
        Ok(Poll::Ready(Some(compact.answer(id, self.pauses.holding(&compact)))))
    }

    /// Brings the newest finished tasks back into memory after a start,
    /// until it is full.
    pub(super) fn warm(&self) -> Result<(), store::Error> {
        let mut before = None;
        while !self.is_stopped() {
            // One short view after the other: the file grows under a long one.
            let removals = self.removals.load(Ordering::Acquire);
            let view = self.store.view()?;
            let page = view.newest_finished(before, 1024)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            before = Some(*last);
            let room = self.warm_page(&view, &page)?;
            if self.removals.load(Ordering::Acquire) != removals {
                self.forget_removed(&page)?;
            }
            if !room {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether there was room for all of them.
    fn warm_page(&self, view: &View, page: &[([u8; 24], TaskId)]) -> Result<bool, store::Error> {
        for &(_, id) in page {
            let (Some(task), Some(submission)) = (view.task(id)?, view.submission(id)?) else { continue };
            let fixed = Fixed::of(&submission, &task);
            if fixed.is_small() && !self.shared.hot.put_older(id, wire::compact(&task, &fixed, self.clock.now())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Retention may have removed tasks while an older view of them was being
    /// put into memory.
    fn forget_removed(&self, page: &[([u8; 24], TaskId)]) -> Result<(), store::Error> {
        let view = self.store.view()?;
        for &(_, id) in page {
            if !view.has_task(id)? {
                self.shared.hot.remove(id);
            }
        }
        Ok(())
    }
}
