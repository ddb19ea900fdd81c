//! What a broker between this service and the others needs of the engine:
//! events to publish, and how many tasks wait for workers there.

use std::collections::HashMap;

use super::api::{Error, Logged, PauseChange};
use super::command::Command;
use super::handle::Engine;
use super::machine::Machine;
use super::outgoing;
use super::settings::RequireConsumer;
use super::supply::Counted;
use crate::store::{self, TierPause};
use crate::task::{Bus, Change, Input, Moment, Now, Pending, Phase, Seq, State, Task, TaskId, Tier};

/// Bytes of events after which no more are given at once.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;
/// Open tasks that one view looks at.
const PORTION: usize = 4096;
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
    pub at: Moment,
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

    /// The newest attempt of every task that waits for a worker, in order. Open tasks
    /// are looked at in portions, each in one view: the file grows under one that is kept.
    pub async fn dispatched(&self) -> Result<Vec<Dispatch>, Error> {
        self.read(|side| {
            let (mut dispatched, mut after) = (Vec::new(), None);
            loop {
                let view = side.store.view()?;
                let portion = view.open_tasks_after(after, PORTION)?;
                for Task { id, tier, state, .. } in &portion {
                    let State::Pending(Pending::Dispatched { at, .. }) = state else { continue };
                    if let Some(seq) = view.newest_dispatch(*id, Seq(u64::MAX))? {
                        let position = Position { seq, task: Some(*id) };
                        dispatched.push(Dispatch { position, tier: tier.clone(), at: *at });
                    }
                }
                after = portion.last().map(|task| task.id);
                if portion.len() < PORTION {
                    break;
                }
            }
            dispatched.sort_unstable();
            Ok(dispatched)
        })
        .await
    }

    /// The newest `task.ready` of each task before a position, with the tier that it
    /// names, in the order of the tasks: all of them from one view.
    pub async fn newest_dispatches(&self, tasks: Vec<(TaskId, Seq)>) -> Result<Vec<Option<(Position, Tier)>>, Error> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        self.read(move |side| {
            let view = side.store.view()?;
            let newest = tasks.into_iter().map(|(task, before)| {
                let Some(seq) = view.newest_dispatch(task, before)? else { return Ok(None) };
                let entry = view.history_entry(task, seq)?;
                let Some(Change::Ready { tier, .. }) = entry.map(|entry| entry.change) else { return Ok(None) };
                Ok(Some((Position { seq, task: Some(task) }, tier)))
            });
            newest.collect()
        })
        .await
    }

    /// The time of the last group of commands that was committed: everything that was
    /// dispatched before it is in the log. Groups under way have later times, or this one.
    #[must_use]
    pub fn committed_at(&self) -> Moment {
        self.read.committed_at()
    }

    /// Of some attempts those that still wait for a worker, each with the time of its
    /// dispatch: the newest one of its task, neither ended nor with an output. All of
    /// them are looked up in one view.
    pub async fn still_waiting(&self, positions: Vec<Position>) -> Result<HashMap<Position, Moment>, Error> {
        if positions.is_empty() {
            return Ok(HashMap::new());
        }
        self.read(move |side| {
            let view = side.store.view()?;
            let mut waiting = HashMap::with_capacity(positions.len());
            for position in positions {
                let Some(task) = position.task else { continue };
                let state = view.task(task)?.map(|task| task.state);
                let Some(State::Pending(Pending::Dispatched { at, .. })) = state else { continue };
                if view.newest_dispatch(task, Seq(u64::MAX))? == Some(position.seq) {
                    waiting.insert(position, at);
                }
            }
            Ok(waiting)
        })
        .await
    }

    /// Tells how the work queue of a tier is. Tasks that it shows to be with
    /// workers are taken from now on; the answer names those that have gone
    /// from the queue although no worker can have taken them, the oldest first.
    pub async fn report_queue(&self, report: QueueReport) -> Result<Vec<TaskId>, Error> {
        self.ask(|reply| Command::ReportQueue { report, reply }).await
    }
}

