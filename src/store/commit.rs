//! Commits: a batch becomes durable, and the store's own small batches.

use std::time::Duration;

use super::Error;
use super::batch::Batch;
use super::batch_rows::Look;
use super::durable::Durable;
use super::open::Store;
use crate::task::{Now, Timestamp};

/// How far the last commit may lie in the future: clocks of machines differ.
const TOLERANCE: Duration = Duration::from_mins(5);

impl Batch {
    /// Makes the batch durable: all of it or, after a crash, nothing. It is
    /// to be applied then. When this fails with [`Error::Unknown`] the outcome
    /// is unknown, and the caller must stop writing.
    pub fn make_durable(mut self, store: &Store, now: Now) -> Result<Durable, Error> {
        if self.is_empty() {
            return Ok(Durable::in_tables());
        }
        (self.at, self.observed) = (now.wall, now.observed);
        self.tasks.sort_unstable_by_key(|row| row.id);
        self.contents.name_files();
        Ok(match store.journal_or_apply(&self)? {
            Some(generation) => Durable::in_journal(store.tables(), self, generation),
            None => Durable::in_tables(),
        })
    }

    /// Makes the batch durable, and visible.
    pub fn commit(self, store: &Store, now: Now) -> Result<(), Error> {
        store.apply([self.make_durable(store, now)?])
    }
}

impl Store {
    /// Lists from now on what commits change, or no longer. What was changed
    /// before the list began is not in it.
    pub fn list_changes(&self, list: bool, now: Now) -> Result<(), Error> {
        if self.view()?.changes_from()?.is_some() == list {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.listing.list = Some(list);
        batch.commit(self, now)
    }

    /// Refuses a wall clock by which the last commit lies more than five minutes
    /// in the future ([`Error::ClockBehind`]): the clock is wrong now, or was
    /// wrong then.
    pub fn check_clock(&self, now: Timestamp) -> Result<(), Error> {
        let last_commit = self.view()?.last_commit_at()?;
        if last_commit > now.after(TOLERANCE) { Err(Error::ClockBehind { last_commit, now }) } else { Ok(()) }
    }

    /// Takes the wall clock as it is, although the last commit may lie in its
    /// future.
    pub fn accept_clock(&self, now: Now) -> Result<(), Error> {
        let last_commit = self.view()?.last_commit_at()?;
        if last_commit <= now.wall {
            return Ok(());
        }
        tracing::warn!(%last_commit, now = %now.wall, "the wall clock is accepted, although the last commit lies ahead");
        let mut batch = Batch::default();
        batch.keep_clocks(Look::Accepted);
        batch.commit(self, now)
    }
}
