//! Tasks, their histories, projects and tiers, as one commit has them.

use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata};

use super::snapshot::View;
use crate::store::codec::{decode, decode_added};
use crate::store::error::Error;
use crate::store::history::{self, HistoryEntry};
use crate::store::page::{Page, PageBudget, ids_after};
use crate::store::rows::{Counters, LogEntry, Project, TierPause, ended_as, task_of_row};
use crate::store::tables::{self, id_after_number, id_then, number_after_id, number_of, then_id};
use crate::task::{Findings, Moment, ProjectId, Seq, Status, Task, TaskId, Tier};

/// The tasks that a scan visits; further filters need the task itself.
#[derive(Debug, Clone, Default)]
pub struct ScanFilter {
    /// Tasks of this project.
    pub project: Option<ProjectId>,
    /// Tasks in these statuses; empty for any status.
    pub statuses: Vec<Status>,
    /// Tasks with ids below this one; `None` starts at the newest.
    pub below: Option<TaskId>,
}

/// Number of rows in each table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Requests of clients.
    pub submissions: u64,
    /// Tasks that have not ended.
    pub open_tasks: u64,
    /// Tasks that have ended.
    pub finished_tasks: u64,
    /// Tasks that have ended, by their end.
    pub finished_by_end: u64,
    /// Tasks by project and status.
    pub tasks_by_project: u64,
    /// Entries of all histories.
    pub history: u64,
    /// Rows of the log.
    pub log: u64,
    /// Provenance records.
    pub records: u64,
    /// Outputs of all records.
    pub records_by_artifact: u64,
    /// Checkpoints by id.
    pub checkpoints: u64,
    /// Checkpoints by project and time.
    pub checkpoints_by_project: u64,
}

/// A task found by a scan.
pub type Scan = Result<TaskId, Error>;

/// The largest id.
const LAST_ID: [u8; 16] = [0xff; 16];

impl View {
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

    /// Merges one descending range for each project and status.
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

    /// A project, including deleted ones.
    pub fn project(&self, id: &ProjectId) -> Result<Option<Project>, Error> {
        let row = self.table(tables::PROJECTS)?.get(id.as_str())?;
        row.map(|row| decode("projects", row.value())).transpose()
    }

    /// A page of projects by id, after one of them and without deleted ones; and the number of all.
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

    /// The oldest pending task of a project.
    pub fn oldest_pending(&self, project: &ProjectId) -> Result<Option<TaskId>, Error> {
        let (project, code) = (project.as_str(), Status::Pending.code());
        let table = self.table(tables::TASKS_BY_PROJECT)?;
        let first = table.range((project, code, &[0; 16])..=(project, code, &LAST_ID))?.next().transpose()?;
        Ok(first.map(|(key, _)| TaskId::from_bytes(*key.value().2)))
    }

    /// Findings of the Agent and the RAG service for the workers of a task.
    pub fn findings(&self, id: TaskId) -> Result<Option<Findings>, Error> {
        let row = self.table(tables::FINDINGS)?.get(&id.to_bytes())?;
        row.map(|row| decode("findings", row.value())).transpose()
    }

    /// Tasks that ended before `before`, oldest first: id, project, final status, and end in
    /// milliseconds.
    pub fn ended_before(&self, before: Moment, limit: usize) -> Result<Vec<(TaskId, ProjectId, Status, u64)>, Error> {
        self.ended_between(0, before, limit)
    }

    /// As [`Self::ended_before`], for tasks that ended at `from_ms` milliseconds or later.
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

    /// Finished tasks before one of them, newest end first: the key of the end, and the id.
    pub fn newest_finished(&self, before: Option<[u8; 24]>, limit: usize) -> Result<Vec<([u8; 24], TaskId)>, Error> {
        let end = before.unwrap_or([0xff; 24]);
        let mut finished = Vec::new();
        for row in self.table(tables::FINISHED_BY_END)?.range::<&[u8; 24]>(..&end)?.rev().take(limit) {
            let key = *row?.0.value();
            finished.push((key, TaskId::from_bytes(id_after_number(&key))));
        }
        Ok(finished)
    }

    /// Number of rows, for checks that no table has one too many.
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

    /// The tasks of a project by phase.
    pub fn counters(&self, project: &ProjectId) -> Result<Counters, Error> {
        let row = self.table(tables::COUNTERS)?.get(project.as_str())?;
        row.map_or(Ok(Counters::default()), |row| decode("counters", row.value()))
    }

    /// Whether a tier is paused, if it ever was.
    pub fn tier_pause(&self, tier: &Tier) -> Result<Option<TierPause>, Error> {
        let row = self.table(tables::TIER_PAUSES)?.get(tier.as_str())?;
        row.map(|row| decode_tier_pause(row.value())).transpose()
    }

