//! The start of the engine, its handle, and the writer's thread.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::Semaphore;

use super::broker::BrokerHandle;
use super::checkpoints::CheckpointsHandle;
use super::client::Client;
use super::dead_letters::DeadLettersHandle;
use super::events::EventsHandle;
use super::log::LogHandle;
use super::plans;
use super::projects::ProjectsHandle;
use super::provenance::ProvenanceHandle;
use super::replication::ReplicationHandle;
use super::routing::RoutingHandle;
use super::tasks::TasksHandle;
use super::transfer::TransferHandle;
use super::work::WorkHandle;
use crate::clock::Clock;
use crate::engine::api::{Error, Figures, Settings, TaskEnd};
use crate::engine::read::ReadSide;
use crate::engine::shared::{self, Shared};
use crate::engine::state::{self, Machine};
use crate::engine::writer::{self, CommandSender, Writer};
use crate::store::{self, Room, RoomState, Store, panic_message};
use crate::task::Now;

const MIB: u64 = 1024 * 1024;

/// The engine's handle: cheap to clone, safe to use from any task.
///
/// ```no_run
/// # async fn show(engine: dats::engine::Engine, task: dats::task::TaskId) -> Result<(), dats::engine::Error> {
/// engine.tasks().cancel(task, Some("superseded".to_owned())).await?;
/// let answer = engine.tasks().status(task).await?;
/// assert!(answer.is_some_and(|answer| answer.ended));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    client: Client,
    store_id: uuid::Uuid,
}

/// The writer's thread. It must be joined at shutdown.
#[derive(Debug)]
pub struct WriterThread {
    thread: JoinHandle<Result<(), store::Error>>,
    warmer: Mutex<Option<JoinHandle<()>>>,
    commands: CommandSender,
    room: Arc<Room>,
}

impl WriterThread {
    /// Stops the writer once it has carried out the queued commands, and waits for it.
    ///
    /// # Errors
    ///
    /// Returns the error of the store that ended the writer earlier.
    pub fn stop(self) -> Result<(), store::Error> {
        // A wait for disk space would not end. The batch that waits is in the journal already.
        self.room.give_up();
        self.commands.stop();
        self.join()
    }

