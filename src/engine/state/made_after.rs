//! What was made in a project after a checkpoint: the records and tasks that a rollback
//! undoes.

use std::collections::{BTreeSet, HashSet};

use super::failure::Stored;
use super::families::{Roots, ViewedTasks};
use super::provenance::RolledBack;
use crate::lineage::{Flag, Graph, RecordState, WorkStart};
use crate::store::{Checkpoint, ScanFilter, View};
use crate::task::{RecordId, Status, TaskId, Timestamp};

/// Returns the records of the project that were made after the checkpoint and that no rollback
/// to it has tainted yet, and the tasks that made those of them that are not tainted at all.
pub(super) fn made_after(
    view: &View,
    graph: &Graph,
    checkpoint: &Checkpoint,
    point: Point,
) -> Stored<(Vec<RecordId>, BTreeSet<TaskId>)> {
    let (mut records, mut tasks) = (Vec::new(), BTreeSet::new());
    let Some(project) = graph.find_project(&checkpoint.project) else { return Ok((records, tasks)) };
    let known = graph.nodes().filter_map(|node| graph.record(node));
    let own_id = |known: &RecordState| (known.began != WorkStart::Elsewhere).then(|| known.id.to_bytes());
    let is_after = |known: &RecordState| point.is_before(own_id(known), known.created_at);
    let after = known.filter(|known| known.project == project && is_after(known));
    let mut rolled_back = RolledBack::new(view, &checkpoint.id);
    for known in after {
        if known.flag != Flag::Tainted {
            tasks.insert(known.task);
        } else if rolled_back.has_named(graph, known.id)? {
            continue;
        }
        records.push(known.id);
    }
    Ok((records, tasks))
}

/// An open task of the project that was made after the checkpoint.
struct OpenTask {
    id: TaskId,
    /// The task at the top of its family.
    root: TaskId,
    has_attempt: bool,
    depends_on: Vec<TaskId>,
}

/// Returns the open tasks to cancel, in order of their ids: of those that were made after the
/// checkpoint the ones of families with an open attempt or whose work is undone, which
/// `affected` names, and the ones that depend on any of these.
pub(super) fn to_cancel(
    tasks: &ViewedTasks<'_>,
    roots: &mut Roots<'_>,
    affected: &BTreeSet<TaskId>,
    checkpoint: &Checkpoint,
    requeue: bool,
) -> Stored<Vec<TaskId>> {
    let mut open = open_after(tasks, roots, checkpoint)?;
    if requeue {
        let mut made_again = HashSet::new();
        for OpenTask { root, .. } in &open {
            if !affected.contains(root) && roots.is_made_again(*root, checkpoint)? {
                made_again.insert(*root);
            }
        }
        open.retain(|task| !made_again.contains(&task.root));
    }
    let begun = open.iter().filter(|task| task.has_attempt || affected.contains(&task.root));
    let mut undone: HashSet<TaskId> = begun.map(|task| task.root).collect();
    for root in affected {
        // A task from before the checkpoint that has not ended continues.
        if tasks.get(*root)?.is_none_or(|task| task.status().is_terminal()) {
            undone.insert(*root);
        }
    }
    // A task is younger than those that it depends on; parts depend on each other only.
    for task in &open {
        for dependency in &task.depends_on {
            if undone.contains(&roots.of(*dependency)?) {
                undone.insert(task.root);
            }
        }
    }
    Ok(open.into_iter().filter(|task| undone.contains(&task.root)).map(|task| task.id).collect())
}

/// The open tasks of the project that were made after the checkpoint, the oldest first.
fn open_after(tasks: &ViewedTasks<'_>, roots: &mut Roots<'_>, checkpoint: &Checkpoint) -> Stored<Vec<OpenTask>> {
    let point = Point::of(checkpoint);
    let statuses = vec![Status::Pending, Status::Running];
    let filter = ScanFilter { project: Some(checkpoint.project.clone()), statuses, below: None };
    let mut open = Vec::new();
    // Newest first, because ids grow with the log.
    for id in tasks.view.scan(&filter)? {
        let id = id?;
        let after = tasks.get(id)?.filter(|task| point.is_before(Some(id.to_bytes()), task.created_at));
        if let Some(task) = after {
            let (root, has_attempt) = (roots.of(id)?, task.open_attempt().is_some());
            open.push(OpenTask { id, root, has_attempt, depends_on: task.depends_on });
        } else if point.own_id.is_some() {
            break;
        }
    }
    open.sort_unstable_by_key(|task| task.id);
    Ok(open)
}

/// A checkpoint as a point in the order of what was made in its project.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// The id, where the checkpoint was made here.
    own_id: Option<[u8; 16]>,
    at: Timestamp,
}

impl Point {
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        Self { own_id: checkpoint.own_id(), at: checkpoint.created_at }
    }

    /// Whether something was made strictly later. What was made here, as the checkpoint was,
    /// has an id, and ids grow with the log, whatever the wall clock does. For what was
    /// imported the times decide.
    pub(super) fn is_before(self, own_id: Option<[u8; 16]>, created_at: Timestamp) -> bool {
        match (self.own_id, own_id) {
            (Some(own), Some(other)) => other > own,
            _ => created_at > self.at,
        }
    }
}
