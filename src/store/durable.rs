//! The time between a batch's being durable and its being in the tables.
//!
//! What is acknowledged has to survive, and for that the journal is enough:
//! the answer need not wait for the tables as well, which take about as long
//! again. So a commit has two halves. The first is the writer's; the second may
//! be made by another thread, in the same order, and for several batches at
//! once. In between a view waits: whoever has had an answer finds in the tables
//! what it told of.

use std::sync::Arc;
use std::time::Duration;

use super::room::{self, Room};
use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use super::{Batch, Error};

/// How often who waits for the tables looks whether these wait for room.
const LOOK: Duration = Duration::from_millis(100);

/// How often it looks before it gives up on a full disk.
const LOOKS: u32 = 20;

/// How far the tables are.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Batches that are durable, since the store was opened.
    durable: AtomicU64,
    /// Those of them that are in the tables.
    applied: AtomicU64,
    /// The generation of the journal that follows the last checkpoint.
    generation: AtomicU64,
    /// A batch did not get there: only the next start brings it.
    failed: AtomicBool,
    /// How many wait for them.
    waiting: Mutex<usize>,
    moved: Condvar,
    wanted: Condvar,
    /// What they wait for when the disk is full.
    room: Arc<Room>,
}

impl Tables {
    /// Those of a store whose last checkpoint is followed by this generation.
    pub(super) fn at(generation: u64, room: Arc<Room>) -> Self {
        Self { generation: AtomicU64::new(generation), room, ..Self::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who waits for what has just changed.
    fn moved(&self) {
        // Who has seen the old state and not gone to sleep yet holds the lock.
        drop(self.waiting());
        self.moved.notify_all();
    }

    /// They do not go on: a batch did not get there, or will not.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.moved();
    }

    /// Whether a batch did not get there.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Batches that are in the tables, since the store was opened.
    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// The tables have so many batches more.
    pub(super) fn note_applied(&self, batches: u64) {
        self.applied.fetch_add(batches, Ordering::AcqRel);
        self.moved();
    }

    /// The generation that follows the last checkpoint.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A checkpoint is durable.
    pub(super) fn note_checkpoint(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
        self.room.flushed_before(generation);
        self.moved();
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
        // Usually the tables go on while the disk is full, in memory: only who has
        // waited in vain is told that there is no room.
        let mut looks = 0;
        let result = loop {
            looks += 1;
            match self.reached(&reached) {
                Ok(false) if looks > LOOKS && self.room.is_waiting() && !room::may_wait() => break Err(Error::NoRoom),
                Ok(false) => waiting = self.wait_for_move(waiting),
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        *waiting -= 1;
        result
    }

    /// Waits until something has changed, or until it is time to look whether the
    /// disk is full, which no one tells of.
    fn wait_for_move<'a>(&self, waiting: MutexGuard<'a, usize>) -> MutexGuard<'a, usize> {
        let waited = self.moved.wait_timeout(waiting, LOOK);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until somebody waits for them, at most so long; whether somebody does.
    pub(super) fn wait_for_reader(&self, at_most: Duration) -> bool {
        let nobody = |waiting: &mut usize| *waiting == 0;
        let waited = self.wanted.wait_timeout_while(self.waiting(), at_most, nobody);
        *waited.unwrap_or_else(PoisonError::into_inner).0 > 0
    }

    /// Whether they have all that is durable; an error once they can't.
    pub(super) fn are_current(&self) -> Result<bool, Error> {
        let durable = self.durable.load(Ordering::Acquire);
        self.reached(|| self.applied.load(Ordering::Acquire) >= durable)
    }

    /// Waits until they have all that is durable now.
    pub(super) fn wait(&self) -> Result<(), Error> {
        let durable = self.durable.load(Ordering::Acquire);
        self.wait_until(|| self.applied.load(Ordering::Acquire) >= durable)
    }

    /// Waits for the checkpoint that is followed by this generation.
    pub(super) fn wait_for_checkpoint(&self, generation: u64) -> Result<(), Error> {
        self.wait_until(|| self.generation() >= generation)
    }
}

/// The proof that a batch is on disk. A reply that tells of a change can only
/// be released with it.
#[derive(Debug)]
pub struct Committed(());

/// A batch that is durable. Until it is applied, every view waits: whoever
/// holds it must not open one.
#[derive(Debug)]
#[must_use = "views wait until it is applied"]
pub struct Durable {
    /// `None`: the tables have it.
    waiting: Option<Waiting>,
    committed: Committed,
}

/// A batch that the journal has, and the tables not yet.
#[derive(Debug)]
pub(super) struct Waiting {
    tables: Arc<Tables>,
    pub(super) batch: Batch,
    /// Counts the batches since the store was opened, from 1.
    number: u64,
    /// The generation of the journal that its record is in.
    pub(super) generation: u64,
    applied: bool,
}

impl Durable {
    /// A batch that the journal has, and the tables not yet.
    pub(super) fn in_journal(tables: &Arc<Tables>, batch: Batch, generation: u64) -> Self {
        let number = tables.durable.fetch_add(1, Ordering::AcqRel) + 1;
        let waiting = Waiting { tables: tables.clone(), batch, number, generation, applied: false };
        Self { waiting: Some(waiting), committed: Committed(()) }
    }

    /// A batch that the tables have.
    pub(super) const fn in_tables() -> Self {
        Self { waiting: None, committed: Committed(()) }
    }

    /// The batch, if the tables do not have it yet, and its number.
    pub(super) fn numbered(&self) -> Option<(u64, &Batch)> {
        self.waiting.as_ref().map(|waiting| (waiting.number, &waiting.batch))
    }

    /// How many rows of tasks and of the log it brings into the tables.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.batch.row_count())
    }

    /// What releases answers.
    #[must_use]
    pub const fn committed(&self) -> &Committed {
        &self.committed
    }

    /// What is to be applied.
    pub(super) fn into_waiting(self) -> Option<Waiting> {
        self.waiting
    }
}

impl Waiting {
    /// The tables have the batch.
    pub(super) fn mark_applied(&mut self) {
        self.applied = true;
    }
}

impl Drop for Waiting {
    /// A batch that is never applied is durable all the same, and the next
    /// start brings it; this store shows nothing any more.
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
    fn a_view_waits_for_what_is_durable() {
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
    fn what_does_not_get_there_shows_nothing_any_more() {
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
    fn who_gathers_learns_of_a_reader() {
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
