//! What taints, clears, undos and rollbacks change is found out beside the writer,
//! from a [`Snapshot`]. The writer looks at versions alone to see whether a plan
//! still holds.
//!
//! Two versions are enough. Every step of the graph has a position, so the newest
//! one says which graph a plan was made on, and the writer knows the newest step
//! that said something of a record. Whatever else a plan depends on (the
//! checkpoints, the tasks of some projects, the tasks that use artifacts) has the
//! [`Version`] of the group that changed it last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::api::{Message, Version};
use super::machine::Machine;
use super::provenance::{Provenance, rows_of, unexpected};
use super::read::ReadSide;
use super::rollback_plan::RollbackPlan;
use super::statements::told;
use super::taint::CascadePlan;
use crate::clock::Stopwatch;
use crate::lineage::{Edge, Error, Flag, FlagChange, Graph, Project, Step};
use crate::store::{self, Changes, View};
use crate::task::{RecordId, RecordStatus, Router, Seq, TaskId};

/// How often a plan is made beside the writer. The last one is carried out in any
/// case: the writer brings it up to date.
pub(super) const TRIES: u32 = 3;
/// Plans that are made at once. Each can hold changes of a hundred thousand records.
pub(super) const AT_ONCE: usize = 4;
/// A step that took so long to plan is not worth another try: the writer makes it
/// on the newest graph.
const SMALL: Duration = Duration::from_millis(1);
/// Tasks that began to use artifacts, of which the writer remembers when.
const REMEMBERED: usize = 16_384;

type Stored<T> = Result<T, store::Error>;

/// What a plan is made from. The graph is of this version or a later one, and the
/// view of the graph's commit or a later one, so nothing that the version counts
/// is missing in either.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) version: Version,
    pub(super) graph: Arc<Graph>,
    pub(super) view: View,
    /// The tasks that may have been given artifacts and are being worked on.
    pub(super) given: Vec<TaskId>,
}

impl ReadSide {
    /// Takes a snapshot. Waits for the tables.
    pub(super) fn snapshot(&self) -> Stored<Snapshot> {
        // In this order: see [`Snapshot`].
        let version = self.version();
        let graph = self.graph();
        let given = self.shared.given.ids();
        Ok(Snapshot { version, graph, view: self.store.view()?, given })
    }
}

impl Machine {
    /// The same as the writer has it. Nothing of the group may be uncommitted.
    pub(super) fn snapshot(&self) -> Stored<Snapshot> {
        Ok(Snapshot {
            version: self.version,
            graph: Arc::new(self.provenance.graph().clone()),
            view: self.store.view()?,
            given: self.shared.given.ids(),
        })
    }
}

/// How far a plan still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    /// Nothing has changed: it is carried out as it is.
    Whole,
    /// The graph has another version, and all else holds: the step has to be made
    /// again on that.
    AllButStep,
    /// It has to be made again.
    Gone,
}

impl Validity {
    /// Whether the caller plans again: it does as long as this is not the last try,
    /// unless all that is to be made again is a small step.
    pub(super) fn is_stale(self, is_small: bool, is_last: bool) -> bool {
        let holds = match self {
            Self::Whole => true,
            Self::AllButStep => is_small,
            Self::Gone => false,
        };
        !holds && !is_last
    }
}

/// The plan of an event that says something of records.
#[derive(Debug)]
pub(super) enum EventPlan {
    Cascade(Box<CascadePlan>),
    Rollback(Box<RollbackPlan>),
}

impl EventPlan {
    /// Plans what an event does; `None`: it does nothing that is planned, or names
    /// something that is not there, which the writer finds as well.
    pub(super) fn of(snapshot: &Snapshot, message: &Message, router: &Router) -> Stored<Option<Self>> {
        Ok(match message {
            Message::Report { .. } => None,
            Message::Cascade { request, .. } => {
                let plan = CascadePlan::new(snapshot, request, request.cancel_running)?;
                plan.ok().map(|plan| Self::Cascade(Box::new(plan)))
            }
            Message::Rollback(request) => {
                let plan = RollbackPlan::new(snapshot, request, router, false)?;
                plan.ok().map(|plan| Self::Rollback(Box::new(plan)))
            }
        })
    }

    pub(super) fn into_cascade(self) -> Option<CascadePlan> {
        match self {
            Self::Cascade(plan) => Some(*plan),
            Self::Rollback(_) => None,
        }
    }

    pub(super) fn into_rollback(self) -> Option<RollbackPlan> {
        match self {
            Self::Cascade(_) => None,
            Self::Rollback(plan) => Some(*plan),
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Attempt<T> {
    /// It was carried out.
    Done(Box<T>),
    /// Its plan was out of date, and nothing has changed.
    Stale,
}

/// How many flags of a project a step changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FlagCounts {
    pub(super) suspect: i64,
    pub(super) tainted: i64,
}

impl FlagCounts {
    fn count(&mut self, flag: Flag, by: i64) {
        match flag {
            Flag::Clean => {}
            Flag::Suspect => self.suspect += by,
            Flag::Tainted => self.tainted += by,
        }
    }

    /// Those of each project, once for each run of records of one project.
    pub(super) fn of(graph: &Graph, flags: &[FlagChange]) -> Vec<(Project, Self)> {
        let mut counts: Vec<(Project, Self)> = Vec::new();
        for change in flags {
            let Some(project) = graph.project_of(change.record) else { continue };
            if counts.last().is_none_or(|(last, _)| *last != project) {
                counts.push((project, Self::default()));
            }
            if let Some((_, count)) = counts.last_mut() {
                count.count(change.from, -1);
                count.count(change.to, 1);
            }
        }
        counts.sort_by_key(|(project, _)| *project);
        counts.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1.suspect += next.1.suspect;
                kept.1.tainted += next.1.tainted;
            }
            is_same
        });
        counts
    }
}

