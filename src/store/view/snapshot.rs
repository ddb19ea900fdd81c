//! A view of one commit, and the tables that status answers are read from.

use std::fmt;
use std::sync::Arc;

use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTableMetadata, TableDefinition, Value};

use crate::store::codec::decode;
use crate::store::contents::ContentFiles;
use crate::store::error::Error;
use crate::store::rows::task_of_row;
use crate::store::tables;
use crate::task::{Submission, Task, TaskId};

/// A consistent view of one commit.
#[derive(Debug)]
pub struct View {
    transaction: ReadTransaction,
    files: Option<Arc<ContentFiles>>,
}

/// The tables of status answers, opened once for many reads of one commit.
pub struct StatusView {
    finished: ReadOnlyTable<tables::Id, tables::Bytes>,
    open: ReadOnlyTable<tables::Id, tables::Bytes>,
    submissions: ReadOnlyTable<tables::Id, tables::Bytes>,
}

impl fmt::Debug for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusView").finish_non_exhaustive()
    }
}

impl StatusView {
    /// The task and its submission; `None` if there is no such task.
    pub fn task(&self, id: TaskId) -> Result<Option<(Task, Submission)>, Error> {
        let key = id.to_bytes();
        // Of a million tasks nearly all have ended.
        let task = match self.finished.get(&key)? {
            Some(row) => task_of_row("finished_tasks", row.value())?,
            None => match self.open.get(&key)? {
                Some(row) => task_of_row("open_tasks", row.value())?,
                None => return Ok(None),
            },
        };
        let Some(row) = self.submissions.get(&key)? else { return Ok(None) };
        Ok(Some((task, decode("submissions", row.value())?)))
    }
}

/// The table of submissions, opened once for many reads.
pub struct SubmissionView {
    submissions: ReadOnlyTable<tables::Id, tables::Bytes>,
}

impl fmt::Debug for SubmissionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmissionView").finish_non_exhaustive()
    }
}

impl SubmissionView {
    /// The client's request; `None` if there is no such task.
    pub fn get(&self, id: TaskId) -> Result<Option<Submission>, Error> {
        let row = self.submissions.get(&id.to_bytes())?;
        row.map(|row| decode("submissions", row.value())).transpose()
    }
}

impl View {
    pub(in crate::store) fn new(transaction: ReadTransaction, files: Option<Arc<ContentFiles>>) -> Self {
        #[cfg(test)]
        super::super::codec::counted::VIEWS.set(super::super::codec::counted::VIEWS.get() + 1);
        Self { transaction, files }
    }

    pub(in crate::store) fn files(&self) -> Option<&ContentFiles> {
        self.files.as_deref()
    }

    pub(in crate::store) fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, Error> {
        Ok(self.transaction.open_table(definition)?)
    }

    /// Opens a table that a store of an earlier version may lack.
    pub(in crate::store) fn table_if_made<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, Error> {
        match self.transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the tables of status answers.
    pub fn statuses(&self) -> Result<StatusView, Error> {
        Ok(StatusView {
            finished: self.table(tables::FINISHED_TASKS)?,
            open: self.table(tables::OPEN_TASKS)?,
            submissions: self.table(tables::SUBMISSIONS)?,
        })
    }

    /// The state of a task.
    pub fn task(&self, id: TaskId) -> Result<Option<Task>, Error> {
        // Of a million tasks nearly all have ended.
        if let Some(row) = self.table(tables::FINISHED_TASKS)?.get(&id.to_bytes())? {
            return task_of_row("finished_tasks", row.value()).map(Some);
        }
        let row = self.table(tables::OPEN_TASKS)?.get(&id.to_bytes())?;
        row.map(|row| task_of_row("open_tasks", row.value())).transpose()
    }

    /// The client's request.
    pub fn submission(&self, id: TaskId) -> Result<Option<Submission>, Error> {
        let row = self.table(tables::SUBMISSIONS)?.get(&id.to_bytes())?;
        row.map(|row| decode("submissions", row.value())).transpose()
    }

    /// As [`Self::submission`], for many reads.
    pub fn submissions(&self) -> Result<SubmissionView, Error> {
        Ok(SubmissionView { submissions: self.table(tables::SUBMISSIONS)? })
    }

    /// Whether the task exists.
    pub fn has_task(&self, id: TaskId) -> Result<bool, Error> {
        Ok(self.table(tables::SUBMISSIONS)?.get(&id.to_bytes())?.is_some())
    }

    /// Number of tasks.
    pub fn task_count(&self) -> Result<u64, Error> {
        Ok(self.table(tables::SUBMISSIONS)?.len()?)
    }
}
