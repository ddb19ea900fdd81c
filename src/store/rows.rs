//! Values of the tables, besides [`Task`](crate::task::Task) and
//! [`Submission`](crate::task::Submission), which are stored as they are.

use serde::{Deserialize, Serialize};

use super::Error;
use super::codec::decode_added;
use crate::lineage::Relationship;
use crate::task::{
    ArtifactId, Change, Domain, Moment, OutputArtifact, Phase, ProjectId, QaProfile, RecordId, RecordStatus, Seq,
    Status, Task, TaskId, Tier, Timestamp, WorkerId,
};

/// A change as stored in the log and in the history of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When the change happened.
    pub at: Timestamp,
    /// The project in which it happened.
    pub project: ProjectId,
    /// The task, record or project that changed.
    pub about: About,
    /// What happened, in the terms of the core.
    pub change: Change,
    /// For an accepted event: the event itself, a structured `CloudEvent` in JSON. Stored in the
    /// log, not in the history.
    pub event: Option<String>,
    /// Whether the event was on the bus before it was accepted, so that it is not published there
    /// again.
    pub on_bus: bool,
    /// The same time in observed time, from which the age of a log entry counts. It is stored after
    /// the row, in the log alone; zero otherwise.
    #[serde(skip)]
    pub observed: Moment,
}

/// Decodes a row of `open_tasks` or `finished_tasks`.
pub(super) fn task_of_row(table: &'static str, row: &[u8]) -> Result<Task, Error> {
    // Without `course`, which is three times `None` and an empty list.
    decode_added(table, row, 4)
}

/// The subject of a log entry. Histories have entries about their task alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// A task, with its state after the change.
    Task(Standing),
    /// A provenance record.
    Record(RecordId),
    /// The project as a whole.
    Project,
}

/// The state of a task after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Id of the task that changed.
    pub task: TaskId,
    /// Number of visible changes, this one included.
    pub version: u64,
    /// Status after the change.
    pub status: Status,
    /// Phase after the change.
    pub phase: Phase,
    /// Number of attempts opened so far.
    pub attempt: u32,
}

impl LogEntry {
    /// When the change happened, in observed time.
    #[must_use]
    pub fn moment(&self) -> Moment {
        if self.observed == Moment::default() { Moment::aligned(self.at) } else { self.observed }
    }

    /// The state of the task after the change, if the entry is about a task.
    #[must_use]
    pub const fn standing(&self) -> Option<Standing> {
        match self.about {
            About::Task(standing) => Some(standing),
            About::Record(_) | About::Project => None,
        }
    }

    /// The task that the entry is about, if any.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        self.standing().map(|standing| standing.task)
    }
}

/// A project: defaults and limits for its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Id chosen by the client.
    pub id: ProjectId,
    /// Name for people.
    pub name: String,
    /// Description for people.
    pub description: Option<String>,
    /// How outputs are validated if the submission does not say.
    pub qa_profile: Option<QaProfile>,
    /// Any JSON object for the workers, as compact JSON text.
    pub constitution: Option<String>,
    /// Largest number of tasks that hold a slot at once; `None` is the configured default.
    pub max_concurrent: Option<u32>,
    /// When the project was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Number of changes, from 1.
    pub version: u64,
    /// When it was deleted. Its tasks and provenance stay.
    pub archived_at: Option<Timestamp>,
    /// Since when it is paused: none of its tasks is dispatched or leased.
    pub paused_at: Option<Timestamp>,
    /// When its last pause ended.
    pub resumed_at: Option<Timestamp>,
}

/// Whether the tasks of a tier are dispatched and leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TierPause {
    /// Since when the tier is paused.
    pub paused_at: Option<Timestamp>,
    /// When its last pause ended.
    pub resumed_at: Option<Timestamp>,
    /// Whether its work queue at the broker ever had a consumer.
    pub had_consumer: bool,
    /// Whether a worker of the tier ever sent `task.started`. This field must stay the last one,
    /// because rows of the first versions of format 6 end before it.
    #[serde(default)]
    pub tells_starts: bool,
}

/// Number of a project's tasks by phase, in the order of [`Phase::ALL`]; equal to the result of a
/// full scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Number of tasks by phase.
    pub by_phase: [u64; 14],
}

impl Counters {
    /// Number of tasks in `phase`.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> u64 {
        Phase::ALL.iter().zip(self.by_phase).find(|(each, _)| **each == phase).map_or(0, |(_, count)| count)
    }

    /// Number of tasks in `status`.
    #[must_use]
    pub fn status(&self, status: Status) -> u64 {
        let phases: &[Phase] = match status {
            Status::Pending => {
                &[Phase::Scheduled, Phase::Blocked, Phase::Analyzing, Phase::Queued, Phase::Backoff, Phase::Dispatched]
            }
            Status::Running => &[Phase::Leased, Phase::Started, Phase::Validating, Phase::Reviewing, Phase::Children],
            Status::Completed => &[Phase::Completed],
            Status::Failed => &[Phase::Failed],
            Status::Cancelled => &[Phase::Cancelled],
        };
        phases.iter().map(|phase| self.phase(*phase)).sum()
    }

    /// Number of tasks that have not ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.status(Status::Pending) + self.status(Status::Running)
    }

    /// Number of all tasks.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_phase.iter().sum()
    }

    /// Adds the counts of another set of tasks.
    pub fn add(&mut self, other: &Self) {
        self.by_phase.iter_mut().zip(other.by_phase).for_each(|(count, more)| *count += more);
    }

    /// Moves one task from a phase (`None` if it is new) to another (`None` if it was removed).
    pub fn moved(&mut self, from: Option<Phase>, to: Option<Phase>) {
        for (phase, count) in Phase::ALL.iter().zip(&mut self.by_phase) {
            if from == Some(*phase) {
                *count = count.saturating_sub(1);
            }
            if to == Some(*phase) {
                *count += 1;
            }
        }
    }
}

