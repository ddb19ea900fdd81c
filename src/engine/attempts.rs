//! When the work of an attempt began, for the provenance graph and for parents.
//!
//! After which step of the graph it began is kept with the task: what came before
//! that step can have been its input. Of an attempt that began before this was
//! kept, the times say it.

use super::machine::Machine;
use crate::lineage::Began;
use crate::store;
use crate::task::{Input, Now, Seq, Task, TaskId};

/// A task has changed, when the graph had come to this step. A lost lease leaves
/// the attempt open: it began with the first one. An output that nobody was known to
/// work on begins its attempt, and can complete the task at once.
pub(super) fn follow(old: &Task, new: &mut Task, newest: Seq) {
    if let Some(number) = new.attempt_begun()
        && old.attempt_begun() != Some(number)
    {
        new.set_began_after(number, newest);
    }
}

/// Where the order of an attempt among records is known from.
pub(super) fn began(task: &Task, attempt: u32) -> Began {
    task.began_after(attempt).map_or(Began::Unknown, Began::After)
}

impl Machine {
    /// What a parent learns when a worker never got the subtask that was leased for
    /// it: when another one began first, if one has.
    pub(super) fn child_taken_back(&self, parent: TaskId) -> Result<Input, store::Error> {
        let mut first: Option<Now> = None;
        for child in self.find_open(parent)?.into_iter().flat_map(|parent| parent.children) {
            let Some(child) = self.find(child)? else { continue };
            let began = child.started().zip(child.started_at).map(|(observed, wall)| Now { observed, wall });
            first = first.into_iter().chain(began).min_by_key(|began| began.observed);
        }
        Ok(Input::ChildTakenBack { first })
    }
}
