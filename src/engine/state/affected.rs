//! Which running tasks use the artifacts of a record: those that were given one and have an
//! open attempt.
//!
//! A plan looks at all of them beside the writer. The writer looks again at the tasks that
//! the plan has found, and at those that began after the plan's version.

use std::collections::HashMap;

use fixedbitset::FixedBitSet;
use petgraph::visit::{NodeCount as _, NodeIndexable as _};

use super::failure::Stored;
use super::snapshot::Snapshot;
use super::transitions::EngineState;
use crate::engine::api::Version;
use crate::lineage::{Graph, Node, Step};
use crate::store::View;
use crate::task::{ArtifactId, Findings, Submission, Task, TaskId};

/// The running tasks that use artifacts, by these, as of a snapshot.
#[derive(Debug)]
pub(super) struct AffectedTasks {
    version: Version,
    by_artifact: HashMap<ArtifactId, Vec<TaskId>>,
    /// Tasks that use what the plan spoils.
    found: Vec<TaskId>,
}

impl AffectedTasks {
    /// Looks at all running tasks for those that use what a step spoils.
    pub(super) fn of(snapshot: &Snapshot, after: &Graph, step: &Step) -> Stored<Self> {
        let Snapshot { version, view, given, .. } = snapshot;
        let spoilt = Spoilt::of(after, step);
        let (mut by_artifact, mut found) = (HashMap::<ArtifactId, Vec<TaskId>>::new(), Vec::new());
        for id in given {
            let Some(task) = running(view, *id)? else { continue };
            let artifacts = artifacts_of(view, &task)?;
            if artifacts.iter().any(|artifact| spoilt.made(artifact)) {
                found.push(*id);
            }
            for artifact in artifacts {
                by_artifact.entry(artifact).or_default().push(*id);
            }
        }
        Ok(Self { version: *version, by_artifact, found })
    }

    /// Tasks that use what a step spoils which is not the planned one.
    fn of_step(&self, graph: &Graph, step: &Step) -> Vec<TaskId> {
        if self.by_artifact.is_empty() {
            return Vec::new();
        }
        let outputs = spoilt_by(step).flat_map(|node| graph.outputs(node));
        let ids = outputs.filter_map(|artifact| ArtifactId::new(graph.artifact_id(artifact)?).ok());
        ids.filter_map(|artifact| self.by_artifact.get(&artifact)).flatten().copied().collect()
    }

    /// Tasks that use what the planned step spoils.
    pub(super) fn found(&self) -> &[TaskId] {
        &self.found
    }
}

/// The records that a step makes suspect or tainted.
fn spoilt_by(step: &Step) -> impl Iterator<Item = Node> {
    step.flags.iter().filter(|change| change.to > change.from).map(|change| change.record)
}

/// Records whose artifacts are no longer to be used. It is asked about the few artifacts that
/// are used, instead of all that the many records have made.
struct Spoilt<'a> {
    graph: &'a Graph,
    records: FixedBitSet,
}

impl<'a> Spoilt<'a> {
    fn new(graph: &'a Graph, records: impl Iterator<Item = Node>) -> Self {
        let mut spoilt = FixedBitSet::with_capacity(graph.node_count());
        spoilt.extend(records.map(|node| graph.to_index(node)));
        Self { graph, records: spoilt }
    }

    fn of(graph: &'a Graph, step: &Step) -> Self {
        Self::new(graph, spoilt_by(step))
    }

    fn is_empty(&self) -> bool {
        self.records.is_clear()
    }

    /// Whether one of the records made an artifact.
    fn made(&self, artifact: &ArtifactId) -> bool {
        let artifact = self.graph.find_artifact(artifact);
        let mut makers = artifact.into_iter().flat_map(|artifact| self.graph.producers(artifact));
        makers.any(|maker| self.records.contains(self.graph.to_index(maker)))
    }
}

fn running(view: &View, id: TaskId) -> Stored<Option<Task>> {
    Ok(view.task(id)?.filter(|task| task.open_attempt().is_some()))
}

/// The artifacts that a task was given: by its client, by its dependencies, and as context.
fn given_to(task: &Task, submission: Option<Submission>, findings: Option<Findings>) -> Vec<ArtifactId> {
    let mut artifacts = task.inputs.clone();
    artifacts.extend(submission.into_iter().flat_map(|submission| submission.options.inputs));
    let context = findings.and_then(|findings| findings.context);
    artifacts.extend(context.into_iter().flat_map(|context| context.sources));
    artifacts.sort_unstable();
    artifacts.dedup();
    artifacts
}

fn artifacts_of(view: &View, task: &Task) -> Stored<Vec<ArtifactId>> {
    let findings = if task.has_findings { view.findings(task.id)? } else { None };
    Ok(given_to(task, view.submission(task.id)?, findings))
}

/// Returns the running tasks, of some, that were given an artifact of any of these records,
/// as of the last commit.
pub(crate) fn running_users_in(view: &View, given: &[TaskId], graph: &Graph, records: &[Node]) -> Stored<Vec<TaskId>> {
    let spoilt = Spoilt::new(graph, records.iter().copied());
    let mut users = Vec::new();
    if spoilt.is_empty() {
        return Ok(users);
    }
    for id in given {
        if let Some(task) = running(view, *id)?
            && artifacts_of(view, &task)?.iter().any(|artifact| spoilt.made(artifact))
        {
            users.push(task.id);
        }
    }
    users.sort_unstable();
    Ok(users)
}

/// Returns the running tasks that were given an artifact of a record that is no longer clean
/// after a step. `is_planned` tells that the step is the one that `affected` was made for.
///
/// Without `affected`, or if it is of a version too long ago, it looks at all tasks that were
/// given artifacts.
pub(super) fn running_users(
    state: &EngineState,
    step: &Step,
    affected: Option<&AffectedTasks>,
    is_planned: bool,
) -> Stored<Vec<TaskId>> {
    let graph = state.provenance.graph();
    if spoilt_by(step).next().is_none() {
        return Ok(Vec::new());
    }
    let known = affected.and_then(|affected| Some((affected, state.tasks.users_since(affected.version)?)));
    let (mut found, mut to_check) = (Vec::new(), Vec::new());
    if let Some((affected, begun)) = known {
        to_check.extend(begun);
        found = if is_planned { affected.found.clone() } else { affected.of_step(graph, step) };
    } else {
        to_check = state.tasks.given_ids();
    }
    // The set of given tasks lacks what this group has changed.
    to_check.extend(state.tasks.changed_ids());
    let mut still = Vec::with_capacity(found.len());
    for id in found {
        if state.tasks.find_open(id)?.is_some_and(|task| task.open_attempt().is_some()) {
            still.push(id);
        }
    }
    if !to_check.is_empty() {
        let spoilt = Spoilt::of(graph, step);
        for id in to_check {
            let task = state.tasks.find_open(id)?.filter(|task| task.open_attempt().is_some());
            if let Some(task) = task
                && artifacts_in_group(state, &task)?.iter().any(|artifact| spoilt.made(artifact))
            {
                still.push(id);
            }
        }
    }
    still.sort_unstable();
    still.dedup();
    Ok(still)
}

/// The artifacts that a task was given, as of this group.
fn artifacts_in_group(state: &EngineState, task: &Task) -> Stored<Vec<ArtifactId>> {
    let records = &state.provenance.records;
    let findings = if task.has_findings { records.findings(&state.storage, task.id)? } else { None };
    Ok(given_to(task, state.storage.submission(task.id)?, findings))
}
