//! A batch: all changes of one group of commands, collected in memory and made durable in one
//! transaction. Nothing of it is visible before that.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::batch_rows::{ClockUpdate, IdempotencyRow, LogRow, RemovedTask, TaskRow, Trim};
use super::cascade_changes::FlagChanges;
use super::cascade_rows::CascadeRows;
use super::cascades::CascadeRow;
use super::changes::{CommitNumber, Listing};
use super::checkpoint::{Checkpoint, CheckpointProgress, CheckpointRows};
use super::codec::{RowBuffer, decode_grown, encode, encode_large};
use super::contents::{ContentFile, NewContents};
use super::dead_letters::{DeadLetterRemoval, DeadLetterRemovalRows, row_bytes};
use super::error::Error;
use super::lineage::LineageRow;
use super::log_readers::ReaderPosition;
use super::record_index::RecordRows;
use super::rows::{Counters, DeadLetter, ImportedEvent, LogEntry, Project, Record, TierPause};
use super::statements::{RollbackRow, StatementRows};
use super::taken_events::TakenEvents;
use crate::lineage::Statement;
use crate::task::{
    CheckpointId, Cohort, Findings, Moment, Now, Parked, ProjectId, RecordId, Seq, Statistics, Status, Submission,
    Task, TaskId, Tier, Timestamp,
};

/// Approximate size of a row in a record of the journal.
const JOURNAL_ROW_BYTES: usize = 192;