/// A step that was made on a version of the graph beside the writer.
#[derive(Debug)]
pub(super) struct PlannedStep {
    /// The newest position of the graph that it was made on.
    pub(super) base: Seq,
    /// The graph afterwards.
    pub(super) after: Graph,
    pub(super) step: Step,
    pub(super) counts: Vec<(Project, FlagCounts)>,
    /// The records whose rows it changes.
    pub(super) rows: Vec<RecordId>,
    /// Inputs whose edge would close a cycle.
    pub(super) refused: Vec<Edge>,
    /// What the audit trail tells of it.
    pub(super) told: Changes,
    /// Whether the writer makes it itself where the graph has moved on.
    pub(super) is_small: bool,
}

/// A step that is being planned, on a version of the graph of its own.
#[derive(Debug)]
pub(super) struct Planning {
    base: Seq,
    started: Stopwatch,
    pub(super) after: Graph,
    rows: Vec<RecordId>,
    refused: Vec<Edge>,
}

impl Planning {
    pub(super) fn on(graph: &Graph) -> Self {
        let (after, base) = (graph.clone(), graph.newest());
        Self { base, started: Stopwatch::start(), after, rows: Vec::new(), refused: Vec::new() }
    }

    /// Makes a change in the graph.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Graph, Seq) -> Result<Step, Error>) -> Stored<Step> {
        let next = self.after.newest().next();
        let step = change(&mut self.after, next).map_err(unexpected)?;
        self.rows.extend(rows_of(&self.after, &step));
        Ok(step)
    }

    /// Gives a record another verdict: a part of the step that has its own position.
    pub(super) fn judge(&mut self, id: RecordId, status: RecordStatus, step: &mut Step) -> Stored<()> {
        let more = self.change(|graph, seq| graph.judge(id, status, seq))?;
        self.rows.push(id);
        self.refused.extend(more.refused);
        step.flags.extend(more.flags);
        Ok(())
    }

    /// The step with what its parts change together, and what the trail tells of
    /// it and of the records that it names.
    pub(super) fn finish(self, mut step: Step, named: &[RecordId]) -> PlannedStep {
        let Self { base, started, after, rows, refused } = self;
        step.join();
        step.flags.sort_by_key(|change| change.depth);
        let counts = FlagCounts::of(&after, &step.flags);
        let told = Changes::of(&after, &told(&after, named, &step.flags));
        let is_small = started.elapsed() <= SMALL;
        PlannedStep { base, after, step, counts, rows, refused, told, is_small }
    }
}

impl PlannedStep {
    /// The position of the step.
    pub(super) fn seq(&self) -> Seq {
        self.base.next()
    }

    /// Whether the plan of this step holds, where all that is not of the graph does.
    pub(super) fn validity(&self, provenance: &Provenance) -> Validity {
        if provenance.graph().newest() == self.base {
            Validity::Whole
        } else if provenance.said_until() <= self.base {
            Validity::AllButStep
        } else {
            Validity::Gone
        }
    }
}

/// The tasks that began to use artifacts lately, in the order of versions.
#[derive(Debug)]
pub(super) struct Begun {
    tasks: VecDeque<(Version, TaskId)>,
    /// Those of later versions are all there.
    complete_after: Version,
}

impl Default for Begun {
    fn default() -> Self {
        // With its whole room at once: it never moves.
        Self { tasks: VecDeque::with_capacity(REMEMBERED), complete_after: Version::default() }
    }
}

impl Begun {
    /// A task begins to use artifacts in the group of this version.
    pub(super) fn push(&mut self, version: Version, task: TaskId) {
        if self.tasks.len() == REMEMBERED
            && let Some((forgotten, _)) = self.tasks.pop_front()
        {
            self.complete_after = forgotten;
        }
        self.tasks.push_back((version, task));
    }

    /// Those that began after a version; `None`: they are no longer all remembered.
    pub(super) fn since(&self, version: Version) -> Option<impl Iterator<Item = TaskId>> {
        let newest_first = self.tasks.iter().rev().take_while(move |(begun, _)| *begun > version);
        (self.complete_after <= version).then(|| newest_first.map(|(_, task)| *task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u8) -> TaskId {
        TaskId::from_bytes([number; 16])
    }

    #[test]
    fn what_began_after_a_version_is_remembered_for_a_while() {
        let mut begun = Begun::default();
        for number in 1..=5 {
            begun.push(Version(u64::from(number / 2)), task(number));
        }
        let since = |begun: &Begun, version| begun.since(Version(version)).map(Iterator::collect::<Vec<_>>);
        assert_eq!(since(&begun, 1), Some(vec![task(5), task(4)]));
        assert_eq!(since(&begun, 2), Some(Vec::new()));
        let capacity = begun.tasks.capacity();
        for _ in 0..REMEMBERED - 1 {
            begun.push(Version(3), task(7));
        }
        // Tasks 1 to 4 are forgotten, of versions up to 2.
        assert_eq!((since(&begun, 1), since(&begun, 2).map(|it| it.len())), (None, Some(REMEMBERED - 1)));
        assert_eq!(begun.tasks.capacity(), capacity);
    }
}
