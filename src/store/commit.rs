//! Commits: how a batch becomes durable, and small batches that the store makes itself.

use std::time::Duration;

use super::Error;
use super::batch::Batch;
use super::batch_rows::ClockUpdate;
use super::durable::Durable;
use super::open::Store;
use crate::task::{Now, Timestamp};

/// How far in the future the last commit may lie, because clocks of machines differ.
const TOLERANCE: Duration = Duration::from_mins(5);

impl Batch {
    /// Makes the batch durable: all of it or, after a crash, nothing. The caller must apply the
    /// result. If this fails with [`Error::Unknown`], the outcome is unknown and the caller must
    /// stop writing.
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

    /// Makes the batch durable and visible.
    pub fn commit(self, store: &Store, now: Now) -> Result<(), Error> {
        store.apply([self.make_durable(store, now)?])
    }
}

impl Store {
    /// Starts or stops the list of changes. It lacks what changed before it was started.
    pub fn list_changes(&self, list: bool, now: Now) -> Result<(), Error> {
        if self.view()?.changes_from()?.is_some() == list {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.listing.list = Some(list);
        batch.commit(self, now)
    }

    /// Refuses a wall clock by which the last commit lies more than five minutes in the future
    /// ([`Error::ClockBehind`]): the clock is wrong now, or was wrong then.
    pub fn check_clock(&self, now: Timestamp) -> Result<(), Error> {
        let last_commit = self.view()?.last_commit_at()?;
        if last_commit > now.after(TOLERANCE) { Err(Error::ClockBehind { last_commit, now }) } else { Ok(()) }
    }

    /// Accepts the wall clock even if the last commit lies in its future.
    pub fn accept_clock(&self, now: Now) -> Result<(), Error> {
        let last_commit = self.view()?.last_commit_at()?;
        if last_commit <= now.wall {
            return Ok(());
        }
        tracing::warn!(%last_commit, now = %now.wall, "wall clock accepted although the last commit lies in its future");
        let mut batch = Batch::default();
        batch.keep_clocks(ClockUpdate::Accepted);
        batch.commit(self, now)
    }
}
