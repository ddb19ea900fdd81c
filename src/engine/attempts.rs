//! After which step of the provenance graph the work of an attempt began: what
//! came before it can have been its input.
//!
//! Kept with the task. Of an attempt that began before this was kept, the times
//! say it.

use crate::lineage::Began;
use crate::task::{Seq, Task};

/// A task has changed, when the graph had come to this step. A lost lease leaves
/// the attempt open: it began with the first one.
pub(super) fn follow(old: &Task, new: &mut Task, newest: Seq) {
    if let Some(number) = new.attempt_at_work()
        && old.attempt_at_work() != Some(number)
    {
        new.set_began_after(number, newest);
    }
}

/// Where the order of an attempt among records is known from.
pub(super) fn began(task: &Task, attempt: u32) -> Began {
    task.began_after(attempt).map_or(Began::Unknown, Began::After)
}
