//! The open tasks in memory, in few bytes each: the row of the table, which is decoded when
//! something happens to the task.
//!
//! There can be millions of them, so the map must never grow in one step.

use std::collections::{HashMap, VecDeque};

use crate::engine::shared::{IdHash, ShardedMap};
use crate::store::{self, OpenRow};
use crate::task::{Task, TaskId};

/// Where the fixed part of a task's answer is, which never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FixedIn {
    /// In the store; it has not been read since the start.
    Unread,
    /// In the answer that the read side has in memory.
    Memory,
    /// In the store, because it is too large for memory.
    Store,
}

/// What is known of the submission of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Submitted {
    /// Where the fixed part of its answer is.
    pub(super) fixed: FixedIn,
    /// Whether the client may have named artifacts as inputs: true as long as the
    /// submission has not been read.
    pub(super) may_name_inputs: bool,
}

impl Submitted {
    /// Of a task from before the start, whose submission has not been read.
    pub(super) const UNREAD: Self = Self { fixed: FixedIn::Unread, may_name_inputs: true };
    const NO_INPUTS: u8 = 0b100;

    fn code(self) -> u8 {
        let fixed = match self.fixed {
            FixedIn::Unread => 0,
            FixedIn::Memory => 1,
            FixedIn::Store => 2,
        };
        if self.may_name_inputs { fixed } else { fixed | Self::NO_INPUTS }
    }

    fn of_code(code: u8) -> Self {
        let fixed = match code & 0b11 {
            1 => FixedIn::Memory,
            2 => FixedIn::Store,
            _ => FixedIn::Unread,
        };
        Self { fixed, may_name_inputs: code & Self::NO_INPUTS == 0 }
    }
}

/// Most tasks that are kept decoded.
const DECODED: usize = 4096;
/// Bytes of a row above which the task is not kept decoded.
const DECODED_ROW_BYTES: usize = 1024;

/// The open tasks as of the last commit.
#[derive(Debug, Default)]
pub(super) struct OpenTasks {
    /// The row of each task, behind one byte for [`Submitted`].
    tasks: ShardedMap<TaskId, Box<[u8]>>,
    /// Some of the tasks that a worker has, decoded, because they will change again soon.
    decoded: HashMap<TaskId, Task, IdHash>,
    /// The ids of `decoded` in the order in which they were kept, among ids that have left
    /// it since.
    kept: VecDeque<TaskId>,
}

impl OpenTasks {
    fn entry(&self, id: TaskId) -> Option<(Submitted, &[u8])> {
        let (code, row) = self.tasks.get(&id)?.split_first()?;
        Some((Submitted::of_code(*code), row))
    }

    /// Keeps the row of a task, in the place of its row before.
    pub(super) fn insert(&mut self, id: TaskId, submitted: Submitted, row: &[u8]) {
        let mut bytes = Vec::with_capacity(row.len() + 1);
        bytes.push(submitted.code());
        bytes.extend_from_slice(row);
        self.tasks.insert(id, bytes.into_boxed_slice());
        self.decoded.remove(&id);
    }

    /// Keeps a task decoded beside its row, which was inserted just now, if a worker has it:
    /// it will probably change again soon.
    pub(super) fn keep_decoded(&mut self, task: Task) {
        let row = self.entry(task.id).map_or(&[][..], |(_, row)| row);
        debug_assert_eq!(store::open_task(row).ok().as_ref(), Some(&task), "the row and the task differ");
        if task.open_attempt().is_none() || row.len() > DECODED_ROW_BYTES {
            return;
        }
        self.kept.push_back(task.id);
        self.decoded.insert(task.id, task);
        // Each id of `decoded` is also in `kept`, so this ends.
        while self.decoded.len() > DECODED || self.kept.len() > 2 * DECODED {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.decoded.remove(&oldest);
        }
    }

    /// Removes a task that has ended.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.tasks.remove(&id);
        self.decoded.remove(&id);
    }

    /// Returns a task, decoded.
    pub(super) fn get(&self, id: TaskId) -> Result<Option<(Task, Submitted)>, store::Error> {
        let Some((submitted, row)) = self.entry(id) else { return Ok(None) };
        let task = match self.decoded.get(&id) {
            Some(task) => task.clone(),
            None => store::open_task(row)?,
        };
        Ok(Some((task, submitted)))
    }

    /// Returns a task that is about to change, decoded. It is no longer kept decoded.
    pub(super) fn take(&mut self, id: TaskId) -> Result<Option<(Task, Submitted)>, store::Error> {
        let decoded = self.decoded.remove(&id);
        let Some((submitted, row)) = self.entry(id) else { return Ok(None) };
        let task = decoded.map_or_else(|| store::open_task(row), Ok)?;
        Ok(Some((task, submitted)))
    }

    /// Replaces what is known of the submission of a task.
    pub(super) fn set_submitted(&mut self, id: TaskId, submitted: Submitted) {
        if let Some(code) = self.tasks.get_mut(&id).and_then(|entry| entry.first_mut()) {
            *code = submitted.code();
        }
    }

    /// The ids of all open tasks, in no order.
    pub(super) fn ids(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.keys().copied()
    }
}

/// Rows in a chunk.
const CHUNK: usize = 1024;
/// Most chunks that are decoded ahead.
const AHEAD: usize = 16;

/// Decodes the rows of open tasks and calls `enter` for each, in order. Another thread
/// decodes ahead, because decoding and entering take about the same time.
pub(super) fn enter_decoded(rows: Vec<OpenRow>, mut enter: impl FnMut(Task, OpenRow)) -> Result<(), store::Error> {
    std::thread::scope(|scope| {
        let (sender, chunks) = crossbeam_channel::bounded(AHEAD);
        scope.spawn(move || {
            let mut rows = rows.into_iter();
            loop {
                let decoded = rows.by_ref().take(CHUNK).map(|row| Ok((row.task()?, row)));
                let chunk: Result<Vec<_>, store::Error> = decoded.collect();
                let is_last = chunk.as_ref().map_or(true, |chunk| chunk.len() < CHUNK);
                // The receiver is gone after an error: then it needs no more rows.
                if sender.send(chunk).is_err() || is_last {
                    break;
                }
            }
        });
        for chunk in chunks {
            for (task, row) in chunk? {
                enter(task, row);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_the_submission_is_kept_beside_the_row() {
        let mut open = OpenTasks::default();
        let id = TaskId::from_bytes([7; 16]);
        let known = Submitted { fixed: FixedIn::Store, may_name_inputs: false };
        open.insert(id, Submitted::UNREAD, b"row");
        assert_eq!(open.entry(id), Some((Submitted::UNREAD, &b"row"[..])));
        open.set_submitted(id, known);
        assert_eq!(open.entry(id), Some((known, &b"row"[..])));
        open.insert(id, known, b"new");
        assert_eq!(open.entry(id), Some((known, &b"new"[..])));
        open.remove(id);
        assert_eq!(open.entry(id), None);
        assert!(open.get(id).unwrap().is_none());
    }
}