/// An artifact that a record used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordInput {
    /// Id as the worker or the client named it.
    pub artifact: ArtifactId,
    /// How it was used.
    pub relationship: Relationship,
}

/// An artifact that a record produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordOutput {
    /// The artifact as the worker described it.
    pub artifact: OutputArtifact,
    /// SHA-256 of its content, if the output carried it.
    pub content: Option<[u8; 32]>,
}

/// A provenance record: what one attempt produced, from what, and its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Id of the record.
    pub id: RecordId,
    /// The task of the attempt.
    pub task: TaskId,
    /// The project of the task.
    pub project: ProjectId,
    /// Number of the attempt, from 1; records of the old program have none.
    pub attempt: Option<u32>,
    /// The verdict.
    pub status: RecordStatus,
    /// The model that produced the output.
    pub model_used: Option<String>,
    /// The worker that sent the output.
    pub worker: Option<WorkerId>,
    /// The tier of the attempt; records of the old program have none.
    pub tier: Option<Tier>,
    /// The kind of work; records of the old program have none.
    pub domain: Option<Domain>,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When the work began, if known.
    pub started_at: Option<Timestamp>,
    /// When the output arrived, if known.
    pub completed_at: Option<Timestamp>,
    /// Tokens read by the model.
    pub tokens_input: Option<u64>,
    /// Tokens written by the model.
    pub tokens_output: Option<u64>,
    /// Execution time in milliseconds.
    pub execution_time_ms: Option<u64>,
    /// The worker's confidence, from 0 to 1.
    pub confidence: Option<f64>,
    /// Artifacts that it produced.
    pub outputs: Vec<RecordOutput>,
    /// Artifacts that it used.
    pub inputs: Vec<RecordInput>,
    /// Details from QA or a reviewer, as the JSON text of an object.
    pub verification: Option<String>,
    /// For an imported record: its form at its origin.
    pub imported: Option<Box<Imported>>,
}

/// The form of an imported record at its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Its id there: the record's id, or the text that the id is derived from.
    pub id: String,
    /// Its task there; empty if none was named.
    pub task: String,
    /// Distinguishes a changed record from an unchanged one.
    pub digest: [u8; 32],
    /// Whether it was suspect there.
    pub was_suspect: bool,
    /// Its taint there, if it was tainted.
    pub taint: Option<ImportedTaint>,
    /// The step in which the import made that taint a fact.
    pub tainted_in: Option<Seq>,
    /// The whole JSON object as it was imported.
    pub original: String,
}

impl Record {
    /// The taint from the origin, if the taint of this step is that one.
    #[must_use]
    pub fn taint_brought_in(&self, step: Seq) -> Option<&ImportedTaint> {
        let imported = self.imported.as_ref().filter(|imported| imported.tainted_in == Some(step))?;
        imported.taint.as_ref()
    }
}

/// A taint that existed before the import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedTaint {
    /// When the record was tainted.
    pub at: Option<Timestamp>,
    /// The reason in words.
    pub reason: Option<String>,
    /// The task, artifact or record that caused it.
    pub by: Option<String>,
}

/// An imported entry of another audit trail of taints, marks and clears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedEvent {
    /// Its id there.
    pub id: String,
    /// The artifact that it names, if any.
    pub artifact: Option<ArtifactId>,
    /// The record that it names, if any.
    pub record: Option<RecordId>,
    /// Id of its cascade; empty if it names none.
    pub cascade: String,
    /// Distinguishes another event from the same one.
    pub digest: [u8; 32],
    /// The whole JSON object as it was imported.
    pub original: String,
}

/// An event that could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it became a dead letter.
    pub at: Timestamp,
    /// The task that it was about, if known.
    pub task: Option<TaskId>,
    /// Why it could not be applied.
    pub reason: String,
    /// The event as it was received.
    pub raw: String,
}

/// Decodes the status and project of a row of `finished_by_end`.
pub(super) fn ended_as(value: &[u8]) -> Result<(Status, ProjectId), Error> {
    let corrupt = |detail: &str| Error::Corrupt { table: "finished_by_end", detail: detail.to_owned() };
    let (code, project) = value.split_first().ok_or_else(|| corrupt("an empty row"))?;
    let status = Status::ALL.into_iter().find(|status| status.code() == *code);
    let status = status.ok_or_else(|| corrupt("an unknown status"))?;
    let project = std::str::from_utf8(project).map_err(|_| corrupt("a project that is no text"))?;
    Ok((status, project_id("finished_by_end", project)?))
}

/// Decodes a project id in a key or value of `table`.
pub(super) fn project_id(table: &'static str, text: &str) -> Result<ProjectId, Error> {
    ProjectId::new(text).map_err(|error| Error::Corrupt { table, detail: error.to_string() })
}