    /// Tasks after one of them, by id.
    pub fn tasks_after(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<TaskId>, Error> {
        let ids = ids_after(&self.table(tables::SUBMISSIONS)?, after.map(TaskId::to_bytes), limit)?;
        Ok(ids.into_iter().map(TaskId::from_bytes).collect())
    }

    /// Tasks that have not ended, after one of them, by id.
    pub fn open_tasks_after(&self, after: Option<TaskId>, limit: usize) -> Result<Vec<Task>, Error> {
        let (table, after) = (self.table(tables::OPEN_TASKS)?, after.map(TaskId::to_bytes));
        let rows = match &after {
            Some(after) => table.range::<&[u8; 16]>((Bound::Excluded(after), Bound::Unbounded))?,
            None => table.iter()?,
        };
        rows.take(limit).map(|row| task_of_row("open_tasks", row?.1.value())).collect()
    }

    /// Projects after one of them, by id, including deleted ones.
    pub fn projects_after(&self, after: Option<&ProjectId>, limit: usize) -> Result<Vec<Project>, Error> {
        let table = self.table(tables::PROJECTS)?;
        let rows = match after.map(ProjectId::as_str) {
            Some(after) => table.range::<&str>((Bound::Excluded(after), Bound::Unbounded))?,
            None => table.iter()?,
        };
        rows.take(limit).map(|row| decode("projects", row?.1.value())).collect()
    }

    /// Tiers that are or were paused.
    pub fn tier_pauses(&self) -> Result<Vec<(Tier, TierPause)>, Error> {
        let corrupt =
            |error: crate::task::InvalidId| Error::Corrupt { table: "tier_pauses", detail: error.to_string() };
        let mut pauses = Vec::new();
        for row in self.table(tables::TIER_PAUSES)?.iter()? {
            let (key, value) = row?;
            pauses.push((Tier::new(key.value()).map_err(corrupt)?, decode_tier_pause(value.value())?));
        }
        Ok(pauses)
    }

    /// A page of the history of a task after a position, in order.
    pub fn history(&self, id: TaskId, after: Seq, mut budget: PageBudget) -> Result<Page<HistoryEntry>, Error> {
        let id = id.to_bytes();
        // Nothing follows the largest position.
        let Some(first) = after.0.checked_add(1) else { return Ok(Page::empty()) };
        let table = self.table(tables::HISTORY)?;
        let before = table.range::<&[u8; 24]>(&id_then(id, 0)..&id_then(id, first))?.next_back().transpose()?;
        let mut before = match before {
            Some((_, row)) => history::read(row.value())?.1,
            None => None,
        };
        let mut page = Page::empty();
        for row in table.range::<&[u8; 24]>(&id_then(id, first)..=&id_then(id, u64::MAX))? {
            let (key, value) = row?;
            let bytes = value.value();
            if !page.has_room(&mut budget, bytes.len()) {
                break;
            }
            let (entry, ordinal) = history::read(bytes)?;
            let left_out = before.zip(ordinal).map_or(0, |(before, now)| now.saturating_sub(before.saturating_add(1)));
            before = ordinal;
            let seq = Seq(number_after_id(key.value()));
            page.entries.push(HistoryEntry { seq, left_out: u64::from(left_out), entry });
        }
        Ok(page)
    }

    /// An entry of a task's history.
    pub fn history_entry(&self, task: TaskId, seq: Seq) -> Result<Option<LogEntry>, Error> {
        let row = self.table(tables::HISTORY)?.get(&id_then(task.to_bytes(), seq.0))?;
        row.map(|row| decode("history", row.value())).transpose()
    }

    /// Re-runs of a task after it, including re-runs of re-runs, newest first. For a re-run, those
    /// of its chain.
    pub fn reruns(&self, task: TaskId) -> Result<impl Iterator<Item = Result<TaskId, Error>> + use<>, Error> {
        let task = task.to_bytes();
        let first = self.table(tables::RERUN_CHAIN)?.get(&task)?.map_or(task, |first| *first.value());
        let range = (&first, &task)..=(&first, &[0xff; 16]);
        let rows = self.table(tables::CHAIN_RERUNS)?.range(range)?;
        Ok(rows.rev().map(|row| Ok(TaskId::from_bytes(*row?.0.value().1))).filter(move |rerun| {
            // The range begins with the task itself if that is a re-run.
            !matches!(rerun, Ok(rerun) if rerun.to_bytes() == task)
        }))
    }
}

/// A row that may end before `tells_starts`.
fn decode_tier_pause(row: &[u8]) -> Result<TierPause, Error> {
    decode_added("tier_pauses", row, 1)
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