/// The work queue of a tier, as it was counted.
#[derive(Debug, Clone)]
pub struct QueueReport {
    /// The tier.
    pub tier: Tier,
    /// What is in it; `None`: it can't be counted.
    pub counted: Option<Counted>,
    /// Everything that was dispatched before this time was at the broker when
    /// the queue was counted.
    pub published_before: Option<Moment>,
    /// Everything that was dispatched before this time has been at the broker
    /// for as long as a task may wait unobserved.
    pub unobserved_before: Option<Moment>,
    /// What a queue without consumers means for the next dispatches.
    pub rule: RequireConsumer,
}

impl Machine {
    /// Learns how the work queue of a tier is.
    pub(super) fn report_queue(&mut self, report: &QueueReport, now: Now) -> Stored<Vec<TaskId>> {
        let QueueReport { tier, counted, published_before, unobserved_before, rule } = report;
        let was_held = self.lines.supply(tier).is_held();
        if self.lines.supply(tier).count(*counted, *rule) {
            self.keep_of_tier(tier, |pause| pause.had_consumer = true)?;
        }
        self.tell_held(tier, was_held);
        let supply = *self.lines.supply(tier);
        let gone = |waiting, before| match *published_before {
            Some(known) => self.lines.not_waiting(tier, waiting, (known, before), MAX_TAKEN),
            None => Vec::new(),
        };
        let mut taken = Vec::new();
        if let Some(waiting) = supply.waiting_beside_consumers() {
            // Workers that say when they begin may keep a task for long before.
            let before = if supply.tells_starts() { *unobserved_before } else { *published_before };
            taken = before.map(|before| gone(waiting, before)).unwrap_or_default();
        } else if let Some(before) = unobserved_before.filter(|_| supply.is_unobserved()) {
            taken = self.lines.not_waiting(tier, 0, (before, before), MAX_TAKEN);
        }
        let missing = match (supply.waiting_untouched(), *published_before) {
            (Some(waiting), Some(before)) => gone(waiting, before),
            _ => Vec::new(),
        };
        for task in taken {
            // One that has moved on in this group is not taken, but done.
            let _ = self.apply(task, Input::Take, None, now)?;
        }
        Ok(missing)
    }

    /// Keeps for the next start what was learnt of the workers of a tier.
    fn keep_of_tier(&mut self, tier: &Tier, learn: impl FnOnce(&mut TierPause)) -> Stored<()> {
        let Some(ready) = self.lines.ready.get_mut(tier) else { return Ok(()) };
        learn(&mut ready.pause);
        self.group.batch.put_tier_pause(tier, ready.pause)
    }

    /// Tells readers when tasks of a tier begin to wait for its workers, or end to.
    fn tell_held(&mut self, tier: &Tier, was_held: bool) {
        let is_held = self.lines.supply(tier).is_held();
        if is_held != was_held {
            tracing::info!(%tier, is_held, "the work queue of a tier has lost its consumers, or has some again");
            self.group.pauses.push(PauseChange::Consumers { tier: tier.clone(), are_missing: is_held });
        }
    }

    /// A report of a worker was applied to a task that stood in `before`: what
    /// it shows of the workers of the tier.
    pub(super) fn learn_of_workers(&mut self, tier: &Tier, before: Phase, report: &str) -> Stored<()> {
        if self.settings.policy.bus != Bus::Broker {
            return Ok(());
        }
        let was_held = self.lines.supply(tier).is_held();
        if report == "task.started" && self.lines.supply(tier).heard_of_start() {
            self.keep_of_tier(tier, |pause| pause.tells_starts = true)?;
        }
        if before == Phase::Dispatched && self.lines.supply(tier).heard_of_worker() {
            tracing::info!(%tier, "workers of a tier use queues of their own; its work queue has no consumer");
        }
        self.tell_held(tier, was_held);
        Ok(())
    }
}
