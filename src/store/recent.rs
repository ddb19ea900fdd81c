//! Rows of durable batches that the tables do not have yet. With them the writer reads its own
//! writes without waiting for the thread that applies batches.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use bytes::Bytes;

use super::codec::decode;
use super::rows::Record;
use super::{Durable, Error, Store, View};
use crate::task::{Findings, RecordId, Submission, Task, TaskId};

/// Stands for the row of a removed task; no row is empty.
const REMOVED: &[u8] = &[];

/// Rows by key, each with the number of its batch.
#[derive(Debug)]
struct Rows<K> {
    rows: HashMap<K, (u64, Bytes)>,
}

impl<K: Eq + Hash> Rows<K> {
    fn get(&self, key: &K) -> Option<&[u8]> {
        self.rows.get(key).map(|(_, bytes)| &bytes[..])
    }

    fn insert(&mut self, key: K, number: u64, bytes: &Bytes) {
        self.rows.insert(key, (number, bytes.clone()));
    }

    /// Removes a row unless a later batch has written it again.
    fn remove(&mut self, key: &K, number: u64) {
        if self.rows.get(key).is_some_and(|(of, _)| *of == number) {
            self.rows.remove(key);
        }
    }
}

impl<K> Default for Rows<K> {
    fn default() -> Self {
        Self { rows: HashMap::new() }
    }
}

/// The keys of one batch.
#[derive(Debug, Default)]
struct Keys {
    number: u64,
    ended: Vec<TaskId>,
    records: Vec<RecordId>,
    findings: Vec<TaskId>,
}

/// Changeable rows that the tables may not have yet: ended tasks, provenance records and findings.
/// Owned by the thread that makes batches durable.
#[derive(Debug, Default)]
pub struct RecentRows {
    ended: Rows<TaskId>,
    records: Rows<RecordId>,
    findings: Rows<TaskId>,
    batches: VecDeque<Keys>,
}

impl RecentRows {
    /// Keeps the rows of a batch that was just made durable until the tables have it, and drops
    /// those of applied batches.
    pub fn keep(&mut self, store: &Store, durable: &Durable) {
        let applied = store.tables().applied();
        while self.batches.front().is_some_and(|keys| keys.number <= applied) {
            let Some(keys) = self.batches.pop_front() else { break };
            keys.ended.iter().for_each(|id| self.ended.remove(id, keys.number));
            keys.records.iter().for_each(|id| self.records.remove(id, keys.number));
            keys.findings.iter().for_each(|id| self.findings.remove(id, keys.number));
        }
        let Some((number, batch)) = durable.numbered() else { return };
        let mut keys = Keys { number, ..Keys::default() };
        for row in batch.tasks.iter().filter(|row| row.ended.is_some()) {
            self.ended.insert(row.id, number, &row.bytes);
            keys.ended.push(row.id);
        }
        for task in &batch.removed_tasks {
            self.ended.insert(task.id, number, &Bytes::from_static(REMOVED));
            keys.ended.push(task.id);
        }
        for (id, bytes) in &batch.records {
            self.records.insert(*id, number, bytes);
            keys.records.push(*id);
        }
        for (id, bytes) in &batch.findings {
            self.findings.insert(*id, number, bytes);
            keys.findings.push(*id);
        }
        if !(keys.ended.is_empty() && keys.records.is_empty() && keys.findings.is_empty()) {
            self.batches.push_back(keys);
        }
    }

    /// A task that has ended and was not removed.
    pub fn ended_task(&self, store: &Store, id: TaskId) -> Result<Option<Task>, Error> {
        match self.ended.get(&id) {
            Some(REMOVED) => Ok(None),
            Some(row) => decode("tasks", row).map(Some),
            None => store.view_of_tables()?.task(id),
        }
    }

    /// Reads a provenance record.
    pub fn record(&self, store: &Store, id: RecordId) -> Result<Option<Record>, Error> {
        match self.records.get(&id) {
            Some(row) => decode("records", row).map(Some),
            None => store.view_of_tables()?.record(id),
        }
    }

    /// Findings of the Agent and the RAG service for the workers of a task.
    pub fn findings(&self, store: &Store, id: TaskId) -> Result<Option<Findings>, Error> {
        match self.findings.get(&id) {
            Some(row) => decode("findings", row).map(Some),
            None => store.view_of_tables()?.findings(id),
        }
    }

    /// The client's request. It never changes, so this waits for the tables only if they do not
    /// have it.
    pub fn submission(store: &Store, id: TaskId) -> Result<Option<Submission>, Error> {
        let of = |view: View| view.submission(id);
        match of(store.view_of_tables()?)? {
            Some(submission) => Ok(Some(submission)),
            None => of(store.view()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::Batch;
    use crate::task::{Now, Timestamp};

    fn store() -> Store {
        Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 20, 1 << 20).unwrap()
    }

    fn durable(store: &Store, findings: &Findings) -> Durable {
        let mut batch = Batch::default();
        batch.put_findings(TaskId::from_bytes([1; 16]), findings).unwrap();
        batch.make_durable(store, Now::aligned(Timestamp::from_micros(1))).unwrap()
    }

    #[test]
    fn a_row_is_read_at_once_and_forgotten_when_the_tables_have_its_last_version() {
        let (store, task) = (store(), TaskId::from_bytes([1; 16]));
        let mut recent = RecentRows::default();
        let (first, second) = (Findings::default(), Findings::default());
        let one = durable(&store, &first);
        recent.keep(&store, &one);
        assert_eq!(recent.findings(&store, task).unwrap(), Some(first), "it would wait for the tables for ever");
        let two = durable(&store, &second);
        recent.keep(&store, &two);
        store.apply([one]).unwrap();
        let three = durable(&store, &Findings::default());
        recent.keep(&store, &three);
        assert_eq!((recent.batches.len(), recent.findings.rows.len()), (2, 1), "a later batch has the row too");
        store.apply([two, three]).unwrap();
        let empty = Batch::default().make_durable(&store, Now::aligned(Timestamp::from_micros(2))).unwrap();
        recent.keep(&store, &empty);
        assert_eq!((recent.batches.len(), recent.findings.rows.len()), (0, 0));
        assert_eq!(recent.findings(&store, task).unwrap(), Some(Findings::default()));
        assert_eq!(recent.findings(&store, TaskId::from_bytes([2; 16])).unwrap(), None);
    }
}
