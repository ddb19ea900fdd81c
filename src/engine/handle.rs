//! The engine's handle: cheap to clone, safe to use from any task.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use super::api::{
    Answer, Error, Granted, IdempotencyKey, LeaseRequest, LogPage, NewProject, PageStart, ProjectPatch, ProjectStatus,
    Queue, Refusal, Revision, Submissions, Submitted, TaskFilter, TaskPage,
};
use super::command::{Command, Reply, Routed};
use super::contents::Prepared;
use super::figures::Figures;
use super::incoming::{EventOutcome, Incoming};
use super::machine::Machine;
use super::queue::{self, CommandSender};
use super::read::ReadSide;
use super::settings::Settings;
use super::shared::Shared;
use super::signals::Changed;
use super::tree::TreeNode;
use super::unclaimed::Unclaimed;
use super::writer::Writer;
use super::{list, outgoing, plan, reading, rerun, tree};
use crate::clock::Clock;
use crate::store::{self, HistoryEntry, LogEntry, Page, PageBudget, Project, Room, Store, guarded, panic_message};
use crate::task::{LeaseId, Now, ProjectId, Seq, Submission, TaskId, Tier, Timestamp};

const MIB: u64 = 1024 * 1024;

/// The engine's handle.
#[derive(Debug, Clone)]
pub struct Engine {
    commands: CommandSender,
    pub(super) read: Arc<ReadSide>,
    pub(super) settings: Arc<Settings>,
    /// What plans are made with: few at once.
    pub(super) plans: Arc<Semaphore>,
    store_id: uuid::Uuid,
}

/// The writer's thread: to be joined at shutdown.
#[derive(Debug)]
pub struct WriterThread {
    thread: JoinHandle<Result<(), store::Error>>,
    warmer: Mutex<Option<JoinHandle<()>>>,
    commands: CommandSender,
    room: Arc<Room>,
}

impl WriterThread {
    /// Lets the writer finish what is queued, and waits for it. An error of
    /// the store is what ended it.
    pub fn stop(self) -> Result<(), store::Error> {
        // What waits for room would wait for ever: what it was to write is in the journal.
        self.room.give_up();
        self.commands.stop();
        self.join()
    }

