//! Reading: a consistent view of one commit.

use std::fmt;
use std::sync::Arc;

use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, Value};

use super::Error;
use super::batch::IdempotencyRow;
use super::codec::decode;
use super::contents::ContentFiles;
use super::lineage::CascadeRow;
use super::page::{Page, PageBudget, read_page};
use super::recover::{TakenEvents, ended_as};
use super::rows::{Counters, DeadLetter, Project, Record, task_of_row};
use super::tables::{self, id_after_number, number_of, then_id};
use crate::task::{ArtifactId, Findings, Moment, ProjectId, RecordId, Seq, Status, Submission, Task, TaskId};

/// A consistent view of one commit.
#[derive(Debug)]
pub struct View {
    transaction: ReadTransaction,
    files: Option<Arc<ContentFiles>>,
}

/// The tables that a status answer is made from, opened once: for many reads
/// of one commit.
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
    /// A task and what its client asked for; `None`: there is no such task.
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

/// What clients asked for: a table that is opened once for many reads.
pub struct SubmissionView {
    submissions: ReadOnlyTable<tables::Id, tables::Bytes>,
}

impl fmt::Debug for SubmissionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmissionView").finish_non_exhaustive()
    }
}

impl SubmissionView {
    /// What the client asked for; `None`: there is no such task.
    pub fn get(&self, id: TaskId) -> Result<Option<Submission>, Error> {
        let row = self.submissions.get(&id.to_bytes())?;
        row.map(|row| decode("submissions", row.value())).transpose()
    }
}

/// Which tasks a scan looks at; the rest of a filter needs the task itself.
#[derive(Debug, Clone, Default)]
pub struct ScanFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// In these statuses; empty: in any.
    pub statuses: Vec<Status>,
    /// Ids below this one; `None`: from the newest.
    pub below: Option<TaskId>,
}

/// How many rows each table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// What clients asked for.
    pub submissions: u64,
    /// Tasks that have not ended.
    pub open_tasks: u64,
    /// Tasks that have ended.
    pub finished_tasks: u64,
    /// The same in order of their end.
    pub finished_by_end: u64,
    /// Tasks by project and status.
    pub tasks_by_project: u64,
    /// Entries of all histories.
    pub history: u64,
    /// Entries of the log.
    pub log: u64,
    /// Provenance records.
    pub records: u64,
    /// Outputs of all records.
    pub records_by_artifact: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// The same by project and time.
    pub checkpoints_by_project: u64,
}

/// A task that a scan found.
pub type Scan = Result<TaskId, Error>;

/// Past the largest id there can be.
const LAST_ID: [u8; 16] = [0xff; 16];

impl View {
    pub(super) fn new(transaction: ReadTransaction, files: Option<Arc<ContentFiles>>) -> Self {
        #[cfg(test)]
        super::codec::counted::VIEWS.set(super::codec::counted::VIEWS.get() + 1);
        Self { transaction, files }
    }

    pub(super) fn files(&self) -> Option<&ContentFiles> {
        self.files.as_deref()
    }

    pub(super) fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, Error> {
        Ok(self.transaction.open_table(definition)?)
    }

