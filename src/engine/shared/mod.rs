//! What the writer and the read side both use: the answers in memory, the set of tasks that
//! were given artifacts, the maps that these are made of, and the progress of the threads.

use std::sync::Arc;

mod given;
mod hot;
mod id_hash;
mod progress;
mod sharded;
mod statements;

pub(super) use given::Given;
pub(super) use hot::HotTasks;
pub(super) use id_hash::IdHash;
pub(super) use progress::{Activity, Progress, watch};
pub(super) use sharded::{ChunkedQueue, ShardedMap};
pub(super) use statements::{named_by, statements_in, statements_of_fact};

/// The maps that the writer changes while the read side reads them.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    /// The status answers that are in memory.
    pub(super) hot: Arc<HotTasks>,
    /// Tasks with an open attempt that were or may have been given artifacts, as of the
    /// last commit.
    pub(super) given: Arc<Given>,
}

impl Shared {
    /// Empty maps; the answers of finished tasks get at most `hot_bytes` of memory.
    pub(super) fn new(hot_bytes: usize) -> Self {
        Self { hot: Arc::new(HotTasks::new(hot_bytes)), given: Arc::default() }
    }
}
