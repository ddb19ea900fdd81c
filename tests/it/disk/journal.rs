//! What clients were told, and the check that the store agrees after a crash.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, Result, ensure};
use dats::engine::{
    Answer, Error, EventOutcome, IdempotencyKey, Refusal, Rollback, Submitted as Accepted, UnknownDependency,
};
use dats::lineage::Flag;
use dats::store::{Checkpoint, Project, Store};
use dats::task::{
    Change, CheckpointId, LeaseId, Moment, Outcome, Progress, State, Status, Submission, TaskId, Timestamp,
};

use super::client::is_expected;
use crate::support::invariants::{Snapshot, identity};
use crate::support::random::Random;

/// A submission and what came of it, once that is known.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    pub(super) submissions: Vec<Submission>,
    pub(super) key: Option<IdempotencyKey>,
    pub(super) results: Option<Vec<Result<Accepted, UnknownDependency>>>,
}

/// Something that a client was told has happened.
#[derive(Debug)]
pub(super) enum Acknowledged {
    Submission(Submitted),
    Cancel { task: TaskId },
    Events(Vec<(String, Result<EventOutcome, Refusal>)>),
    Lease { lease: LeaseId },
    Release { lease: LeaseId },
    Renewal { lease: LeaseId, until: Timestamp },
    Project(Project),
    Checkpoint(Checkpoint),
    Rollback(Box<Rollback>),
}

/// Something that a client was not told has happened.
#[derive(Debug)]
pub(super) enum Lost {
    Submission(Submitted),
    /// A cancellation by its reason.
    Marked(String),
    Events(Vec<String>),
    /// A project by its name.
    Project(String),
    Other,
}

/// What clients were told.
#[derive(Debug, Default)]
pub(super) struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    acknowledged: Vec<Acknowledged>,
    /// By the last commit, which failed.
    unknown: Vec<Lost>,
    /// For sure without an effect.
    refused: Vec<Lost>,
    unknown_count: usize,
    tasks: Vec<TaskId>,
    keyed: Vec<Submitted>,
    events: Vec<String>,
    seen: HashMap<TaskId, Answer>,
}

/// The effects that a store shows.
struct Effects {
    /// Tasks by the marker in their description.
    submitted: HashMap<String, Vec<TaskId>>,
    reasons: HashSet<String>,
    /// More than one outcome only where an event waited in vain and was sent
    /// again.
    events: HashMap<String, Vec<Outcome>>,
    leases: HashSet<LeaseId>,
}

