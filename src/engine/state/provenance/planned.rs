//! Steps of the graph that are planned beside the writer, on a version of the graph of their
//! own.

use std::borrow::Cow;
use std::time::Duration;

use fixedbitset::FixedBitSet;
use petgraph::visit::{NodeCount as _, NodeIndexable as _};

use super::record_counts::FlagCounts;
use crate::clock::Stopwatch;
use crate::engine::state::failure::Stored;
use crate::lineage::{Edge, Error, FlagChange, Graph, Project, Step};
use crate::store::{self, FlagChanges};
use crate::task::{RecordId, RecordStatus, Seq};

/// A step that took less than this to plan is not worth another try: the writer makes it
/// itself on the newest graph.
const SMALL: Duration = Duration::from_millis(1);

/// How far a plan still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Nothing has changed: it can be carried out as it is.
    Whole,
    /// The graph has another version, and all else holds: the step must be made again on
    /// that version.
    AllButStep,
    /// It must be made again.
    Gone,
}

impl Validity {
    /// Whether the caller plans again. It does so unless this is the last try, or all that
    /// must be made again is a small step.
    pub(crate) fn is_stale(self, is_small: bool, is_last: bool) -> bool {
        let holds = match self {
            Self::Whole => true,
            Self::AllButStep => is_small,
            Self::Gone => false,
        };
        !holds && !is_last
    }
}

/// A step that was made on a version of the graph beside the writer.
#[derive(Debug)]
pub(crate) struct PlannedStep {
    /// The newest position of the graph that it was made on.
    pub(in crate::engine::state) base: Seq,
    /// The graph afterwards.
    pub(in crate::engine::state) after: Graph,
    pub(in crate::engine::state) step: Step,
    pub(super) counts: Vec<(Project, FlagCounts)>,
    /// The records whose rows it changes.
    pub(super) rows: Vec<RecordId>,
    /// Inputs whose edge would close a cycle.
    pub(super) refused: Vec<Edge>,
    /// Its changes in the audit trail.
    pub(super) changes: FlagChanges,
    /// Whether the writer makes it itself where the graph has another version.
    pub(in crate::engine::state) is_small: bool,
}

impl PlannedStep {
    /// The position of the step.
    pub(super) fn seq(&self) -> Seq {
        self.base.next()
    }
}

/// A step that is being planned, on a version of the graph of its own.
#[derive(Debug)]
pub(in crate::engine::state) struct Planning {
    base: Seq,
    started: Stopwatch,
    after: Graph,
    rows: Vec<RecordId>,
    refused: Vec<Edge>,
}

impl Planning {
    pub(in crate::engine::state) fn on(graph: &Graph) -> Self {
        let (after, base) = (graph.clone(), graph.newest());
        Self { base, started: Stopwatch::start(), after, rows: Vec::new(), refused: Vec::new() }
    }

    /// Makes a change in the graph.
    pub(in crate::engine::state) fn change(
        &mut self,
        change: impl FnOnce(&mut Graph, Seq) -> Result<Step, Error>,
    ) -> Stored<Step> {
        let next = self.after.newest().next();
        let step = change(&mut self.after, next).map_err(unexpected)?;
        self.rows.extend(rows_of(&self.after, &step));
        Ok(step)
    }

    /// Gives a record another verdict: a part of `step` that has a position of its own.
    pub(in crate::engine::state) fn judge(
        &mut self,
        id: RecordId,
        status: RecordStatus,
        step: &mut Step,
    ) -> Stored<()> {
        let more = self.change(|graph, seq| graph.set_status(id, status, seq))?;
        self.rows.push(id);
        self.refused.extend(more.refused);
        step.flags.extend(more.flags);
        Ok(())
    }

    /// Ends the plan: joins what the parts of the step change, and makes the entries of the
    /// audit trail for them and for the records that the step names.
    pub(in crate::engine::state) fn finish(self, mut step: Step, named: &[RecordId]) -> PlannedStep {
        let Self { base, started, after, rows, refused } = self;
        step.join();
        step.flags.sort_by_key(|change| change.depth);
        let counts = FlagCounts::of(&after, &step.flags);
        let changes = FlagChanges::of(&after, &with_named(&after, named, &step.flags));
        let is_small = started.elapsed() <= SMALL;
        PlannedStep { base, after, step, counts, rows, refused, changes, is_small }
    }
}

/// The records whose rows a step changes.
pub(super) fn rows_of(graph: &Graph, step: &Step) -> impl Iterator<Item = RecordId> {
    let edges = step.bound.iter().chain(&step.unbound).chain(&step.refused).map(|edge| edge.dependent);
    let nodes = edges.chain(step.facts.iter().map(|(node, _)| *node));
    nodes.filter_map(|node| graph.id_and_project(node)).map(|(id, _)| id)
}

/// Returns changes of flags with an entry for each of the named records, whether or not its
/// flag has changed: what the audit trail has of a step.
pub(in crate::engine::state) fn with_named<'a>(
    graph: &Graph,
    named: &[RecordId],
    flags: &'a [FlagChange],
) -> Cow<'a, [FlagChange]> {
    let mut moved = FixedBitSet::with_capacity(graph.node_count());
    moved.extend(flags.iter().map(|change| graph.to_index(change.record)));
    let unchanged = |id: &RecordId| {
        let node = graph.find(*id).filter(|node| !moved.contains(graph.to_index(*node)))?;
        let flag = graph.record(node)?.flag;
        Some(FlagChange { record: node, from: flag, to: flag, depth: 0, through: None })
    };
    let mut changes: Vec<FlagChange> = named.iter().filter_map(unchanged).collect();
    if changes.is_empty() {
        return Cow::Borrowed(flags);
    }
    changes.extend_from_slice(flags);
    Cow::Owned(changes)
}

/// An error of the graph, which what is stored can't cause unless it is damaged.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn unexpected(error: Error) -> store::Error {
    store::Error::Corrupt { table: "lineage", detail: error.to_string() }
}
