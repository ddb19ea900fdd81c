//! The time between the commit of a batch and its application to the tables.
//!
//! The journal makes an acknowledged change survive, so the answer need not wait for the tables as
//! well, which take about as long again. A commit therefore has two halves. The writer makes the
//! first; another thread may make the second, in the same order, and for several batches at once.
//! In between a view waits, so that a client that has an answer finds in the tables what the answer
//! says.

use std::sync::Arc;
use std::time::Duration;

use super::room::{self, Room};
use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use super::{Batch, Error};

/// How often a thread that waits for the tables checks whether these wait for room.
const LOOK: Duration = Duration::from_millis(100);

/// How many such checks a thread makes before it gives up on a full disk.
const LOOKS: u32 = 20;

/// Progress of the tables.
#[derive(Debug, Default)]
pub(super) struct TableProgress {
    /// Batches that have become durable since the store was opened.
    durable: AtomicU64,
    /// Batches of these that are in the tables.
    applied: AtomicU64,
    /// The generation of the journal that follows the last checkpoint.
    generation: AtomicU64,
    /// Whether a batch was not applied, so that only the next start applies it.
    failed: AtomicBool,
    /// Number of threads that wait for the tables.
    waiting: Mutex<usize>,
    changed: Condvar,
    wanted: Condvar,
    /// The room that the tables wait for when the disk is full.
    room: Arc<Room>,
}

impl TableProgress {
    /// Progress of a store whose last checkpoint is followed by this generation.
    pub(super) fn at(generation: u64, room: Arc<Room>) -> Self {
        Self { generation: AtomicU64::new(generation), room, ..Self::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all waiters after a state change.
    fn notify_waiters(&self) {
        // A waiter that has seen the old state and does not sleep yet holds the lock.
        drop(self.waiting());
        self.changed.notify_all();
    }

    /// Stops the tables because a batch was not applied or will not be.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.notify_waiters();
    }

    /// Whether a batch was not applied.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Batches in the tables since the store was opened.
    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Records that the tables have this many more batches.
    pub(super) fn record_applied(&self, batches: u64) {
        self.applied.fetch_add(batches, Ordering::AcqRel);
        self.notify_waiters();
    }

    /// The generation that follows the last checkpoint.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Records a durable checkpoint.
    pub(super) fn record_checkpoint(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
        self.room.flushed_before(generation);
        self.notify_waiters();
    }

    fn reached(&self, reached: impl Fn() -> bool) -> Result<bool, Error> {
        if self.failed.load(Ordering::Acquire) { Err(Error::TablesBehind) } else { Ok(reached()) }
    }

    fn wait_until(&self, reached: impl Fn() -> bool) -> Result<(), Error> {
        if self.reached(&reached)? {
            return Ok(());
        }
        let mut waiting = self.waiting();
        *waiting += 1;
        self.wanted.notify_one();
        // Usually the tables continue in memory while the disk is full. A thread gets an error only
        // after it has waited in vain.
        let mut looks = 0;
        let result = loop {
            looks += 1;
            match self.reached(&reached) {
                Ok(false) if looks > LOOKS && self.room.is_waiting() && !room::may_wait() => break Err(Error::NoRoom),
                Ok(false) => waiting = self.wait_for_change(waiting),
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        *waiting -= 1;
        result
    }

    /// Waits for a state change, or until it is time to check whether the disk is full, about which
    /// no thread notifies.
    fn wait_for_change<'a>(&self, waiting: MutexGuard<'a, usize>) -> MutexGuard<'a, usize> {
        let waited = self.changed.wait_timeout(waiting, LOOK);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Blocks until a thread waits for the tables, at most for this time. Returns whether one does.
    pub(super) fn wait_for_reader(&self, at_most: Duration) -> bool {
        let nobody = |waiting: &mut usize| *waiting == 0;
        let waited = self.wanted.wait_timeout_while(self.waiting(), at_most, nobody);
        *waited.unwrap_or_else(PoisonError::into_inner).0 > 0
    }

    /// Whether the tables have all durable batches. Fails once they cannot.
    pub(super) fn are_current(&self) -> Result<bool, Error> {
        let durable = self.durable.load(Ordering::Acquire);
        self.reached(|| self.applied.load(Ordering::Acquire) >= durable)
    }

    /// Blocks until the tables have all batches that are durable now.
    pub(super) fn wait(&self) -> Result<(), Error> {
        let durable = self.durable.load(Ordering::Acquire);
        self.wait_until(|| self.applied.load(Ordering::Acquire) >= durable)
    }

    /// Blocks until the checkpoint that this generation follows is durable.
    pub(super) fn wait_for_checkpoint(&self, generation: u64) -> Result<(), Error> {
        self.wait_until(|| self.generation() >= generation)
    }
}

/// The proof that a batch is on disk. An answer about a change can only be released with it.
#[derive(Debug)]
pub struct Committed(());

/// A durable batch. Every view waits until it is applied, so its holder must not open one.
#[derive(Debug)]
#[must_use = "views wait until it is applied"]
pub struct Durable {
    /// `None` if the tables have the batch.
    waiting: Option<PendingBatch>,
    committed: Committed,
}

/// A batch that the journal has, and the tables do not have yet.
#[derive(Debug)]
pub(super) struct PendingBatch {
    tables: Arc<TableProgress>,
    pub(super) batch: Batch,
    /// Number of the batch since the store was opened, from 1.
    number: u64,
    /// The generation of the journal that contains its record.
    pub(super) generation: u64,
    applied: bool,
}

impl Durable {
    /// A batch that the journal has, and the tables do not have yet.
    pub(super) fn in_journal(tables: &Arc<TableProgress>, batch: Batch, generation: u64) -> Self {
        let number = tables.durable.fetch_add(1, Ordering::AcqRel) + 1;
        let waiting = PendingBatch { tables: tables.clone(), batch, number, generation, applied: false };
        Self { waiting: Some(waiting), committed: Committed(()) }
    }

    /// A batch that the tables have.
    pub(super) const fn in_tables() -> Self {
        Self { waiting: None, committed: Committed(()) }
    }

    /// The batch with its number, unless the tables have it already.
    pub(super) fn numbered(&self) -> Option<(u64, &Batch)> {
        self.waiting.as_ref().map(|waiting| (waiting.number, &waiting.batch))
    }

    /// Number of rows of tasks and of the log that it adds to the tables.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.batch.row_count())
    }

    /// The proof that releases answers.
    #[must_use]
    pub const fn committed(&self) -> &Committed {
        &self.committed
    }

    /// The batch to be applied.
    pub(super) fn into_waiting(self) -> Option<PendingBatch> {
        self.waiting
    }
}

impl PendingBatch {
    /// Records that the tables have the batch.
    pub(super) fn mark_applied(&mut self) {
        self.applied = true;
    }
}

impl Drop for PendingBatch {
    /// A batch that is never applied makes this store unreadable. It is durable all the same, and
    /// the next start applies it.
    fn drop(&mut self) {
        if !self.applied {
            self.tables.fail();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use redb::backends::InMemoryBackend;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::store::Store;
    use crate::task::{Now, Timestamp};

    const TEXT: &[u8] = b"text";
    /// Small batches for which each half has room: one block each.
    const BATCHES_OF_HALF: u64 = 14;
    /// In each half two blocks stand in front of the records.
    const JOURNAL_BYTES: u64 = 2 * (2 + BATCHES_OF_HALF) * 4096;

    fn hash() -> [u8; 32] {
        Sha256::digest(TEXT).into()
    }

    fn store() -> Store {
        Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), JOURNAL_BYTES, 1 << 20).unwrap()
    }