impl Journal {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no client panics")
    }

    pub(super) fn any_task(&self, random: &mut Random) -> Option<TaskId> {
        let inner = self.inner();
        // Mostly one of the newest: much goes on with few tasks.
        let newest = inner.tasks.len().saturating_sub(12);
        let tasks = if random.chance(80) { &inner.tasks[newest..] } else { &inner.tasks };
        (!tasks.is_empty()).then(|| *random.pick(tasks))
    }

    pub(super) fn any_keyed(&self, random: &mut Random) -> Option<Submitted> {
        let inner = self.inner();
        (!inner.keyed.is_empty()).then(|| random.pick(&inner.keyed).clone())
    }

    pub(super) fn any_event(&self, random: &mut Random) -> Option<String> {
        let inner = self.inner();
        (!inner.events.is_empty()).then(|| random.pick(&inner.events).clone())
    }

    pub(super) fn any_checkpoint(&self, random: &mut Random) -> Option<CheckpointId> {
        let inner = self.inner();
        let made = inner.acknowledged.iter().filter_map(|told| match told {
            Acknowledged::Checkpoint(checkpoint) => Some(checkpoint.id.clone()),
            _ => None,
        });
        // One of the newest: to go back far leaves little to do.
        let made: Vec<_> = made.collect();
        let newest = made.len().saturating_sub(3);
        (!made.is_empty()).then(|| random.pick(&made[newest..]).clone())
    }

    pub(super) fn unknown_count(&self) -> usize {
        self.inner().unknown_count
    }

    pub(super) fn acknowledged_count(&self) -> usize {
        self.inner().acknowledged.len()
    }

    pub(super) fn add(&self, acknowledged: Acknowledged) {
        let mut inner = self.inner();
        match &acknowledged {
            Acknowledged::Submission(submitted) => {
                let accepted = submitted.results.iter().flatten().filter_map(|result| result.as_ref().ok());
                inner.tasks.extend(accepted.map(|accepted| accepted.task));
                // Where nothing was taken, the key was not used either.
                let any = submitted.results.iter().flatten().any(Result::is_ok);
                inner.keyed.extend(submitted.key.filter(|_| any).map(|_| submitted.clone()));
            }
            Acknowledged::Events(events) => {
                let taken = events.iter().filter(|(_, outcome)| outcome.is_ok());
                let ids: Vec<String> = taken.map(|(id, _)| id.clone()).collect();
                inner.events.extend(ids);
            }
            Acknowledged::Cancel { .. }
            | Acknowledged::Lease { .. }
            | Acknowledged::Release { .. }
            | Acknowledged::Renewal { .. }
            | Acknowledged::Project(_)
            | Acknowledged::Checkpoint(_)
            | Acknowledged::Rollback(_) => {}
        }
        inner.acknowledged.push(acknowledged);
    }

    /// Keeps what a client got no answer for; whether it can go on.
    pub(super) fn failed(&self, error: Error, lost: Lost) -> Result<bool> {
        let mut inner = self.inner();
        match error {
            Error::Refused(refusal) => {
                ensure!(is_expected(&refusal), "an unexpected refusal: {refusal}");
                inner.refused.push(lost);
                Ok(true)
            }
            Error::ShuttingDown => {
                inner.refused.push(lost);
                Ok(false)
            }
            Error::Unknown => {
                inner.unknown.push(lost);
                inner.unknown_count += 1;
                Ok(false)
            }
            // A content could not be written: the event has not come to the writer.
            Error::Store(_) if matches!(lost, Lost::Events(_)) => {
                inner.refused.push(lost);
                Ok(false)
            }
            // The lease is given, but its task could not be read.
            Error::Store(_) if matches!(lost, Lost::Other) => Ok(false),
            Error::Overloaded | Error::NotOwner | Error::DiskFull { .. } | Error::Store(_) => Err(error.into()),
        }
    }

    /// Whether a reader saw that the task has ended: to be asked before the
    /// task is read, since another reader can be faster in telling.
    pub(super) fn saw_end(&self, task: TaskId) -> bool {
        self.inner().seen.get(&task).is_some_and(|seen| seen.ended)
    }

    /// Keeps what a reader saw. A late output can still add to the record of
    /// an ended task, but it stays ended.
    pub(super) fn see(&self, task: TaskId, had_ended: bool, answer: &Answer) -> Result<()> {
        let mut inner = self.inner();
        ensure!(answer.ended || !had_ended, "task {task} was seen to leave its end");
        let newer = inner.seen.get(&task).is_none_or(|before| before.version <= answer.version);
        if newer {
            inner.seen.insert(task, answer.clone());
        }
        Ok(())
    }

    /// Holds what was told against what is there. Whether the commit that
    /// was unknown has happened.
    pub(super) fn check(&self, store: &Store, snapshot: &Snapshot) -> Result<bool> {
        let mut inner = self.inner();
        let effects = Effects::of(store, snapshot)?;
        for acknowledged in &inner.acknowledged {
            check_acknowledged(acknowledged, &effects, snapshot, store)
                .with_context(|| format!("acknowledged, but not so: {acknowledged:?}"))?;
        }
        for refused in &inner.refused {
            let trace = effects.shows(refused, &inner, store)?;
            ensure!(trace != Some(true), "refused, but it left a trace: {refused:?}");
        }
        for (task, answer) in &inner.seen {
            let now = snapshot.tasks.get(task).with_context(|| format!("{task} was seen and is gone"))?;
            ensure!(now.version >= answer.version, "{task} was seen at version {}", answer.version);
        }
        let shown: Vec<Option<bool>> =
            inner.unknown.iter().map(|lost| effects.shows(lost, &inner, store)).collect::<Result<_>>()?;
        let (any, all) = (shown.contains(&Some(true)), !shown.contains(&Some(false)));
        ensure!(!any || all, "half a commit: {shown:?} of {:?}", inner.unknown);
        inner.settle(&effects);
        Ok(any)
    }
}

