//! A batch: everything that one group of commands changes, collected in
//! memory and made durable in one transaction. Nothing of it is visible
//! before, and nobody outside knows how it becomes durable.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::batch_rows::{IdempotencyRow, LogRow, Look, RemovedTask, TaskRow, Trim};
use super::cascade_rows::CascadeRows;
use super::cascades::CascadeRow;
use super::changes::{CommitNumber, Listing};
use super::checkpoint::{Checkpoint, CheckpointProgress, CheckpointRows};
use super::codec::{RowBuffer, decode_grown, encode, encode_large};
use super::contents::{ContentFile, NewContents};
use super::error::Error;
use super::letters::{LetterRemoval, RemovalRows, row_bytes};
use super::lineage::LineageRow;
use super::readers::Place;
use super::records::RecordRows;
use super::rows::{Counters, DeadLetter, ImportedEvent, LogEntry, Project, Record, TierPause};
use super::statements::{RollbackRow, StatementRows};
use super::taken_events::TakenEvents;
use super::trail::Changes;
use crate::lineage::Statement;
use crate::task::{
    CheckpointId, Cohort, Findings, Moment, Now, Parked, ProjectId, RecordId, Seq, Statistics, Status, Submission,
    Task, TaskId, Tier, Timestamp,
};

/// What a row takes in a record of the journal, about.
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
    /// When it was committed, by the wall clock.
    pub(super) at: Timestamp,
    /// `None`: nothing is parked for the task any more.
    pub(super) parked: Vec<(TaskId, Option<Bytes>)>,
    /// Re-runs, each with the task that it repeats.
    pub(super) reruns: Vec<(TaskId, TaskId)>,
    /// What was said of records. Journals of before it have none.
    pub(super) statements: StatementRows,
    /// When it was committed, in observed time; zero in journals of before it.
    pub(super) observed: Moment,
    /// The newest time, in milliseconds, that an id was made with.
    pub(super) ids_until_ms: u64,
    /// What it says of the clocks, if it says nothing else.
    pub(super) look: Option<Look>,
    /// Of the audit trail of dead letters. Journals of before it have none.
    pub(super) letter_removals: RemovalRows,
    /// The newest step of the provenance graph, where there is a new one. Journals
    /// of before it have none.
    pub(super) newest_step: Option<Seq>,
    /// Where its rows are encoded.
    #[serde(skip)]
    pub(super) rows: RowBuffer,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Every field is named, so that a new one does not compile before it is
        // looked at: a batch of that alone would be acknowledged and dropped.
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
            letter_removals,
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
            && letter_removals.is_empty()
            && newest_step.is_none()
    }

    /// How many rows of tasks and of the log it has.
    pub(super) fn row_count(&self) -> usize {
        self.submissions.len() + self.tasks.len() + self.log.len()
    }

    /// Keeps what a client asked for.
    pub fn put_submission(&mut self, id: TaskId, submission: &Submission) -> Result<(), Error> {
        self.submissions.push((id, self.rows.encode("submissions", submission)?));
        self.reruns.extend(submission.rerun_of.map(|repeated| (id, repeated)));
        Ok(())
    }

    /// Keeps a task's state. `before` is the status that the store has for
    /// it; `None` for a new task. Once a batch for each task. Returns the row.
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

    /// Keeps the verdicts that wait for an output of a task; none: forgets them.
    pub fn put_parked(&mut self, id: TaskId, parked: &[Parked]) -> Result<(), Error> {
        let row = if parked.is_empty() { None } else { Some(encode("parked", &parked)?.into()) };
        self.parked.push((id, row));
        Ok(())
    }

    /// Appends to the log and, where the entry is about a task, to its history.
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

    /// Keeps what the provenance graph knows of a record.
    pub fn put_lineage(&mut self, id: RecordId, row: &LineageRow) -> Result<(), Error> {
        self.lineage.push((id, row.seq(), self.rows.encode("lineage", row)?));
        Ok(())
    }

    /// Keeps what a taint, mark or clear did.
    pub fn put_cascade(&mut self, step: Seq, row: &CascadeRow, changes: Changes) -> Result<(), Error> {
        self.cascades.put(step, row, changes)
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
        self.counters.push((project.clone(), self.rows.encode("counters", counters)?));
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

    /// Keeps what the clocks show although nothing else has changed.
    pub const fn keep_clocks(&mut self, look: Look) {
        self.look = Some(look);
    }

    /// Keeps the newest time, in milliseconds, that an id was made with: ids go
    /// on above it after a start, also where the wall clock was set back.
    pub const fn keep_ids_until(&mut self, millis: u64) {
        self.ids_until_ms = millis;
    }

    /// Keeps the newest step of the provenance graph: steps go on behind it after a
    /// start, also where it left no trace in any row.
    pub const fn keep_newest_step(&mut self, step: Seq) {
        self.newest_step = Some(step);
    }

    /// Removes old rows.
    pub fn trim(&mut self, trim: Trim) {
        self.trim = trim;
    }

    /// Takes commits up to here from the list of changes.
    pub fn trim_changes(&mut self, until: CommitNumber) {
        self.listing.trim = Some(until);
    }

    /// Begins the numbers of commits and the positions of the log behind
    /// others, which another store has used up.
    pub fn begin_after(&mut self, commit: CommitNumber, log: Seq) {
        self.listing.begin_after = Some((commit, log));
    }

    /// Keeps an event that could not be taken. Returns the bytes of its row.
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
    pub fn put_letter_removal(&mut self, number: u64, removal: &LetterRemoval) -> Result<(), Error> {
        self.letter_removals.put(number, removal)
    }

    /// Removes the entries of that trail before a number.
    pub const fn trim_letter_removals(&mut self, until: u64) {
        self.letter_removals.trim(until);
    }

    /// Keeps the place of a reader; `None`: it has none any more.
    pub fn put_log_reader(&mut self, name: &str, place: Option<&Place>) -> Result<(), Error> {
        let row = place.map(|place| encode("log_readers", place)).transpose()?;
        self.log_readers.push((name.to_owned(), row.map(Into::into)));
        Ok(())
    }

    /// Keeps a provenance record, and finds it by its artifacts, its task and
    /// its time.
    pub fn put_record(&mut self, record: &Record) -> Result<(), Error> {
        self.records.push((record.id, self.rows.encode("records", record)?));
        self.record_rows.put(record);
        Ok(())
    }

    /// Forgets by what a record was found until now. Needed before a record
    /// is put again with another task or time, or without one of its artifacts.
    pub fn unlist_record(&mut self, before: &Record) {
        self.record_rows.unlist(before);
    }

    /// Keeps an event of another audit trail.
    pub fn put_imported_event(&mut self, number: u64, event: &ImportedEvent) -> Result<(), Error> {
        self.record_rows.put_event(number, event)
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

    /// Keeps what was said of a record, oldest first; none: its fact says it all.
    pub fn put_statements(&mut self, id: RecordId, statements: &[Statement]) -> Result<(), Error> {
        self.statements.put(id, statements)
    }

    /// Keeps what a rollback did to checkpoints.
    pub fn put_rollback(&mut self, step: Seq, row: &RollbackRow) -> Result<(), Error> {
        self.statements.put_rollback(step, row)
    }

    /// What the clocks showed at its commit.
    pub(super) fn present(&self) -> Now {
        if self.observed == Moment::default() {
            Now::aligned(self.at)
        } else {
            Now { observed: self.observed, wall: self.at }
        }
    }

    /// The batch as a record of the journal.
    pub(super) fn to_journal(&self) -> Result<Vec<u8>, Error> {
        let rows = self.row_count().saturating_mul(JOURNAL_ROW_BYTES);
        encode_large("journal", self, rows.saturating_add(self.cascades.change_bytes()))
    }

    /// The batch of a record of the journal. A version before has not written
    /// the last fields: they are empty then.
    pub(super) fn of_journal(record: &[u8]) -> Result<Self, Error> {
        decode_grown("journal", record)
    }
}
