//! The store as the writer reads it.

use std::sync::Arc;

use super::failure::Stored;
use crate::store::{Durable, RecentRows, Record, Room, Store, View};
use crate::task::{Findings, RecordId, Submission, Task, TaskId};

/// The store, and the rows of recent commits that its tables do not have yet.
#[derive(Debug)]
pub(super) struct Storage {
    store: Store,
    recent: RecentRows,
}

impl Storage {
    pub(super) fn new(store: Store) -> Self {
        Self { store, recent: RecentRows::default() }
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        self.store.room()
    }

    /// Opens a view of everything that is committed. Blocks until the tables have it.
    pub(super) fn view(&self) -> Stored<View> {
        self.store.view()
    }

    /// Opens a view of what the tables have, which may lag the last commit. Does not block.
    pub(super) fn view_of_tables(&self) -> Stored<View> {
        self.store.view_of_tables()
    }

    /// Returns a task that had ended by the last commit.
    pub(super) fn ended_task(&self, id: TaskId) -> Stored<Option<Task>> {
        self.recent.ended_task(&self.store, id)
    }

    pub(super) fn record(&self, id: RecordId) -> Stored<Option<Record>> {
        self.recent.record(&self.store, id)
    }

    pub(super) fn findings(&self, task: TaskId) -> Stored<Option<Findings>> {
        self.recent.findings(&self.store, task)
    }

    pub(super) fn submission(&self, task: TaskId) -> Stored<Option<Submission>> {
        RecentRows::submission(&self.store, task)
    }

    /// Keeps the rows of a commit in memory until the tables have them.
    pub(super) fn keep(&mut self, durable: &Durable) {
        self.recent.keep(&self.store, durable);
    }
}