impl Inner {
    /// What was unknown is known now: it may be sent again under its key.
    fn settle(&mut self, effects: &Effects) {
        for lost in std::mem::take(&mut self.unknown) {
            if let Lost::Submission(submitted) = lost {
                let tasks = submitted.submissions.iter().filter_map(|each| effects.submitted.get(&each.description));
                let tasks: Vec<TaskId> = tasks.flatten().copied().collect();
                self.tasks.extend(tasks);
                self.keyed.extend(submitted.key.map(|_| submitted));
            }
        }
    }
}

impl Effects {
    fn of(store: &Store, snapshot: &Snapshot) -> Result<Self> {
        let view = store.view()?;
        let mut effects =
            Self { submitted: HashMap::new(), reasons: HashSet::new(), events: HashMap::new(), leases: HashSet::new() };
        for (id, _) in snapshot.tasks.iter().filter(|(_, task)| task.rerun_of.is_none()) {
            let submission = view.submission(*id)?.context("a submission")?;
            effects.submitted.entry(submission.description).or_default().push(*id);
        }
        for (_, entry) in &snapshot.entries {
            if let Some((event, outcome)) = identity(entry) {
                effects.events.entry(event.to_owned()).or_default().push(outcome);
            }
            match &entry.change {
                Change::Cancelled { reason: Some(reason) } => drop(effects.reasons.insert(reason.clone())),
                Change::Leased { lease, .. } => drop(effects.leases.insert(*lease)),
                _ => {}
            }
        }
        Ok(effects)
    }

    fn event(&self, id: &str) -> &[Outcome] {
        self.events.get(&format!("{{\"source\":\"test\",\"id\":\"{id}\"}}")).map_or(&[], Vec::as_slice)
    }

    /// Whether the store shows the effect; `None` where it need not show any.
    fn shows(&self, lost: &Lost, inner: &Inner, store: &Store) -> Result<Option<bool>> {
        let shown = match lost {
            Lost::Submission(submitted) => {
                // One that was sent again under its key may be there by that.
                let again = inner.keyed.iter().any(|keyed| submitted.key.is_some() && keyed.key == submitted.key);
                let possible = |each: &&Submission| each.options.depends_on != [TaskId::from_bytes([1; 16])];
                let possible: Vec<&Submission> = submitted.submissions.iter().filter(possible).collect();
                let there = possible.iter().filter(|each| self.submitted.contains_key(&each.description)).count();
                ensure!(there == 0 || there == possible.len(), "half a batch: {submitted:?}");
                (!again && !possible.is_empty()).then_some(there > 0)
            }
            // The task may have ended before, which shows nothing.
            Lost::Marked(reason) => self.reasons.contains(reason).then_some(true),
            Lost::Events(ids) => {
                let fresh = ids.iter().filter(|id| !inner.events.contains(id));
                fresh.into_iter().any(|id| !self.event(id).is_empty()).then_some(true)
            }
            Lost::Project(name) => {
                store.recover()?.projects.iter().any(|project| project.name == *name).then_some(true)
            }
            Lost::Other => None,
        };
        Ok(shown)
    }
}

