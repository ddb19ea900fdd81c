//! The counterpart of a copy of the store elsewhere: consistent reads, and how far
//! the copy is.

use super::client::Client;
use crate::engine::api::Error;
use crate::lineage::Graph;
use crate::store::{self, CommitNumber, View};

/// The counterpart of a copy of the store, by [`Engine::replication`](crate::engine::Engine::replication).
#[derive(Debug, Clone, Copy)]
pub struct ReplicationHandle<'a>(pub(super) &'a Client);

impl ReplicationHandle<'_> {
    /// Reads committed rows, and a graph that is no older than the rows. Other readers
    /// are not blocked, but the file grows for as long as the view is open.
    pub async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(&View, &Graph) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.0
            .read(move |side| {
                // A graph is published before its commit reaches the tables.
                let view = side.store.view()?;
                read(&view, &side.graph())
            })
            .await
    }

    /// Records that the copy has every commit up to this one: the list of changes can
    /// be trimmed.
    pub fn confirm(self, until: CommitNumber) {
        self.0.read.copy.confirm(until);
    }

    /// Returns the number of the last commit that changed rows, once readers see it.
    #[must_use]
    pub fn commit_number(self) -> CommitNumber {
        self.0.read.copy.published()
    }
}
