//! The state of the read side, and its publication after each commit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::activity::WriterActivity;
use super::copy_progress::CopyProgress;
use super::projects::PublishedProjects;
use super::reader_positions::ReaderPositions;
use super::signals::Signals;
use super::statuses::Statuses;
use crate::clock::Clock;
use crate::engine::api::{Backlog, EventCounts, Figures, Publication, Totals, Version};
use crate::engine::shared::{Progress, Shared};
use crate::lineage::Graph;
use crate::store::{self, ReaderPosition, Store};
use crate::task::{Now, Seq};

const MIB: u64 = 1024 * 1024;

/// Serves reads without waiting for the writer. The writer publishes to it after each commit.
#[derive(Debug)]
pub(in crate::engine) struct ReadSide {
    pub(in crate::engine) store: Store,
    clock: Clock,
    /// Maps that the writer changes.
    pub(in crate::engine) shared: Shared,
    pub(in crate::engine) statuses: Statuses,
    pub(in crate::engine) signals: Arc<Signals>,
    graph: ArcSwap<Graph>,
    pub(in crate::engine) projects: PublishedProjects,
    /// Version of the last published group of the writer.
    version: AtomicU64,
    head: watch::Sender<Seq>,
    /// Positions of the readers of the log.
    pub(in crate::engine) reader_positions: ReaderPositions,
    /// Counts the commits after which a task waited to be routed.
    routing: watch::Sender<u64>,
    figures: Mutex<Figures>,
    pub(in crate::engine) activity: WriterActivity,
    pub(in crate::engine) copy: CopyProgress,
    is_stopped: AtomicBool,
    is_halted: AtomicBool,
    /// Progress of the writer and of the thread of the tables.
    pub(in crate::engine) progress: Arc<Progress>,
}

impl ReadSide {
    /// Creates the read side at a start. `first` publishes the whole recovered state, and
    /// `readers` holds the positions of the readers of the log.
    pub(in crate::engine) fn new(
        store: Store,
        shared: Shared,
        first: Publication,
        readers: BTreeMap<String, ReaderPosition>,
        clock: Clock,
    ) -> Result<Self, store::Error> {
        let (head, _) = watch::channel(first.head);
        let (routing, _) = watch::channel(0);
        let read = Self {
            statuses: Statuses::new(store.clone(), clock.clone(), shared.hot.clone()),
            copy: CopyProgress::new(&store)?,
            store,
            clock,
            shared,
            signals: Signals::new(),
            graph: ArcSwap::default(),
            projects: PublishedProjects::default(),
            version: AtomicU64::new(0),
            head,
            reader_positions: ReaderPositions::new(readers),
            routing,
            figures: Mutex::default(),
            activity: WriterActivity::new(),
            is_stopped: AtomicBool::new(false),
            is_halted: AtomicBool::new(false),
            progress: Arc::default(),
        };
        read.publish(first, EventCounts::default(), false);
        Ok(read)
    }

    /// Publishes the changes of a committed group, and wakes the clients that wait for them.
    pub(in crate::engine) fn publish(&self, publication: Publication, events: EventCounts, wrote: bool) {
        if wrote {
            self.statuses.renew_view();
        }
        let changed = self.statuses.put(publication.answers);
        self.statuses.remove(publication.removed);
        self.record_totals(publication.head, &publication.totals, events, wrote);
        if let Some(backlog) = publication.backlog {
            self.record_backlog(backlog);
        }
        self.projects.publish(publication.projects, publication.queues);
        if let Some(graph) = publication.graph {
            self.graph.store(Arc::new(graph));
        }
        // After the graph: a reader that sees this version sees a graph no older than it.
        self.version.store(publication.version.0, Ordering::Release);
        for pause in &publication.pauses {
            self.statuses.change_pause(pause);
        }
        if publication.pauses.is_empty() {
            for task in changed {
                self.signals.wake(task);
            }
        } else {
            // A pause may hold back any number of tasks.
            self.signals.wake_all();
        }
        if publication.has_routing_work {
            self.routing.send_modify(|count| *count = count.wrapping_add(1));
        }
        // The new head can be read at once. Its receivers are woken when the tables have it.
        self.head.send_if_modified(|head| {
            *head = publication.head;
            false
        });
    }

    /// Returns whether the head of the log has receivers.
    pub(in crate::engine) fn is_followed(&self) -> bool {
        self.head.receiver_count() > 0
    }

    /// Wakes the receivers of the log's head, once the tables have the published commit.
    pub(in crate::engine) fn publish_tables(&self) {
        self.copy.refresh(&self.store);
        self.head.send_modify(|_| ());
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

    /// Returns the figures, except those that the handle adds.
    pub(in crate::engine) fn figures(&self) -> Figures {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Figures {
            queues: self.projects.queues(),
            store_bytes: self.store.file_bytes(),
            hot_tasks: u64::try_from(self.statuses.in_memory()).unwrap_or(u64::MAX),
            free_mib: self.store.room().free() / MIB,
            room: self.store.room().state(),
            ..self.activity.add_to(figures)
        }
    }

    /// Returns the newest position of the log, and a signal when it moves.
    pub(in crate::engine) fn head(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    pub(in crate::engine) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Returns the version of the last published group of the writer.
    pub(in crate::engine) fn version(&self) -> Version {
        Version(self.version.load(Ordering::Acquire))
    }

    /// Returns the provenance graph as of the last commit.
    pub(in crate::engine) fn graph(&self) -> Arc<Graph> {
        self.graph.load_full()
    }

    /// Returns a signal that changes when a task may wait to be routed.
    pub(in crate::engine) fn routing(&self) -> watch::Receiver<u64> {
        self.routing.subscribe()
    }

    /// Records that the writer has ended, and wakes all waiting clients.
    pub(in crate::engine) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.progress.stop();
        self.signals.wake_all();
    }

    pub(in crate::engine) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Records that another data directory has become the owner: nothing changes tasks any more.
    pub(in crate::engine) fn halt(&self) {
        self.is_halted.store(true, Ordering::SeqCst);
    }

    pub(in crate::engine) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::SeqCst)
    }
}
