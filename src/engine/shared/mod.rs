//! What the writer's state and the read side both hold: the answers in memory and the
//! set of tasks that were given artifacts; and the maps that they are made of.

use std::sync::Arc;

mod given;
mod hot;
mod sharded;

pub(super) use given::Given;
pub(super) use hot::{HotTasks, IdHash};
pub(super) use sharded::{ChunkedQueue, ShardedMap};

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