/// The rows of one group of commands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    pub(super) submissions: Vec<(TaskId, Bytes)>,
    pub(super) tasks: Vec<TaskRow>,
    pub(super) log: Vec<LogRow>,
    pub(super) records: Vec<(RecordId, Bytes)>,
    /// With the step that brought the record.
    pub(super) lineage: Vec<(RecordId, Seq, Bytes)>,
    pub(super) cascades: CascadeRows,
    pub(super) checkpoints: CheckpointRows,
    pub(super) record_rows: RecordRows,
    pub(super) findings: Vec<(TaskId, Bytes)>,
    pub(super) contents: NewContents,
    pub(super) projects: Vec<(ProjectId, Bytes)>,
    pub(super) counters: Vec<(ProjectId, Bytes)>,
    pub(super) tier_pauses: Vec<(Tier, Bytes)>,
    pub(super) estimates: Vec<(Bytes, Option<Bytes>)>,
    pub(super) log_readers: Vec<(String, Option<Bytes>)>,
    pub(super) taken_events: Option<(Seq, Bytes)>,
    pub(super) idempotency: Vec<(Seq, Bytes)>,
    pub(super) dead_letters: Vec<(u64, Bytes)>,
    pub(super) removed_dead_letters: Vec<u64>,
    pub(super) removed_tasks: Vec<RemovedTask>,
    pub(super) trim: Trim,
    pub(super) listing: Listing,
    /// Wall-clock time of the commit.
    pub(super) at: Timestamp,
    /// `None` removes the parked reports of the task.
    pub(super) parked: Vec<(TaskId, Option<Bytes>)>,
    /// Re-runs, each with the task that it repeats.
    pub(super) reruns: Vec<(TaskId, TaskId)>,
    /// Statements about records. Journals of earlier versions have none.
    pub(super) statements: StatementRows,
    /// Observed time of the commit; zero in journals of earlier versions.
    pub(super) observed: Moment,
    /// Newest time, in milliseconds, used in an id.
    pub(super) ids_until_ms: u64,
    /// Why the batch stores the clocks, if it stores nothing else.
    pub(super) look: Option<ClockUpdate>,
    /// Entries of the audit trail of dead letters. Journals of earlier versions have none.
    pub(super) dead_letter_removals: DeadLetterRemovalRows,
    /// Newest step of the provenance graph, if there is a new one. Journals of earlier versions
    /// have none.
    pub(super) newest_step: Option<Seq>,
    /// Buffer in which rows are encoded.
    #[serde(skip)]
    pub(super) rows: RowBuffer,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Every field is named, so that a new one does not compile until it is considered here: a
        // batch of that field alone would be acknowledged and dropped.
        let Self {
            submissions,
            tasks,
            log,
            records,
            lineage,
            cascades,
            checkpoints,
            record_rows,
            findings,
            contents,
            projects,
            counters,
            tier_pauses,
            estimates,
            log_readers,
            taken_events,
            idempotency,
            dead_letters,
            removed_dead_letters,
            removed_tasks,
            trim,
            listing,
            parked,
            reruns,
            statements,
            look,
            dead_letter_removals,
            newest_step,
            at: _,
            observed: _,
            ids_until_ms: _,
            rows: _,
        } = self;
        submissions.is_empty()
            && tasks.is_empty()
            && log.is_empty()
            && records.is_empty()
            && lineage.is_empty()
            && cascades.is_empty()
            && checkpoints.is_empty()
            && record_rows.is_empty()
            && findings.is_empty()
            && contents.is_empty()
            && projects.is_empty()
            && counters.is_empty()
            && tier_pauses.is_empty()
            && estimates.is_empty()
            && log_readers.is_empty()
            && taken_events.is_none()
            && idempotency.is_empty()
            && dead_letters.is_empty()
            && removed_dead_letters.is_empty()
            && removed_tasks.is_empty()
            && trim.is_empty()
            && listing.is_empty()
            && parked.is_empty()
            && reruns.is_empty()
            && statements.is_empty()
            && look.is_none()
            && dead_letter_removals.is_empty()
            && newest_step.is_none()
    }

    /// Number of rows of tasks and of the log.
    pub(super) fn row_count(&self) -> usize {
        self.submissions.len() + self.tasks.len() + self.log.len()
    }

    /// Stores the client's request.
    pub fn put_submission(&mut self, id: TaskId, submission: &Submission) -> Result<(), Error> {
        self.submissions.push((id, self.rows.encode("submissions", submission)?));
        self.reruns.extend(submission.rerun_of.map(|repeated| (id, repeated)));
        Ok(())
    }

    /// Stores the state of a task and returns the row. `before` is the stored status; `None` for a
    /// new task. At most once for each task of a batch.
    pub fn put_task(&mut self, before: Option<Status>, task: &Task) -> Result<Bytes, Error> {
        let bytes = self.rows.encode("tasks", task)?;
        self.tasks.push(TaskRow {
            id: task.id,
            project: task.project.clone(),
            before,
            after: task.status(),
            ended: task.ended(),
            bytes: bytes.clone(),
        });
        Ok(bytes)
    }

    /// Stores the parked reports of a task; an empty slice removes them.
    pub fn put_parked(&mut self, id: TaskId, parked: &[Parked]) -> Result<(), Error> {
        let row = if parked.is_empty() { None } else { Some(encode("parked", &parked)?.into()) };
        self.parked.push((id, row));
        Ok(())
    }

    /// Appends to the log and, if the entry is about a task, to its history.
    pub fn append(&mut self, seq: Seq, entry: LogEntry) -> Result<(), Error> {
        let bytes = self.rows.encode("log", &entry)?;
        let task = entry.task();
        let without_event = if task.is_some() && entry.event.is_some() {
            Some(self.rows.encode("history", &LogEntry { event: None, ..entry })?)
        } else {
            None
        };
        self.log.push(LogRow { seq, task, bytes, without_event });
        Ok(())
    }

    /// Stores what the provenance graph knows of a record.
    pub fn put_lineage(&mut self, id: RecordId, row: &LineageRow) -> Result<(), Error> {
        self.lineage.push((id, row.seq(), self.rows.encode("lineage", row)?));
        Ok(())
    }

    /// Stores a step that changed flags.
    pub fn put_cascade(&mut self, step: Seq, row: &CascadeRow, changes: FlagChanges) -> Result<(), Error> {
        self.cascades.put(step, row, changes)
    }

    /// Stores findings of the Agent and the RAG service for the workers of a task.
    pub fn put_findings(&mut self, id: TaskId, findings: &Findings) -> Result<(), Error> {
        self.findings.push((id, encode("findings", findings)?.into()));
        Ok(())
    }

    /// Stores a content under its SHA-256.
    pub fn put_content(&mut self, hash: [u8; 32], content: Vec<u8>) {
        self.contents.put(hash, content);
    }

    /// Stores a reference to a content in a file.
    pub fn put_content_file(&mut self, file: Arc<ContentFile>) {
        self.contents.put_file(file);
    }

    /// Stores a project.
    pub fn put_project(&mut self, project: &Project) -> Result<(), Error> {
        self.projects.push((project.id.clone(), encode("projects", project)?.into()));
        Ok(())
    }

    /// Stores the counters of a project.
    pub fn put_counters(&mut self, project: &ProjectId, counters: &Counters) -> Result<(), Error> {
        self.counters.push((project.clone(), self.rows.encode("counters", counters)?));
        Ok(())
    }

    /// Stores whether a tier is paused.
    pub fn put_tier_pause(&mut self, tier: &Tier, pause: TierPause) -> Result<(), Error> {
        self.tier_pauses.push((tier.clone(), encode("tier_pauses", &pause)?.into()));
        Ok(())
    }

    /// Stores the statistics of a cohort; `None` removes them.
    pub fn put_estimate(&mut self, cohort: &Cohort, statistics: Option<&Statistics>) -> Result<(), Error> {
        let row = statistics.map(|statistics| encode("estimates", statistics)).transpose()?;
        self.estimates.push((encode("estimates", cohort)?.into(), row.map(Into::into)));
        Ok(())
    }

    /// Stores the events that this batch accepts and forgets.
    pub fn put_taken_events(&mut self, events: &TakenEvents) {
        self.taken_events = Some((events.seq, events.to_row().into()));
    }

    /// Stores an idempotency key.
    pub fn put_idempotency(&mut self, seq: Seq, row: &IdempotencyRow) -> Result<(), Error> {
        self.idempotency.push((seq, encode("idempotency", row)?.into()));
        Ok(())
    }

    /// Removes a finished task with its history. Its provenance stays.
    pub fn remove_task(&mut self, id: TaskId, project: ProjectId, status: Status, ended_at_ms: u64) {
        self.removed_tasks.push(RemovedTask { id, project, status, ended_at_ms });
    }

    /// Stores the readings of the clocks although nothing else has changed.
    pub const fn keep_clocks(&mut self, look: ClockUpdate) {
        self.look = Some(look);
    }

    /// Stores the newest time, in milliseconds, used in an id. After a start ids continue above it,
    /// even if the wall clock was set back.
    pub const fn keep_ids_until(&mut self, millis: u64) {
        self.ids_until_ms = millis;
    }

    /// Stores the newest step of the provenance graph. After a start steps continue after it, even
    /// if it left no trace in any row.
    pub const fn keep_newest_step(&mut self, step: Seq) {
        self.newest_step = Some(step);
    }

    /// Removes old rows.
    pub fn trim(&mut self, trim: Trim) {
        self.trim = trim;
    }

    /// Removes commits up to this one from the list of changes.
    pub fn trim_changes(&mut self, until: CommitNumber) {
        self.listing.trim = Some(until);
    }

    /// Starts the numbers of commits and the positions of the log after those that another store
    /// has used.
    pub fn begin_after(&mut self, commit: CommitNumber, log: Seq) {
        self.listing.begin_after = Some((commit, log));
    }

    /// Stores an event that could not be applied. Returns the bytes of its row.
    pub fn put_dead_letter(&mut self, number: u64, letter: &DeadLetter) -> Result<u64, Error> {
        let row = encode("dead_letters", letter)?;
        let bytes = row_bytes(&row);
        self.dead_letters.push((number, row.into()));
        Ok(bytes)
    }

    /// Removes a dead letter.
    pub fn remove_dead_letter(&mut self, number: u64) {
        self.removed_dead_letters.push(number);
    }

    /// Appends to the audit trail of dead letters.
    pub fn put_dead_letter_removal(&mut self, number: u64, removal: &DeadLetterRemoval) -> Result<(), Error> {
        self.dead_letter_removals.put(number, removal)
    }

    /// Removes the entries of that trail before a number.
    pub const fn trim_dead_letter_removals(&mut self, until: u64) {
        self.dead_letter_removals.trim(until);
    }

    /// Stores the position of a reader of the log; `None` removes it.
    pub fn put_log_reader(&mut self, name: &str, place: Option<&ReaderPosition>) -> Result<(), Error> {
        let row = place.map(|place| encode("log_readers", place)).transpose()?;
        self.log_readers.push((name.to_owned(), row.map(Into::into)));
        Ok(())
    }

    /// Stores a provenance record and indexes it by its artifacts, its task and its time.
    pub fn put_record(&mut self, record: &Record) -> Result<(), Error> {
        self.records.push((record.id, self.rows.encode("records", record)?));
        self.record_rows.put(record);
        Ok(())
    }

    /// Removes a record from the indexes. Needed before a record is stored again with another task
    /// or time, or without one of its artifacts.
    pub fn unlist_record(&mut self, before: &Record) {
        self.record_rows.unlist(before);
    }

    /// Stores an event of another audit trail.
    pub fn put_imported_event(&mut self, number: u64, event: &ImportedEvent) -> Result<(), Error> {
        self.record_rows.put_event(number, event)
    }

    /// Stores a new or changed checkpoint. Its project and time never change.
    pub fn put_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.checkpoints.put(checkpoint)
    }

    /// Removes a checkpoint and its entry in the list of its project.
    pub fn remove_checkpoint(&mut self, project: &ProjectId, (at, id): (Timestamp, CheckpointId)) {
        self.checkpoints.remove(project, at, id);
    }

    /// Stores the number of tasks completed in a project since its newest checkpoint.
    pub fn put_checkpoint_progress(
        &mut self,
        project: &ProjectId,
        progress: Option<CheckpointProgress>,
    ) -> Result<(), Error> {
        self.checkpoints.put_progress(project, progress)
    }

    /// Stores the statements about a record, oldest first; an empty slice means that its fact says
    /// everything.
    pub fn put_statements(&mut self, id: RecordId, statements: &[Statement]) -> Result<(), Error> {
        self.statements.put(id, statements)
    }

    /// Stores the effect of a rollback on checkpoints.
    pub fn put_rollback(&mut self, step: Seq, row: &RollbackRow) -> Result<(), Error> {
        self.statements.put_rollback(step, row)
    }

    /// The clocks at the commit of the batch.
    pub(super) fn present(&self) -> Now {
        if self.observed == Moment::default() {
            Now::aligned(self.at)
        } else {
            Now { observed: self.observed, wall: self.at }
        }
    }

    /// Encodes the batch as a record of the journal.
    pub(super) fn to_journal(&self) -> Result<Vec<u8>, Error> {
        let rows = self.row_count().saturating_mul(JOURNAL_ROW_BYTES);
        encode_large("journal", self, rows.saturating_add(self.cascades.change_bytes()))
    }

    /// Decodes a record of the journal. Earlier versions did not write the last fields, which are
    /// empty then.
    pub(super) fn of_journal(record: &[u8]) -> Result<Self, Error> {
        decode_grown("journal", record)
    }
}
