//! What a broker between this service and the others needs of the engine:
//! events to publish, dead letters for what can't be taken, and how many tasks
//! wait for workers there.

use super::api::{Error, Logged};
use super::command::Command;
use super::handle::Engine;
use super::machine::Machine;
use super::outgoing;
use crate::store::{self, DeadLetter, ScanFilter};
use crate::task::{Input, Phase, Progress, Seq, State, Status, Task, TaskId, Tier, Timestamp};

/// Most dead letters that are kept: the oldest go first.
const MAX_DEAD_LETTERS: u64 = 100_000;
/// Bytes of events after which no more are given at once.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;
/// Dead letters that one round removes.
const ROUND: usize = 256;
/// Tasks that one count of waiting ones can tell to be taken.
const MAX_TAKEN: usize = 1024;

type Stored<T> = Result<T, store::Error>;

/// Where an event stands in the log, and the task that it is about, if it is
/// about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Its position.
    pub seq: Seq,
    /// The task.
    pub task: Option<TaskId>,
}

/// An attempt that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dispatch {
    /// Where its `task.ready` stands.
    pub position: Position,
    /// Its tier.
    pub tier: Tier,
    /// When it was dispatched.
    pub at: Timestamp,
    /// Whether a worker is known to have taken it from a broker.
    pub is_taken: bool,
}

impl Engine {
    /// The events at these positions, in the same order, also where the log
    /// has been trimmed; `None` for what is no event any more, since its task
    /// is gone. The last ones are left out when those before are large.
    pub async fn events_at(&self, positions: Vec<Position>) -> Result<Vec<Option<Logged>>, Error> {
        self.read(move |side| {
            let view = side.store.view()?;
            let mut found = Vec::with_capacity(positions.len());
            let mut bytes = 0;
            for position in positions {
                let logged = outgoing::logged_at(&view, position)?;
                bytes += logged.as_ref().map_or(0, outgoing::size);
                found.push(logged);
                if bytes >= MAX_EVENT_BYTES {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }

    /// The newest attempt of every task that waits for a worker, in order.
    pub async fn dispatched(&self) -> Result<Vec<Dispatch>, Error> {
        self.read(|side| {
            let filter = ScanFilter { statuses: vec![Status::Running], ..ScanFilter::default() };
            let mut dispatched = Vec::new();
            for id in side.store.view()?.scan(&filter)? {
                let id = id?;
                let view = side.store.view()?;
                let Some(Task { tier, state: State::Running { attempt, progress: Progress::Dispatched }, .. }) =
                    view.task(id)?
                else {
                    continue;
                };
                if let Some(seq) = view.newest_dispatch(id, Seq(u64::MAX))? {
                    let position = Position { seq, task: Some(id) };
                    let (at, is_taken) = (attempt.dispatched_at, attempt.taken_at.is_some());
                    dispatched.push(Dispatch { position, tier, at, is_taken });
                }
            }
            dispatched.sort_unstable();
            Ok(dispatched)
        })
        .await
    }

    /// The newest `task.ready` of a task before a position.
    pub async fn newest_dispatch(&self, task: TaskId, before: Seq) -> Result<Option<Position>, Error> {
        self.read(move |side| {
            let seq = side.store.view()?.newest_dispatch(task, before)?;
            Ok(seq.map(|seq| Position { seq, task: Some(task) }))
        })
        .await
    }

    /// Whether an attempt still waits for a worker: the newest one of its
    /// task, neither ended nor with an output.
    pub async fn still_waits(&self, position: Position) -> Result<bool, Error> {
        let Some(task) = position.task else { return Ok(false) };
        self.read(move |side| {
            let view = side.store.view()?;
            let waits = view.task(task)?.is_some_and(|task| task.phase() == Phase::Dispatched);
            Ok(waits && view.newest_dispatch(task, Seq(u64::MAX))? == Some(position.seq))
        })
        .await
    }

    /// Keeps messages that can't be taken, durably.
    pub async fn bury(&self, letters: Vec<DeadLetter>) -> Result<(), Error> {
        self.ask(|reply| Command::Bury { letters, reply }).await
    }

    /// Tells that `waiting` tasks of a tier wait at the broker. Of those
    /// dispatched before a time, at which they were all published, workers
    /// have taken all but the newest so many, and their time counts from now
    /// on; how many that are.
    pub async fn note_waiting(&self, tier: Tier, waiting: usize, before: Timestamp) -> Result<usize, Error> {
        self.ask(|reply| Command::NoteWaiting { tier, waiting, before, reply }).await
    }
}

impl Machine {
    /// Keeps messages that can't be taken.
    pub(super) fn bury(&mut self, letters: Vec<DeadLetter>) -> Stored<()> {
        for letter in letters {
            // Not given again: the log moves on with every task that is about
            // one, and with every one that is taken again.
            self.dead_letters.0 = self.head.0.max(self.dead_letters.0 + 1);
            self.dead_letters.1 += 1;
            self.group.batch.put_dead_letter(self.dead_letters.0, &letter)?;
        }
        Ok(())
    }

    /// Removes the oldest dead letters where there are too many. Whether
    /// there are more.
    pub(super) fn forget_old_letters(&mut self) -> Stored<bool> {
        let excess = self.dead_letters.1.saturating_sub(MAX_DEAD_LETTERS);
        let count = usize::try_from(excess).unwrap_or(ROUND).min(ROUND);
        if count == 0 {
            return Ok(false);
        }
        tracing::warn!(count, "there are too many dead letters; the oldest are forgotten");
        for number in self.store.view()?.oldest_dead_letters(count)? {
            if self.group.requeued.insert(number) {
                self.group.batch.remove_dead_letter(number);
                self.dead_letters.1 = self.dead_letters.1.saturating_sub(1);
            }
        }
        Ok(count == ROUND)
    }

    /// Learns how many tasks of a tier wait at the broker.
    pub(super) fn note_waiting(
        &mut self,
        tier: &Tier,
        waiting: usize,
        before: Timestamp,
        now: Timestamp,
    ) -> Stored<usize> {
        let taken = self.lines.taken_by_now(tier, waiting, before, MAX_TAKEN);
        let count = taken.len();
        for task in taken {
            // One that has moved on in this group is not taken, but done.
            let _ = self.apply(task, Input::Take, None, now)?;
        }
        Ok(count)
    }
}
