//! What a copy of the store elsewhere needs of the engine: a consistent look
//! at rows and graph together, and a place for how far the copy is.

use std::sync::atomic::Ordering;

use super::api::Error;
use super::handle::Engine;
use crate::lineage::Graph;
use crate::store::{self, CommitNumber, View};

impl Engine {
    /// Reads what is committed: rows, and a graph that is no older than they.
    /// Other readers are not held up, but the view must not be kept for long.
    pub async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View, &Graph) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.read(move |side| {
            // A graph is published before its commit goes to the tables.
            let view = side.store.view()?;
            read(&view, &side.graph())
        })
        .await
    }

    /// The copy has every commit up to here: the list of changes is trimmed.
    pub fn copied(&self, until: CommitNumber) {
        self.read.copied.fetch_max(until.0, Ordering::AcqRel);
    }

    /// The number of the last commit that changed something, once readers see it.
    #[must_use]
    pub fn commit_number(&self) -> CommitNumber {
        CommitNumber(self.read.published.load(Ordering::Acquire))
    }
}
