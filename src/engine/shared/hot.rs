//! The status answers that are in memory, by task, for readers that never wait for the writer.

use std::sync::{Mutex, PoisonError};

use super::id_hash::IdHash;
use super::sharded::ChunkedQueue;
use crate::engine::api::{Answer, Hold};
use crate::task::TaskId;
use crate::wire::{CompactAnswer, FixedValues};

/// Bytes of an entry besides the answer: the key, pointers and the slots of the map.
const ENTRY_BYTES: usize = 96;

/// Status answers by task. Those of open tasks always stay; of the finished tasks the newest
/// stay, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct HotTasks {
    answers: papaya::HashMap<TaskId, CompactAnswer, IdHash>,
    finished: Mutex<Finished>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Finished {
    order: ChunkedQueue<TaskId>,
    bytes: usize,
}

impl HotTasks {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { answers: papaya::HashMap::with_hasher(IdHash::default()), finished: Mutex::default(), max_bytes }
    }

    /// Returns the answer of a task, if it is in memory. `hold` tells which pause holds
    /// the task back.
    pub(crate) fn get(&self, task: TaskId, hold: impl FnOnce(&CompactAnswer) -> Option<Hold>) -> Option<Answer> {
        self.answers.pin().get(&task).map(|answer| answer.render(task, hold(answer)))
    }

    /// Returns the fixed part of an open task's answer, which never changes, if it is in memory.
    pub(crate) fn fixed(&self, task: TaskId) -> Option<FixedValues> {
        self.answers.pin().get(&task).and_then(CompactAnswer::fixed_values)
    }

    pub(crate) fn put_open(&self, task: TaskId, answer: CompactAnswer) {
        self.answers.pin().insert(task, answer);
    }

    /// Inserts the answer of a finished task. Older ones make room for it.
    pub(crate) fn put_finished(&self, task: TaskId, answer: CompactAnswer) {
        let answer = answer.with_token_runs();
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = self.answers.pin();
        finished.bytes += answer.len() + ENTRY_BYTES;
        finished.order.push_back(task);
        // A late output changes a finished task, whose old answer then goes.
        if let Some(old) = answers.insert(task, answer).filter(|old| old.has_ended()) {
            finished.bytes = finished.bytes.saturating_sub(old.len() + ENTRY_BYTES);
        }
        while finished.bytes > self.max_bytes {
            let Some(oldest) = finished.order.pop_front() else { break };
            if let Some(answer) = answers.remove(&oldest) {
                finished.bytes = finished.bytes.saturating_sub(answer.len() + ENTRY_BYTES);
            }
        }
    }

    /// Inserts the answer of a task that finished before the start as the oldest of all.
    /// Returns `false` if there is no room for it.
    pub(crate) fn put_older(&self, task: TaskId, answer: CompactAnswer) -> bool {
        let answer = answer.with_token_runs();
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = answer.len() + ENTRY_BYTES;
        if finished.bytes + bytes > self.max_bytes {
            return false;
        }
        if self.answers.pin().try_insert(task, answer).is_ok() {
            finished.bytes += bytes;
            finished.order.push_front(task);
        }
        true
    }

    /// Removes the answer of a task, which is then read from the store.
    pub(crate) fn remove(&self, task: TaskId) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = self.answers.pin();
        if let Some(answer) = answers.remove(&task).filter(|answer| answer.has_ended()) {
            finished.bytes = finished.bytes.saturating_sub(answer.len() + ENTRY_BYTES);
        }
        // The task keeps its place in the order, where it no longer counts, until it is the
        // oldest: the oldest are also the first to be removed.
        while finished.order.front().is_some_and(|oldest| !answers.contains_key(oldest)) {
            finished.order.pop_front();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }
}