    /// The same of a table that a store of an earlier version may lack.
    pub(super) fn table_if_made<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, Error> {
        match self.transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The tables of status answers.
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

    /// What the client asked for.
    pub fn submission(&self, id: TaskId) -> Result<Option<Submission>, Error> {
        let row = self.table(tables::SUBMISSIONS)?.get(&id.to_bytes())?;
        row.map(|row| decode("submissions", row.value())).transpose()
    }

    /// As [`Self::submission`], for many of them.
    pub fn submissions(&self) -> Result<SubmissionView, Error> {
        Ok(SubmissionView { submissions: self.table(tables::SUBMISSIONS)? })
    }

    /// Whether the task exists.
    pub fn has_task(&self, id: TaskId) -> Result<bool, Error> {
        Ok(self.table(tables::SUBMISSIONS)?.get(&id.to_bytes())?.is_some())
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> Result<u64, Error> {
        Ok(self.table(tables::SUBMISSIONS)?.len()?)
    }

    /// Ids of tasks, newest first.
    pub fn scan(&self, filter: &ScanFilter) -> Result<Box<dyn Iterator<Item = Scan>>, Error> {
        let below = filter.below.map_or(LAST_ID, TaskId::to_bytes);
        match (&filter.project, filter.statuses.as_slice()) {
            (None, []) => {
                let rows = self.table(tables::SUBMISSIONS)?.range::<&[u8; 16]>(..&below)?;
                Ok(Box::new(rows.rev().map(|row| Ok(TaskId::from_bytes(*row?.0.value())))))
            }
            (None, statuses) => self.scan_projects(&self.project_ids()?, statuses, below),
            (Some(project), []) => self.scan_projects(std::slice::from_ref(project), &Status::ALL, below),
            (Some(project), statuses) => self.scan_projects(std::slice::from_ref(project), statuses, below),
        }
    }

    /// The merge of one descending range for each project and status.
    fn scan_projects(
        &self,
        projects: &[ProjectId],
        statuses: &[Status],
        below: [u8; 16],
    ) -> Result<Box<dyn Iterator<Item = Scan>>, Error> {
        let table = self.table(tables::TASKS_BY_PROJECT)?;
        let mut ranges = Vec::new();
        for project in projects {
            for status in statuses {
                let (project, code) = (project.as_str(), status.code());
                let mut range = table.range((project, code, &[0; 16])..(project, code, &below))?.rev();
                if let Some(first) = next_id(&mut range)? {
                    ranges.push((first, range));
                }
            }
        }
        Ok(Box::new(Merge { ranges }))
    }

    fn project_ids(&self) -> Result<Vec<ProjectId>, Error> {
        let mut ids = Vec::new();
        for row in self.table(tables::COUNTERS)?.iter()? {
            ids.extend(ProjectId::new(row?.0.value()));
        }
        Ok(ids)
    }

    /// A provenance record.
    pub fn record(&self, id: RecordId) -> Result<Option<Record>, Error> {
        Ok(self.sized_record(id)?.map(|(record, _)| record))
    }

    /// A provenance record, and the bytes of its row.
    pub fn sized_record(&self, id: RecordId) -> Result<Option<(Record, usize)>, Error> {
        let row = self.table(tables::RECORDS)?.get(&id.to_bytes())?;
        row.map(|row| Ok((decode("records", row.value())?, row.value().len()))).transpose()
    }

    /// The record with the largest id that names the artifact as an output.
    pub fn record_of_artifact(&self, artifact: &ArtifactId) -> Result<Option<Record>, Error> {
        let name = artifact.as_str();
        let newest = {
            let table = self.table(tables::RECORDS_BY_ARTIFACT)?;
            let mut range = table.range((name, &[0; 16])..=(name, &LAST_ID))?;
            range.next_back().transpose()?.map(|(key, _)| RecordId::from_bytes(*key.value().1))
        };
        newest.map_or(Ok(None), |id| self.record(id))
    }

    /// A project, deleted ones too.
    pub fn project(&self, id: &ProjectId) -> Result<Option<Project>, Error> {
        let row = self.table(tables::PROJECTS)?.get(id.as_str())?;
        row.map(|row| decode("projects", row.value())).transpose()
    }

    /// A page of projects by id, after one of them, without deleted ones; and
    /// how many there are in all.
    pub fn projects(
        &self,
        offset: usize,
        after: Option<&ProjectId>,
        mut budget: PageBudget,
    ) -> Result<(Page<Project>, u64), Error> {
        let mut page = Page::empty();
        let (mut total, mut skipped) = (0, 0);
        for row in self.table(tables::PROJECTS)?.iter()? {
            let (_, value) = row?;
            let project: Project = decode("projects", value.value())?;
            if project.archived_at.is_some() {
                continue;
            }
            total += 1;
            if after.is_some_and(|after| project.id <= *after) || page.has_more {
                continue;
            }
            if skipped < offset {
                skipped += 1;
            } else if page.has_room(&mut budget, value.value().len()) {
                page.entries.push(project);
            }
        }
        Ok((page, total))
    }

    /// When the oldest pending task of a project was submitted.
    pub fn oldest_pending(&self, project: &ProjectId) -> Result<Option<TaskId>, Error> {
        let (project, code) = (project.as_str(), Status::Pending.code());
        let table = self.table(tables::TASKS_BY_PROJECT)?;
        let first = table.range((project, code, &[0; 16])..=(project, code, &LAST_ID))?.next().transpose()?;
        Ok(first.map(|(key, _)| TaskId::from_bytes(*key.value().2)))
    }

    /// Events that were taken by commits from a position on and before another one,
    /// oldest first.
    pub fn taken_events(&self, from: Seq, before: Seq) -> Result<Vec<TakenEvents>, Error> {
        let mut commits = Vec::new();
        for row in self.table(tables::TAKEN_EVENTS)?.range(from.0..before.0)? {
            let (key, value) = row?;
            commits.push(TakenEvents::of_row(Seq(key.value()), value.value())?);
        }
        Ok(commits)
    }

    /// What the Agent and RAG said for the workers of a task.
    pub fn findings(&self, id: TaskId) -> Result<Option<Findings>, Error> {
        let row = self.table(tables::FINDINGS)?.get(&id.to_bytes())?;
        row.map(|row| decode("findings", row.value())).transpose()
    }

    /// What was said or done in a step, without the flags that it changed:
    /// they can be many.
    pub fn cascade(&self, step: Seq) -> Result<Option<CascadeRow>, Error> {
        let row = self.table(tables::CASCADES)?.get(step.0)?;
        row.map(|row| decode("cascades", row.value())).transpose()
    }

    /// The steps that changed flags, newest first, before one of them, without
    /// what each has changed.
    pub fn cascades(
        &self,
        before: Option<Seq>,
    ) -> Result<impl Iterator<Item = Result<(Seq, CascadeRow), Error>> + use<>, Error> {
        let rows = self.table(tables::CASCADES)?.range(..before.map_or(u64::MAX, |before| before.0))?;
        Ok(rows.rev().map(|row| {
            let (key, value) = row?;
            Ok((Seq(key.value()), decode("cascades", value.value())?))
        }))
    }

    /// What an idempotency key led to.
    pub fn idempotency(&self, seq: Seq) -> Result<Option<IdempotencyRow>, Error> {
        let row = self.table(tables::IDEMPOTENCY)?.get(seq.0)?;
        row.map(|row| decode("idempotency", row.value())).transpose()
    }

    /// A dead letter.
    pub fn dead_letter(&self, number: u64) -> Result<Option<DeadLetter>, Error> {
        let row = self.table(tables::DEAD_LETTERS)?.get(number)?;
        row.map(|row| decode("dead_letters", row.value())).transpose()
    }

    /// A page of dead letters, newest first, before one of them.
    pub fn dead_letters(&self, before: Option<u64>, budget: PageBudget) -> Result<Page<(u64, DeadLetter)>, Error> {
        let rows = self.table(tables::DEAD_LETTERS)?.range(..before.unwrap_or(u64::MAX))?.rev();
        read_page(rows, budget, |number, row| Ok((number, decode("dead_letters", row)?)))
    }

    /// Tasks that ended before `before`, oldest first: id, project, how, and
    /// when in milliseconds.
    pub fn ended_before(&self, before: Moment, limit: usize) -> Result<Vec<(TaskId, ProjectId, Status, u64)>, Error> {
        self.ended_between(0, before, limit)
    }

    /// The same, of those that ended in the millisecond `from_ms` or later.
    pub fn ended_between(
        &self,
        from_ms: u64,
        before: Moment,
        limit: usize,
    ) -> Result<Vec<(TaskId, ProjectId, Status, u64)>, Error> {
        let (begin, end) = (then_id(from_ms, [0; 16]), then_id(before.as_millis(), [0; 16]));
        if begin >= end {
            return Ok(Vec::new());
        }
        let mut ended = Vec::new();
        for row in self.table(tables::FINISHED_BY_END)?.range::<&[u8; 24]>(&begin..&end)?.take(limit) {
            let (key, value) = row?;
            let (status, project) = ended_as(value.value())?;
            let id = TaskId::from_bytes(id_after_number(key.value()));
            ended.push((id, project, status, number_of(key.value())));
        }
        Ok(ended)
    }

    /// Finished tasks before one of them, newest end first: the key of the
    /// end and the id.
    pub fn newest_finished(&self, before: Option<[u8; 24]>, limit: usize) -> Result<Vec<([u8; 24], TaskId)>, Error> {
        let end = before.unwrap_or([0xff; 24]);
        let mut finished = Vec::new();
        for row in self.table(tables::FINISHED_BY_END)?.range::<&[u8; 24]>(..&end)?.rev().take(limit) {
            let key = *row?.0.value();
            finished.push((key, TaskId::from_bytes(id_after_number(&key))));
        }
        Ok(finished)
    }

    /// How many rows there are, for checks that no table has one too many.
    pub fn sizes(&self) -> Result<Sizes, Error> {
        Ok(Sizes {
            submissions: self.task_count()?,
            open_tasks: self.table(tables::OPEN_TASKS)?.len()?,
            finished_tasks: self.table(tables::FINISHED_TASKS)?.len()?,
            finished_by_end: self.table(tables::FINISHED_BY_END)?.len()?,
            tasks_by_project: self.table(tables::TASKS_BY_PROJECT)?.len()?,
            history: self.table(tables::HISTORY)?.len()?,
            log: self.table(tables::LOG)?.len()?,
            records: self.table(tables::RECORDS)?.len()?,
            records_by_artifact: self.table(tables::RECORDS_BY_ARTIFACT)?.len()?,
            checkpoints: self.table(tables::CHECKPOINTS)?.len()?,
            checkpoints_by_project: self.table(tables::CHECKPOINTS_BY_PROJECT)?.len()?,
        })
    }

    /// Every provenance record, by id.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Record, Error>> + use<>, Error> {
        let rows = self.table(tables::RECORDS)?.range::<&[u8; 16]>(..)?;
        Ok(rows.map(|row| decode("records", row?.1.value())))
    }

    /// The records that name the artifact as an output, oldest first.
    pub fn records_of_artifact(&self, artifact: &ArtifactId) -> Result<Vec<RecordId>, Error> {
        let name = artifact.as_str();
        let rows = self.table(tables::RECORDS_BY_ARTIFACT)?.range((name, &[0; 16])..=(name, &LAST_ID))?;
        rows.map(|row| Ok(RecordId::from_bytes(*row?.0.value().1))).collect()
    }

    /// The tasks of a project by phase.
    pub fn counters(&self, project: &ProjectId) -> Result<Counters, Error> {
        let row = self.table(tables::COUNTERS)?.get(project.as_str())?;
        row.map_or(Ok(Counters::default()), |row| decode("counters", row.value()))
    }
}

type IndexRange = std::iter::Rev<redb::Range<'static, (&'static str, u8, tables::Id), ()>>;

fn next_id(range: &mut IndexRange) -> Result<Option<[u8; 16]>, Error> {
    Ok(range.next().transpose()?.map(|(key, _)| *key.value().2))
}

/// Merges descending ranges into one.
struct Merge {
    ranges: Vec<([u8; 16], IndexRange)>,
}

impl Iterator for Merge {
    type Item = Scan;

    fn next(&mut self) -> Option<Scan> {
        let (place, _) = self.ranges.iter().enumerate().max_by_key(|(_, (head, _))| *head)?;
        let (head, range) = self.ranges.get_mut(place)?;
        let found = TaskId::from_bytes(*head);
        match next_id(range) {
            Ok(Some(next)) => *head = next,
            Ok(None) => drop(self.ranges.swap_remove(place)),
            Err(error) => {
                self.ranges.clear();
                return Some(Err(error));
            }
        }
        Some(Ok(found))
    }
}
