//! The time between a batch's being durable and its being in the tables.
//!
//! What is acknowledged has to survive, and for that the journal is enough:
//! the answer need not wait for the tables as well, which take about as long
//! again. So a commit has two halves, and between them a view waits for the
//! second: whoever has had an answer finds in the tables what it told of.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use redb::Durability;

use super::batch::Committed;
use super::{Batch, Error, Store};

/// The tables have all that is durable.
const CURRENT: u8 = 0;
/// A durable batch is on its way into them.
const BEHIND: u8 = 1;
/// It did not get there: only the next start brings it.
const FAILED: u8 = 2;

/// Whether the tables have all that is durable.
#[derive(Debug, Default)]
pub(super) struct Tables {
    state: AtomicU8,
    lock: Mutex<()>,
    moved: Condvar,
}

impl Tables {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        if state != BEHIND {
            // Who has seen the old state and not gone to sleep yet holds the lock.
            drop(self.lock());
            self.moved.notify_all();
        }
    }

    /// Whether they are current; an error once they can't become so.
    pub(super) fn are_current(&self) -> Result<bool, Error> {
        match self.state.load(Ordering::Acquire) {
            CURRENT => Ok(true),
            BEHIND => Ok(false),
            _ => Err(Error::TablesBehind),
        }
    }

    /// Waits until they are current.
    pub(super) fn wait(&self) -> Result<(), Error> {
        if self.are_current()? {
            return Ok(());
        }
        let mut guard = self.lock();
        while !self.are_current()? {
            guard = self.moved.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// A batch that is durable. Until it is applied, every view waits: whoever
/// holds it must not open one.
#[derive(Debug)]
#[must_use = "views wait until it is applied"]
pub struct Durable<'a> {
    store: &'a Store,
    /// `None`: the tables have it.
    batch: Option<Batch>,
    committed: Committed,
}

impl<'a> Durable<'a> {
    /// A batch that the journal has, and the tables not yet.
    pub(super) fn in_journal(store: &'a Store, batch: Batch, committed: Committed) -> Self {
        store.tables().set(BEHIND);
        Self { store, batch: Some(batch), committed }
    }

    /// A batch that the tables have.
    pub(super) const fn in_tables(store: &'a Store, committed: Committed) -> Self {
        Self { store, batch: None, committed }
    }

    /// What releases answers.
    #[must_use]
    pub const fn committed(&self) -> &Committed {
        &self.committed
    }

    /// Brings the batch into the tables. When this fails it is durable all the
    /// same, and the next start brings it; this store shows nothing any more.
    pub fn apply(mut self) -> Result<(), Error> {
        let Some(batch) = &self.batch else { return Ok(()) };
        let mut transaction = self.store.database().begin_write()?;
        transaction.set_durability(Durability::None)?;
        batch.apply(&transaction)?;
        transaction.commit()?;
        self.batch = None;
        self.store.tables().set(CURRENT);
        Ok(())
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        if self.batch.is_some() {
            self.store.tables().set(FAILED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redb::backends::InMemoryBackend;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::task::Timestamp;

    const TEXT: &[u8] = b"text";

    fn hash() -> [u8; 32] {
        Sha256::digest(TEXT).into()
    }

    fn store() -> Store {
        Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 20, 1 << 20).unwrap()
    }

    fn durable(store: &Store) -> Durable<'_> {
        let mut batch = Batch::default();
        batch.put_content(hash(), TEXT.to_vec());
        batch.make_durable(store, Timestamp::from_micros(1)).unwrap()
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
        durable.apply().unwrap();
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
}