fn check_acknowledged(told: &Acknowledged, effects: &Effects, snapshot: &Snapshot, store: &Store) -> Result<()> {
    match told {
        Acknowledged::Submission(submitted) => {
            let results = submitted.results.as_ref().context("an answer")?;
            ensure!(results.len() == submitted.submissions.len(), "not one answer for each");
            for (submission, result) in submitted.submissions.iter().zip(results) {
                let there = effects.submitted.get(&submission.description).map_or(&[][..], Vec::as_slice);
                match result {
                    Ok(accepted) => ensure!(there == [accepted.task], "{there:?}"),
                    Err(_) => ensure!(there.is_empty(), "not accepted, and yet {there:?}"),
                }
            }
        }
        Acknowledged::Cancel { task } => {
            let task = snapshot.tasks.get(task).context("the task is gone")?;
            ensure!(task.status() == Status::Cancelled, "it is {}", task.status().as_str());
        }
        Acknowledged::Events(events) => {
            for (id, answer) in events {
                match answer {
                    Ok(EventOutcome::Taken(outcome)) => ensure!(effects.event(id).contains(outcome), "{id}"),
                    Ok(EventOutcome::Duplicate) => ensure!(!effects.event(id).is_empty(), "{id} is no duplicate"),
                    Err(refusal) => {
                        let taken = effects.event(id);
                        let none = taken.is_empty() || taken.contains(&Outcome::Parked);
                        ensure!(is_expected(refusal) && none, "{id}: {refusal}");
                    }
                }
            }
        }
        Acknowledged::Lease { lease } => ensure!(effects.leases.contains(lease), "nobody holds it"),
        Acknowledged::Release { lease } => {
            let held = snapshot.tasks.values().any(|task| until_of(&task.state, *lease).is_some());
            ensure!(!held, "it is still held");
        }
        Acknowledged::Renewal { lease, until } => {
            let held = snapshot.tasks.values().find_map(|task| until_of(&task.state, *lease));
            // The wall clock, which the answer shows, and observed time drift apart a little.
            let until = Moment::aligned(*until).before(std::time::Duration::from_millis(100));
            ensure!(held.is_none_or(|held| held >= until), "it is held until {held:?} only");
        }
        Acknowledged::Project(project) => {
            let now = store.view()?.project(&project.id)?.context("it is gone")?;
            ensure!(now.version > project.version || now == *project, "it is {now:?}");
        }
        Acknowledged::Checkpoint(checkpoint) => {
            let now = store.view()?.checkpoint(&checkpoint.id)?.context("it is gone")?;
            ensure!(now.place() == checkpoint.place(), "it is {now:?}");
        }
        Acknowledged::Rollback(rollback) => check_rollback(rollback, snapshot, store)?,
    }
    Ok(())
}

/// All that a rollback has told of is so.
fn check_rollback(rollback: &Rollback, snapshot: &Snapshot, store: &Store) -> Result<()> {
    let view = store.view()?;
    for task in &rollback.cancelled {
        let task = snapshot.tasks.get(task).context("a task is gone")?;
        ensure!(task.status() == Status::Cancelled, "{} is {}", task.id, task.status().as_str());
    }
    for (old, made) in &rollback.requeued {
        let made = made.and_then(|made| snapshot.tasks.get(&made)).context("what was submitted again is gone")?;
        ensure!(made.rerun_of == Some(*old), "{} is another one", made.id);
    }
    for id in &rollback.invalidated {
        ensure!(!view.checkpoint(id)?.context("a checkpoint is gone")?.is_valid, "{id} is valid");
    }
    let graph = store.recover()?.graph;
    for change in rollback.step.flags.iter().filter(|change| change.to == Flag::Tainted) {
        let known = rollback.graph.record(change.record).context("a record")?;
        let now = graph.find(known.id).and_then(|node| graph.record(node)).context("a record is gone")?;
        ensure!(now.flag == Flag::Tainted, "{} is {:?}", now.id, now.flag);
    }
    Ok(())
}

/// Until when a lease is held, if it is.
fn until_of(state: &State, id: LeaseId) -> Option<Moment> {
    match state {
        State::Running { progress: Progress::Leased { lease, .. }, .. } if lease.id == id => Some(lease.until),
        _ => None,
    }
}