    fn durable(store: &Store) -> Durable {
        let mut batch = Batch::default();
        batch.put_content(hash(), TEXT.to_vec());
        batch.make_durable(store, Now::aligned(Timestamp::from_micros(1))).unwrap()
    }

    #[test]
    fn a_view_waits_for_durable_batches() {
        let store = store();
        let durable = durable(&store);
        assert!(store.view_now().unwrap().is_none());
        let reader = std::thread::spawn({
            let store = store.clone();
            move || store.view().unwrap().content(hash())
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!reader.is_finished(), "a view was given that lacks what is durable");
        store.apply([durable]).unwrap();
        assert_eq!(reader.join().unwrap().unwrap().as_deref(), Some(TEXT));
        assert!(store.view_now().unwrap().is_some());
    }

    #[test]
    fn a_dropped_batch_makes_the_store_unreadable() {
        let store = store();
        let durable = durable(&store);
        let reader = std::thread::spawn({
            let store = store.clone();
            move || store.view().map(|_| ())
        });
        drop(durable);
        assert!(matches!(reader.join().unwrap(), Err(Error::TablesBehind)));
        assert!(matches!(store.view_now(), Err(Error::TablesBehind)));
    }

    #[test]
    fn wait_for_reader_returns_when_a_view_waits() {
        let store = store();
        let durable = durable(&store);
        assert!(!store.wait_for_reader(Duration::from_millis(1)));
        let reader = std::thread::spawn({
            let store = store.clone();
            move || store.view().map(|_| ())
        });
        assert!(store.wait_for_reader(Duration::from_mins(10)));
        store.apply([durable]).unwrap();
        reader.join().unwrap().unwrap();
    }

    #[test]
    fn a_full_journal_waits_for_the_checkpoint() {
        let store = store();
        let (sender, receiver) = mpsc::sync_channel(64);
        let writer = std::thread::spawn({
            let store = store.clone();
            move || (0..40).for_each(|_| sender.send(durable(&store)).unwrap())
        });
        let both_halves: Vec<_> = (0..2 * BATCHES_OF_HALF).map(|_| receiver.recv().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(20));
        assert!(receiver.try_recv().is_err(), "a half was taken that is still needed");
        store.apply(both_halves).unwrap();
        store.apply(receiver).unwrap();
        writer.join().unwrap();
        assert_eq!(store.view().unwrap().content(hash()).unwrap().as_deref(), Some(TEXT));
    }
}
