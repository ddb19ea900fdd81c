//! What a copy of the store elsewhere needs of the engine: a consistent look
//! at rows and graph together, and a place for how far the copy is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::api::Error;
use super::handle::Engine;
use crate::lineage::Graph;
use crate::store::{self, CommitNumber, View};

/// How often, and after what pause, the graph of a commit that is on disk is
/// looked for: it is published right after the commit.
const TRIES: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(1);

impl Engine {
    /// Reads what is committed: rows, and a graph that is no older than they.
    /// Other readers are not held up, but the view must not be kept for long.
    pub async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View, &Graph) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.read(move |side| {
            let view = side.store.view()?;
            let graph = graph_of(side, view.commit_number()?);
            read(&view, &graph)
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

fn graph_of(side: &super::read::ReadSide, number: CommitNumber) -> Arc<Graph> {
    for _ in 0..TRIES {
        if side.published.load(Ordering::Acquire) >= number.0 || side.is_stopped() {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    side.graph()
}
