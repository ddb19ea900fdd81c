//! Progress of a copy of the store elsewhere, which follows the list of changes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::{self, CommitNumber, Store};

/// Commits that a copy can read, and those that it has.
#[derive(Debug)]
pub(in crate::engine) struct CopyProgress {
    /// Number of the last commit in the tables.
    published: AtomicU64,
    /// Whether the store lists changes, without which commits have no number.
    lists_changes: bool,
    /// Number of the last commit that the copy has.
    copied: AtomicU64,
}

impl CopyProgress {
    pub(super) fn new(store: &Store) -> Result<Self, store::Error> {
        let view = store.view()?;
        let lists_changes = view.changes_from()?.is_some();
        Ok(Self { published: AtomicU64::new(view.commit_number()?.0), lists_changes, copied: AtomicU64::new(0) })
    }

    /// Looks up the number of the last commit in the tables.
    pub(super) fn refresh(&self, store: &Store) {
        if !self.lists_changes {
            return;
        }
        match store.view_of_tables().and_then(|view| view.commit_number()) {
            Ok(number) => self.published.store(number.0, Ordering::Release),
            // The thread that applies the next batch meets the error too. Until then the copy waits.
            Err(error) => tracing::error!(%error, "the number of the last commit can't be read"),
        }
    }

    /// Returns the number of the last commit that readers of the tables see.
    pub(in crate::engine) fn published(&self) -> CommitNumber {
        CommitNumber(self.published.load(Ordering::Acquire))
    }

    /// Records that the copy has every commit up to this one.
    pub(in crate::engine) fn confirm(&self, until: CommitNumber) {
        self.copied.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Returns the number of the last commit that the copy has; zero before the first.
    pub(in crate::engine) fn copied(&self) -> u64 {
        self.copied.load(Ordering::Acquire)
    }
}