    /// Waits until the writer has ended.
    ///
    /// # Errors
    ///
    /// Returns the error of the store that ended the writer.
    pub fn join(self) -> Result<(), store::Error> {
        let joined = self.thread.join();
        let result = joined.unwrap_or_else(|panic| Err(store::Error::Panicked(panic_message(&*panic))));
        if let Some(warmer) = self.warmer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The warmer only reads, and ends with the writer.
            let _ = warmer.join();
        }
        result
    }

    /// Returns whether the writer has ended. Before [`Self::stop`], only an error ends it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Engine {
    /// Recovers the state of the store and starts the writer.
    pub fn start(store: Store, settings: Settings, clock: &Clock) -> Result<(Self, WriterThread), store::Error> {
        store.room().keep(settings.min_free_mib.saturating_mul(MIB));
        let mut recovered = store.recover()?;
        if recovered.clocks.last != Now::default() {
            clock.resume(recovered.clocks.last);
        }
        let settings = Arc::new(settings);
        let store_id = store.id();
        let shared = Shared::new(settings.hot_bytes);
        let clocks_found = recovered.clocks.last;
        let recent_ends = std::mem::take(&mut recovered.recent_ends);
        let recent_ends =
            recent_ends.into_iter().map(|(at, status, project)| (project, TaskEnd { at, status })).collect();
        let mut machine = Machine::recovered(settings.clone(), store.clone(), recovered, shared.clone())?;
        machine.register_readers(clock.now())?;
        state::change_bus(&mut machine, clock.now())?;
        let first = machine.first_publication(recent_ends)?;
        let readers = machine.places().clone();
        let room = Arc::clone(store.room());
        let read = Arc::new(ReadSide::new(store, shared, first, readers, clock.clone())?);
        let (commands, queue) = writer::lanes(settings.queue_capacity);
        let writer = Writer::new(machine, queue, read.clone(), clock.clone(), clocks_found)?;
        let spawned = |source| store::Error::Io { action: "start the thread", path: "dats-writer".into(), source };
        let thread =
            thread::Builder::new().name("dats-writer".to_owned()).spawn(move || writer.run()).map_err(spawned)?;
        let warm = read.clone();
        let warmer = thread::Builder::new().name("dats-warmer".to_owned()).spawn(move || run_warmer(&warm));
        let warmer = Mutex::new(warmer.ok());
        let plans = Arc::new(Semaphore::new(plans::AT_ONCE));
        let client = Client { commands: commands.clone(), read, settings, plans };
        let engine = Self { client, store_id };
        Ok((engine, WriterThread { thread, warmer, commands, room }))
    }

    /// Returns the id of the store, from which the ids of published events are derived.
    #[must_use]
    pub fn store_id(&self) -> uuid::Uuid {
        self.store_id
    }

    /// Tasks: submissions, cancels, status answers, lists and histories.
    #[must_use]
    pub const fn tasks(&self) -> TasksHandle<'_> {
        TasksHandle(&self.client)
    }

    /// Leases for workers, and the work queues of the tiers.
    #[must_use]
    pub const fn work(&self) -> WorkHandle<'_> {
        WorkHandle(&self.client)
    }

    /// Projects and their figures.
    #[must_use]
    pub const fn projects(&self) -> ProjectsHandle<'_> {
        ProjectsHandle(&self.client)
    }

    /// Events of other services, on their way in.
    #[must_use]
    pub const fn events(&self) -> EventsHandle<'_> {
        EventsHandle(&self.client)
    }

    /// Messages that could not be taken.
    #[must_use]
    pub const fn dead_letters(&self) -> DeadLettersHandle<'_> {
        DeadLettersHandle(&self.client)
    }

    /// The log of events and changes.
    #[must_use]
    pub const fn log(&self) -> LogHandle<'_> {
        LogHandle(&self.client)
    }

    /// Provenance: records, the graph, taints and the audit trail.
    #[must_use]
    pub const fn provenance(&self) -> ProvenanceHandle<'_> {
        ProvenanceHandle(&self.client)
    }

    /// Checkpoints, and rollbacks to them.
    #[must_use]
    pub const fn checkpoints(&self) -> CheckpointsHandle<'_> {
        CheckpointsHandle(&self.client)
    }

    /// Tasks that are to be routed.
    #[must_use]
    pub const fn routing(&self) -> RoutingHandle<'_> {
        RoutingHandle(&self.client)
    }

    /// The counterpart of a message broker: events to publish, and counts of its queues.
    #[must_use]
    pub const fn broker(&self) -> BrokerHandle<'_> {
        BrokerHandle(&self.client)
    }

    /// The counterpart of a copy of the store elsewhere.
    #[must_use]
    pub const fn replication(&self) -> ReplicationHandle<'_> {
        ReplicationHandle(&self.client)
    }

    /// Bulk import and export of provenance.
    #[must_use]
    pub const fn transfer(&self) -> TransferHandle<'_> {
        TransferHandle(&self.client)
    }

    /// Stops everything that changes tasks, for as long as the process runs:
    /// writes are refused with [`Error::NotOwner`], no task is leased or
    /// dispatched, no timer fires. Reads go on.
    pub fn halt(&self) {
        self.client.read.halt();
    }

    /// Returns whether [`Self::halt`] was called.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.client.read.is_halted()
    }

    /// Returns figures for metrics and health.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let queued_commands = u64::try_from(self.client.commands.len()).unwrap_or(u64::MAX);
        Figures { queued_commands, reserve_mib: self.client.settings.min_free_mib, ..self.client.read.figures() }
    }

    /// Returns whether commands are accepted: `false` during a shutdown, after a
    /// failure, and while the writer makes no progress.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        !self.client.read.is_stopped() && !self.client.read.progress.is_stuck()
    }

    /// Checks that there is disk space for commands that make the store grow.
    ///
    /// # Errors
    ///
    /// Returns [`Error::DiskFull`] if there is not.
    pub fn check_writable(&self) -> Result<(), Error> {
        self.client.read.store.room().admit(0, 0).map(drop).map_err(Error::from)
    }

    /// Returns the state of the free space on the disk of the store.
    #[must_use]
    pub fn room(&self) -> RoomState {
        self.client.read.store.room().state()
    }

    /// Watches the writer and the thread of the tables from a thread of its own,
    /// until they end.
    ///
    /// Calls `on_stall` with a description of both once one of them has work and
    /// makes no step for 30 s, seen in two checks in a row. The callback is
    /// expected to end the process.
    pub fn watch(&self, on_stall: impl FnOnce(&str) + Send + 'static) -> io::Result<()> {
        shared::watch(Arc::clone(&self.client.read.progress), Arc::clone(self.client.read.store.room()), on_stall)
    }
}

/// Brings finished tasks into memory after a start, and removes contents that no
/// record names.
fn run_warmer(read: &ReadSide) {
    if let Err(error) = read.statuses.warm(|| read.is_stopped()) {
        tracing::warn!(%error, "failed to bring finished tasks into memory; they are read from the store");
    }
    match read.store.sweep_contents() {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "contents that no record names were removed"),
        Err(error) => tracing::warn!(%error, "failed to look for contents that no record names"),
    }
}
