//! A batch: everything that one group of commands changes, collected in
//! memory and made durable in one transaction. Nothing of it is visible
//! before, and nobody outside knows how it becomes durable.

use std::sync::Arc;

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointProgress, CheckpointRows};
use super::codec::{decode, encode};
use super::contents::{ContentFile, NewContents};
use super::lineage::{CascadeRow, LineageRow};
use super::recover::TakenEvents;
use super::rows::{Counters, LogEntry, Project, Record, TierPause};
use super::tables::{self, id_then, then_id};
use super::{Error, Store};
use crate::task::{
    CheckpointId, Cohort, Findings, ProjectId, RecordId, Seq, Statistics, Status, Submission, Task, TaskId, Tier,
    Timestamp,
};

/// The proof that a batch is on disk. A reply that tells of a change can only
/// be released with it.
#[derive(Debug)]
pub struct Committed(());

/// What an idempotency key led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRow {
    /// When the key was used.
    pub at: Timestamp,
    /// Hash over endpoint and key.
    pub key: [u8; 16],
    /// Hash over the request's body.
    pub body: [u8; 16],
    /// The answer, in the engine's own form.
    pub answer: Vec<u8>,
}

/// The rows of one group of commands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    submissions: Vec<(TaskId, Bytes)>,
    tasks: Vec<TaskRow>,
    log: Vec<(Seq, Bytes)>,
    history: Vec<([u8; 24], Bytes)>,
    records: Vec<(RecordId, Bytes)>,
    lineage: Vec<(RecordId, Bytes)>,
    /// Each without its changes, and these.
    cascades: Vec<(Seq, Bytes, Bytes)>,
    checkpoints: CheckpointRows,
    artifacts: Vec<(String, RecordId)>,
    findings: Vec<(TaskId, Bytes)>,
    pub(super) contents: NewContents,
    projects: Vec<(ProjectId, Bytes)>,
    counters: Vec<(ProjectId, Bytes)>,
    tier_pauses: Vec<(Tier, Bytes)>,
    estimates: Vec<(Bytes, Option<Bytes>)>,
    pub(super) log_readers: Vec<(String, Option<Bytes>)>,
    taken_events: Option<(Seq, Bytes)>,
    idempotency: Vec<(Seq, Bytes)>,
    pub(super) dead_letters: Vec<(u64, Bytes)>,
    pub(super) removed_dead_letters: Vec<u64>,
    removed_tasks: Vec<RemovedTask>,
    trim: Trim,
    /// When it was committed.
    at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct TaskRow {
    id: TaskId,
    project: ProjectId,
    before: Option<Status>,
    after: Status,
    ended_at: Option<Timestamp>,
    bytes: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
struct RemovedTask {
    id: TaskId,
    project: ProjectId,
    status: Status,
    ended_at_ms: u64,
}

/// Up to where, exclusively, old rows are removed.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Trim {
    /// Of the log.
    pub log: Option<Seq>,
    /// Of the taken events.
    pub taken_events: Option<Seq>,
    /// Of the idempotency keys.
    pub idempotency: Option<Seq>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.submissions.is_empty()
            && self.tasks.is_empty()
            && self.log.is_empty()
            && self.records.is_empty()
            && self.lineage.is_empty()
            && self.cascades.is_empty()
            && self.checkpoints.is_empty()
            && self.findings.is_empty()
            && self.projects.is_empty()
            && self.counters.is_empty()
            && self.tier_pauses.is_empty()
            && self.estimates.is_empty()
            && self.log_readers.is_empty()
            && self.taken_events.is_none()
            && self.idempotency.is_empty()
            && self.dead_letters.is_empty()
            && self.removed_dead_letters.is_empty()
            && self.removed_tasks.is_empty()
            && self.trim.log.is_none()
            && self.trim.taken_events.is_none()
            && self.trim.idempotency.is_none()
    }

    /// Keeps what a client asked for.
    pub fn put_submission(&mut self, id: TaskId, submission: &Submission) -> Result<(), Error> {
        self.submissions.push((id, encode("submissions", submission)?.into()));
        Ok(())
    }

    /// Keeps a task's state. `before` is the status that the store has for
    /// it; `None` for a new task. Once a batch for each task.
    pub fn put_task(&mut self, before: Option<Status>, task: &Task) -> Result<(), Error> {
        self.tasks.push(TaskRow {
            id: task.id,
            project: task.project.clone(),
            before,
            after: task.status(),
            ended_at: task.ended_at(),
            bytes: encode("tasks", task)?.into(),
        });
        Ok(())
    }

    /// Appends to the log and, where the entry is about a task, to its history.
    pub fn append(&mut self, seq: Seq, entry: LogEntry) -> Result<(), Error> {
        self.log.push((seq, encode("log", &entry)?.into()));
        if let Some(task) = entry.task() {
            let bytes = encode("history", &LogEntry { event: None, ..entry })?;
            self.history.push((id_then(task.to_bytes(), seq.0), bytes.into()));
        }
        Ok(())
    }

    /// Keeps a provenance record, and finds it by its artifacts.
    pub fn put_record(&mut self, record: &Record) -> Result<(), Error> {
        self.records.push((record.id, encode("records", record)?.into()));
        for output in &record.outputs {
            self.artifacts.push((output.artifact.id.as_str().to_owned(), record.id));
        }
        Ok(())
    }

    /// Keeps what the provenance graph knows of a record.
    pub fn put_lineage(&mut self, id: RecordId, row: &LineageRow) -> Result<(), Error> {
        self.lineage.push((id, encode("lineage", row)?.into()));
        Ok(())
    }

    /// Keeps what a taint, mark or clear did.
    pub fn put_cascade(&mut self, step: Seq, row: &CascadeRow) -> Result<(), Error> {
        let changes = encode("cascade_changes", &row.changes)?;
        self.cascades.push((step, encode("cascades", &row.head())?.into(), changes.into()));
        Ok(())
    }

    /// Keeps a checkpoint, new or changed; project and time never change.
    pub fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.checkpoints.put(checkpoint)
    }

    /// Removes a checkpoint.
    pub fn remove_checkpoint(&mut self, project: &ProjectId, (at, id): (Timestamp, CheckpointId)) {
        self.checkpoints.remove(project, at, id);
    }

    /// Keeps what has completed in a project since its newest checkpoint.
    pub fn put_checkpoint_progress(
        &mut self,
        project: &ProjectId,
        progress: Option<CheckpointProgress>,
    ) -> Result<(), Error> {
        self.checkpoints.put_progress(project, progress)
    }

    /// Keeps what the Agent and RAG said for the workers of a task.
    pub fn put_findings(&mut self, id: TaskId, findings: &Findings) -> Result<(), Error> {
        self.findings.push((id, encode("findings", findings)?.into()));
        Ok(())
    }

    /// Keeps a content under its SHA-256.
    pub fn put_content(&mut self, hash: [u8; 32], content: Vec<u8>) {
        self.contents.put(hash, content);
    }

    /// Keeps a content that is in a file.
    pub fn put_content_file(&mut self, file: Arc<ContentFile>) {
        self.contents.put_file(file);
    }

    /// Keeps a project.
    pub fn put_project(&mut self, project: &Project) -> Result<(), Error> {
        self.projects.push((project.id.clone(), encode("projects", project)?.into()));
        Ok(())
    }

    /// Keeps the counters of a project.
    pub fn put_counters(&mut self, project: &ProjectId, counters: &Counters) -> Result<(), Error> {
        self.counters.push((project.clone(), encode("counters", counters)?.into()));
        Ok(())
    }

    /// Keeps whether a tier is paused.
    pub fn put_tier_pause(&mut self, tier: &Tier, pause: TierPause) -> Result<(), Error> {
        self.tier_pauses.push((tier.clone(), encode("tier_pauses", &pause)?.into()));
        Ok(())
    }

    /// Keeps what the tasks of a cohort took lately, or nothing any more.
    pub fn put_estimate(&mut self, cohort: &Cohort, statistics: Option<&Statistics>) -> Result<(), Error> {
        let row = statistics.map(|statistics| encode("estimates", statistics)).transpose()?;
        self.estimates.push((encode("estimates", cohort)?.into(), row.map(Into::into)));
        Ok(())
    }

    /// Remembers the events that this batch takes and forgets.
    pub fn put_taken_events(&mut self, events: &TakenEvents) {
        self.taken_events = Some((events.seq, events.to_row().into()));
    }

    /// Remembers an idempotency key.
    pub fn put_idempotency(&mut self, seq: Seq, row: &IdempotencyRow) -> Result<(), Error> {
        self.idempotency.push((seq, encode("idempotency", row)?.into()));
        Ok(())
    }

    /// Removes a finished task with its history; its provenance stays.
    pub fn remove_task(&mut self, id: TaskId, project: ProjectId, status: Status, ended_at_ms: u64) {
        self.removed_tasks.push(RemovedTask { id, project, status, ended_at_ms });
    }

    /// Removes old rows.
    pub fn trim(&mut self, trim: Trim) {
        self.trim = trim;
    }

    /// Makes the batch durable: all of it or, after a crash, nothing. When
    /// this fails with [`Error::Unknown`] the outcome is unknown, and the
    /// caller must stop writing.
    pub fn commit(mut self, store: &Store, now: Timestamp) -> Result<Committed, Error> {
        if self.is_empty() {
            return Ok(Committed(()));
        }
        self.at = now;
        self.tasks.sort_unstable_by_key(|row| row.id);
        store.commit(&self)?;
        Ok(Committed(()))
    }

    /// The batch as a record of the journal.
    pub(super) fn to_journal(&self) -> Result<Vec<u8>, Error> {
        encode("journal", self)
    }

    /// The batch of a record of the journal.
    pub(super) fn of_journal(record: &[u8]) -> Result<Self, Error> {
        decode("journal", record)
    }

    /// Applies the batch to the tables.
    pub(super) fn apply(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        self.write(transaction)?;
        let mut meta = transaction.open_table(tables::META)?;
        meta.insert(tables::LAST_COMMIT_KEY, &self.at.as_micros().to_le_bytes()[..])?;
        Ok(())
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        self.write_tasks(transaction)?;
        self.write_log(transaction)?;
        self.write_log_readers(transaction)?;
        self.write_records(transaction)?;
        self.checkpoints.write(transaction)?;
        self.write_projects(transaction)?;
        self.write_estimates(transaction)?;
        self.write_identities(transaction)?;
        self.write_dead_letters(transaction)?;
        self.write_removals(transaction)?;
        self.write_trim(transaction)
    }

    fn write_tasks(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if !self.submissions.is_empty() {
            let mut table = transaction.open_table(tables::SUBMISSIONS)?;
            for (id, bytes) in &self.submissions {
                table.insert(&id.to_bytes(), &bytes[..])?;
            }
        }
        if !self.findings.is_empty() {
            let mut table = transaction.open_table(tables::FINDINGS)?;
            for (id, bytes) in &self.findings {
                table.insert(&id.to_bytes(), &bytes[..])?;
            }
        }
        if self.tasks.is_empty() {
            return Ok(());
        }
        let mut open = transaction.open_table(tables::OPEN_TASKS)?;
        let mut finished = transaction.open_table(tables::FINISHED_TASKS)?;
        let mut by_end = transaction.open_table(tables::FINISHED_BY_END)?;
        let mut by_project = transaction.open_table(tables::TASKS_BY_PROJECT)?;
        for row in &self.tasks {
            let id = row.id.to_bytes();
            let project = row.project.as_str();
            if let Some(ended_at) = row.ended_at {
                if row.before.is_some() {
                    open.remove(&id)?;
                }
                finished.insert(&id, &row.bytes[..])?;
                let mut value = vec![row.after.code()];
                value.extend_from_slice(project.as_bytes());
                by_end.insert(&then_id(ended_at.as_millis(), id), &value[..])?;
            } else {
                open.insert(&id, &row.bytes[..])?;
            }
            if row.before != Some(row.after) {
                if let Some(before) = row.before {
                    by_project.remove((project, before.code(), &id))?;
                }
                by_project.insert((project, row.after.code(), &id), ())?;
            }
        }
        Ok(())
    }

    fn write_log(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.log.is_empty() {
            return Ok(());
        }
        let mut log = transaction.open_table(tables::LOG)?;
        for (seq, bytes) in &self.log {
            log.insert(seq.0, &bytes[..])?;
        }
        let mut history = transaction.open_table(tables::HISTORY)?;
        for (key, bytes) in &self.history {
            history.insert(key, &bytes[..])?;
        }
        Ok(())
    }

    fn write_records(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if !self.records.is_empty() {
            let mut records = transaction.open_table(tables::RECORDS)?;
            for (id, bytes) in &self.records {
                records.insert(&id.to_bytes(), &bytes[..])?;
            }
            let mut by_artifact = transaction.open_table(tables::RECORDS_BY_ARTIFACT)?;
            for (artifact, record) in &self.artifacts {
                by_artifact.insert((artifact.as_str(), &record.to_bytes()), ())?;
            }
        }
        if !self.lineage.is_empty() {
            let mut lineage = transaction.open_table(tables::LINEAGE)?;
            for (id, bytes) in &self.lineage {
                lineage.insert(&id.to_bytes(), &bytes[..])?;
            }
        }
        if !self.cascades.is_empty() {
            let mut cascades = transaction.open_table(tables::CASCADES)?;
            let mut of_cascades = transaction.open_table(tables::CASCADE_CHANGES)?;
            for (step, head, changes) in &self.cascades {
                cascades.insert(step.0, &head[..])?;
                of_cascades.insert(step.0, &changes[..])?;
            }
        }
        self.contents.write(transaction)
    }

    fn write_projects(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if !self.projects.is_empty() {
            let mut table = transaction.open_table(tables::PROJECTS)?;
            for (id, bytes) in &self.projects {
                table.insert(id.as_str(), &bytes[..])?;
            }
        }
        if !self.counters.is_empty() {
            let mut table = transaction.open_table(tables::COUNTERS)?;
            for (id, bytes) in &self.counters {
                table.insert(id.as_str(), &bytes[..])?;
            }
        }
        if !self.tier_pauses.is_empty() {
            let mut table = transaction.open_table(tables::TIER_PAUSES)?;
            for (tier, bytes) in &self.tier_pauses {
                table.insert(tier.as_str(), &bytes[..])?;
            }
        }
        Ok(())
    }

    fn write_estimates(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.estimates.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(tables::ESTIMATES)?;
        for (cohort, row) in &self.estimates {
            match row {
                Some(row) => drop(table.insert(&cohort[..], &row[..])?),
                None => drop(table.remove(&cohort[..])?),
            }
        }
        Ok(())
    }

    fn write_identities(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if let Some((seq, row)) = &self.taken_events {
            transaction.open_table(tables::TAKEN_EVENTS)?.insert(seq.0, &row[..])?;
        }
        if !self.idempotency.is_empty() {
            let mut table = transaction.open_table(tables::IDEMPOTENCY)?;
            for (seq, bytes) in &self.idempotency {
                table.insert(seq.0, &bytes[..])?;
            }
        }
        Ok(())
    }

    fn write_removals(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        if self.removed_tasks.is_empty() {
            return Ok(());
        }
        let mut submissions = transaction.open_table(tables::SUBMISSIONS)?;
        let mut finished = transaction.open_table(tables::FINISHED_TASKS)?;
        let mut by_end = transaction.open_table(tables::FINISHED_BY_END)?;
        let mut by_project = transaction.open_table(tables::TASKS_BY_PROJECT)?;
        let mut history = transaction.open_table(tables::HISTORY)?;
        let mut findings = transaction.open_table(tables::FINDINGS)?;
        for task in &self.removed_tasks {
            let id = task.id.to_bytes();
            submissions.remove(&id)?;
            finished.remove(&id)?;
            findings.remove(&id)?;
            by_end.remove(&then_id(task.ended_at_ms, id))?;
            by_project.remove((task.project.as_str(), task.status.code(), &id))?;
            history.retain_in::<&[u8; 24], _>(&id_then(id, 0)..=&id_then(id, u64::MAX), |_, _| false)?;
        }
        Ok(())
    }

    fn write_trim(&self, transaction: &WriteTransaction) -> Result<(), Error> {
        let trims = [
            (self.trim.log, tables::LOG),
            (self.trim.taken_events, tables::TAKEN_EVENTS),
            (self.trim.idempotency, tables::IDEMPOTENCY),
        ];
        for (until, definition) in trims {
            let Some(until) = until else { continue };
            let mut table = transaction.open_table(definition)?;
            table.retain_in(..until.0, |_, _| false)?;
        }
        Ok(())
    }
}