    /// Waits until the writer has ended.
    pub fn join(self) -> Result<(), store::Error> {
        let joined = self.thread.join();
        let result = joined.unwrap_or_else(|panic| Err(store::Error::Panicked(panic_message(&*panic))));
        if let Some(warmer) = self.warmer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It reads only, and ends with the writer.
            let _ = warmer.join();
        }
        result
    }

    /// Whether the writer has ended by itself, which only an error makes it do.
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
        let recent_ends = std::mem::take(&mut recovered.recent_ends);
        let mut machine = Machine::recovered(settings.clone(), store.clone(), recovered, shared.clone())?;
        machine.register_readers(clock.now())?;
        machine.change_bus(clock.now())?;
        let first = machine.first_publication(recent_ends)?;
        let readers = machine.readers.clone();
        let room = Arc::clone(store.room());
        let read = Arc::new(ReadSide::new(store, shared, first, readers, clock.clone())?);
        let (commands, queue) = queue::lanes(settings.queue_capacity);
        let writer = Writer::new(machine, queue, read.clone(), clock.clone())?;
        let spawned = |source| store::Error::Io { action: "start the thread", path: "dats-writer".into(), source };
        let thread =
            thread::Builder::new().name("dats-writer".to_owned()).spawn(move || writer.run()).map_err(spawned)?;
        let warm = read.clone();
        let warmer = thread::Builder::new().name("dats-warmer".to_owned()).spawn(move || {
            if let Err(error) = warm.warm() {
                tracing::warn!(%error, "failed to bring finished tasks into memory; they are read from the store");
            }
            match warm.store.sweep_contents() {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "contents that no record names were removed"),
                Err(error) => tracing::warn!(%error, "failed to look for contents that no record names"),
            }
        });
        let warmer = Mutex::new(warmer.ok());
        let plans = Arc::new(Semaphore::new(plan::AT_ONCE));
        let engine = Self { commands: commands.clone(), read, settings, plans, store_id };
        Ok((engine, WriterThread { thread, warmer, commands, room }))
    }

    /// The id of the store: the ids of published events are derived from it.
    #[must_use]
    pub fn store_id(&self) -> uuid::Uuid {
        self.store_id
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, mut answer) = oneshot::channel();
        let command = command(reply);
        if self.read.is_halted() && command.is_write() {
            return Err(Error::NotOwner);
        }
        let _room = self.admit(&command)?;
        self.commands.send(command)?;
        // A writer that stops sends its last answers, says so, and then looks
        // through the queue once more: whoever comes later must not wait.
        if self.read.is_stopped() {
            return answer.try_recv().unwrap_or(Err(Error::ShuttingDown));
        }
        // Without an answer the writer has stopped before it looked at the command.
        answer.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Runs a read that can take longer on a thread that it may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadSide) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        if reading::may_block() {
            return Ok(guarded(|| read(&self.read))?);
        }
        let side = self.read.clone();
        match tokio::task::spawn_blocking(move || read(&side)).await {
            Ok(result) => Ok(result?),
            Err(failed) => Err(failed
                .try_into_panic()
                .map_or(Error::ShuttingDown, |panic| store::Error::Panicked(panic_message(&*panic)).into())),
        }
    }

    /// Submits tasks: one durable commit for all. With a key, the first
    /// answer is given again for the same body.
    pub async fn submit(
        &self,
        submissions: Vec<Submission>,
        key: Option<IdempotencyKey>,
    ) -> Result<Submissions, Error> {
        let route = |submission| Routed::by(&self.settings.router, submission);
        let submissions = submissions.into_iter().map(route).collect();
        let full = match self.ask(|reply| Command::Submit { submissions, key, reply }).await {
            Err(full @ Error::DiskFull { .. }) => full,
            answer => return answer,
        };
        // To give an answer again takes no room.
        match self.replayed(key).await {
            Ok(Some(first)) => Ok(first),
            Err(reused @ Error::Refused(Refusal::IdempotencyKeyReused)) => Err(reused),
            Ok(None) | Err(_) => Err(full),
        }
    }

    /// Ends an open task; on a cancelled one nothing changes.
    pub async fn cancel(&self, task: TaskId, reason: Option<String>) -> Result<Answer, Error> {
        self.ask(|reply| Command::Cancel { task, reason, reply }).await
    }

    /// Makes a new task from a finished one, with the same inputs. Each task
    /// that it depended on is followed to the newest completed of its re-runs,
    /// else to the newest open one; without either it is refused. With a key,
    /// the first answer is given again, which the second value tells.
    pub async fn rerun(&self, task: TaskId, key: Option<IdempotencyKey>) -> Result<(Submitted, bool), Error> {
        let found = self.read(move |side| rerun::again(&side.store.view()?, task)).await?;
        let submission = match found.ok_or(Refusal::TaskNotFound(task)) {
            Ok(Ok(submission)) => vec![submission],
            // What can't be done again now may have been before, under this key.
            Err(refusal) | Ok(Err(refusal)) => {
                let first = self.replayed(key).await?.and_then(|first| first.results.into_iter().next()?.ok());
                return first.map(|submitted| (submitted, true)).ok_or_else(|| refusal.into());
            }
        };
        let Submissions { results, replayed } = self.submit(submission, key).await?;
        match results.into_iter().next() {
            Some(Ok(submitted)) => Ok((submitted, replayed)),
            // Retention has removed it meanwhile.
            Some(Err(unknown)) => Err(Refusal::DependencyNotCompleted { task, dependency: unknown.task }.into()),
            None => Err(Refusal::TaskNotFound(task).into()),
        }
    }

    /// The first answer under a key, if there was one.
    async fn replayed(&self, key: Option<IdempotencyKey>) -> Result<Option<Submissions>, Error> {
        if key.is_none() {
            return Ok(None);
        }
        let submissions = Vec::new();
        let answer = self.ask(|reply| Command::Submit { submissions, key, reply }).await?;
        Ok(Some(answer).filter(|answer| answer.replayed))
    }

    /// Takes events of other services, in order, in one durable commit.
    pub async fn accept(&self, events: Vec<Incoming>) -> Result<Vec<Result<EventOutcome, Refusal>>, Error> {
        self.accept_prepared(self.prepare(events).await?).await
    }

    /// The same with events whose contents are on disk already.
    pub async fn accept_prepared(&self, events: Vec<Prepared>) -> Result<Vec<Result<EventOutcome, Refusal>>, Error> {
        let (events, plan) = self.plan_events(events).await?;
        self.ask(|reply| Command::Accept { events, plan, reply }).await
    }

    /// Gives waiting tasks of a tier to a worker; waits for the first if
    /// there are none. Their data ends at about [`PAGE_BYTES`](store::PAGE_BYTES), after
    /// at least one of them. Dropping the future gives up the wait.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Granted>, Error> {
        if self.read.is_halted() {
            return Err(Error::NotOwner);
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Lease { request, reply };
        // It sets nothing aside: a lease is small, and may wait long.
        let _none = self.admit(&command)?;
        self.commands.send(command)?;
        let mut unclaimed = Unclaimed { answer, leases: Vec::new(), commands: self.commands.clone() };
        let grants = if self.read.is_stopped() {
            unclaimed.answer.try_recv().unwrap_or(Err(Error::ShuttingDown))?
        } else {
            (&mut unclaimed.answer).await.unwrap_or(Err(Error::ShuttingDown))?
        };
        unclaimed.leases = grants.iter().map(|grant| grant.lease.id).collect();
        // What a lease needs is mostly in the tables since the submission; else another
        // thread waits for them.
        let now = guarded(|| outgoing::granted_now(&self.read.store.view_of_tables()?, &grants))?;
        let granted = match now {
            Some(granted) => granted,
            None => self.read(move |side| outgoing::granted(&side.store.view()?, &grants)).await?,
        };
        // Those that the answer has no room for are given back.
        unclaimed.leases.drain(..granted.len());
        Ok(granted)
    }

    /// Prolongs a lease from now on; until when it is then held.
    pub async fn renew(&self, lease: LeaseId, duration: Duration) -> Result<Timestamp, Error> {
        self.ask(|reply| Command::Renew { lease, duration, reply }).await
    }

    /// Gives a lease back: the task waits for a worker again.
    pub async fn release(&self, lease: LeaseId) -> Result<(), Error> {
        self.ask(|reply| Command::Release { lease, delivered: true, reply }).await
    }

    /// Makes a project.
    pub async fn create_project(&self, project: NewProject) -> Result<Project, Error> {
        self.ask(|reply| Command::CreateProject { project, reply }).await
    }

    /// Changes a project; with a version, only when it still has that one.
    pub async fn update_project(
        &self,
        project: ProjectId,
        patch: ProjectPatch,
        if_version: Option<u64>,
    ) -> Result<Project, Error> {
        self.ask(|reply| Command::UpdateProject { project, patch, if_version, reply }).await
    }

    /// Deletes a project without open tasks; its tasks and provenance stay.
    /// With a version, only when it still has that one.
    pub async fn delete_project(&self, project: ProjectId, if_version: Option<u64>) -> Result<(), Error> {
        self.ask(|reply| Command::DeleteProject { project, if_version, reply }).await
    }

    /// Pauses a project: no new dispatch or lease, what runs goes on. On a
    /// paused one nothing changes.
    pub async fn pause_project(&self, project: ProjectId) -> Result<Project, Error> {
        self.ask(|reply| Command::PauseProject { project, pause: true, reply }).await
    }

    /// Ends the pause of a project: its tasks go on in their old order.
    pub async fn resume_project(&self, project: ProjectId) -> Result<Project, Error> {
        self.ask(|reply| Command::PauseProject { project, pause: false, reply }).await
    }

    /// Pauses a tier: no new dispatch or lease of its tasks, what runs goes
    /// on. On a paused one nothing changes.
    pub async fn pause_tier(&self, tier: Tier) -> Result<Queue, Error> {
        self.ask(|reply| Command::PauseTier { tier, pause: true, reply }).await
    }

    /// Ends the pause of a tier.
    pub async fn resume_tier(&self, tier: Tier) -> Result<Queue, Error> {
        self.ask(|reply| Command::PauseTier { tier, pause: false, reply }).await
    }

    /// A project and what goes on in it.
    pub async fn project_status(&self, project: ProjectId) -> Result<ProjectStatus, Error> {
        let status = self.read.shown.status(&project, self.read.now())?;
        let oldest = self.read(move |side| {
            let view = side.store.view()?;
            let Some(oldest) = view.oldest_pending(&project)? else { return Ok(None) };
            Ok(view.task(oldest)?.map(|task| task.created_at))
        });
        Ok(ProjectStatus { oldest_pending_at: oldest.await?, ..status })
    }

    /// The work queue of every configured tier.
    #[must_use]
    pub fn queues(&self) -> Vec<Queue> {
        self.read.shown.queues()
    }

    /// A task and the tasks below it, parents before their children, at most
    /// `most`; empty: there is no such task.
    pub async fn tree(&self, task: TaskId, most: usize) -> Result<Vec<TreeNode>, Error> {
        self.read(move |side| tree::tree(side, task, most)).await
    }

    /// The status answer of a task; `None`: there is no such task.
    pub async fn status(&self, task: TaskId) -> Result<Option<Answer>, Error> {
        match self.read.status_now(task)? {
            Poll::Ready(answer) => Ok(answer),
            Poll::Pending => self.read(move |side| side.status(task)).await,
        }
    }

    /// The same without any waiting; `None`: there is no such task, or it is
    /// to be asked for with [`Self::status`].
    pub fn status_now(&self, task: TaskId) -> Result<Option<Answer>, Error> {
        match self.read.status_now(task)? {
            Poll::Ready(answer) => Ok(answer),
            Poll::Pending => Ok(None),
        }
    }

    /// The status answer as soon as it is not the `known` one, or, without
    /// that, as soon as the task has ended; what it is then at the latest
    /// after `timeout`.
    pub async fn wait(
        &self,
        task: TaskId,
        known: Option<Revision>,
        timeout: Duration,
    ) -> Result<Option<Answer>, Error> {
        let wait = async {
            loop {
                let changed = self.read.signals.changed(task);
                let answer = self.status(task).await?;
                let done = answer.as_ref().is_none_or(|answer| match known {
                    Some(known) => answer.revision() != known,
                    None => answer.ended,
                });
                if done || self.read.is_stopped() {
                    return Ok(answer);
                }
                changed.await;
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(answer) => answer,
            Err(_) => self.status(task).await,
        }
    }

    /// A page of tasks, newest first.
    pub async fn tasks(&self, filter: TaskFilter, start: PageStart, limit: usize) -> Result<TaskPage, Error> {
        let counters = self.figures().counters;
        self.read(move |side| list::page(side, &filter, start, limit, &counters)).await
    }

    /// A page of the history of a task after a position, in order; `None`: no
    /// such task.
    pub async fn history(
        &self,
        task: TaskId,
        after: Seq,
        budget: impl Into<PageBudget>,
    ) -> Result<Option<Page<HistoryEntry>>, Error> {
        let budget = budget.into();
        self.read(move |side| {
            let view = side.store.view()?;
            if view.has_task(task)? { view.history(task, after, budget).map(Some) } else { Ok(None) }
        })
        .await
    }

    /// A page of published and accepted events after a position, with `keep`
    /// deciding which.
    pub async fn log(
        &self,
        after: Seq,
        budget: impl Into<PageBudget>,
        keep: impl Fn(&LogEntry) -> bool + Send + 'static,
    ) -> Result<LogPage, Error> {
        let budget = budget.into();
        self.read(move |side| outgoing::log_page(side, after, budget, &keep)).await
    }

    /// The newest position of the log, and a signal when it moves.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<Seq> {
        self.read.head()
    }

    /// Completes as soon as a task may have changed: ask before reading,
    /// await after.
    #[must_use]
    pub fn changed(&self, task: TaskId) -> Changed {
        self.read.signals.changed(task)
    }

    /// A project; `None`: no such, or deleted.
    pub async fn project(&self, project: ProjectId) -> Result<Option<Project>, Error> {
        let found = self.read(move |side| side.store.view()?.project(&project)).await?;
        Ok(found.filter(|project| project.archived_at.is_none()))
    }

    /// A page of projects by id, after one of them, and how many there are in
    /// all.
    pub async fn projects(
        &self,
        offset: usize,
        after: Option<ProjectId>,
        limit: usize,
    ) -> Result<(Page<Project>, u64), Error> {
        let budget = PageBudget::new(limit);
        self.read(move |side| side.store.view()?.projects(offset, after.as_ref(), budget)).await
    }

    /// Stops everything that changes tasks, for as long as the process runs:
    /// writes are refused with [`Error::NotOwner`], nothing is leased or
    /// dispatched, no timer fires. Reads go on.
    pub fn halt(&self) {
        self.read.halt();
    }

    /// Whether [`Self::halt`] was called.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.read.is_halted()
    }

    /// Figures for metrics and health.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let queued_commands = u64::try_from(self.commands.len()).unwrap_or(u64::MAX);
        Figures { queued_commands, reserve_mib: self.settings.min_free_mib, ..self.read.figures() }
    }

    /// Whether commands are taken: `false` when shutting down, failed, or while
    /// the writer does not move.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        !self.read.is_stopped() && !self.read.progress.is_stuck()
    }
}
