//! The values that tables hold, beside [`Task`](crate::task::Task) and
//! [`Submission`](crate::task::Submission), which are values themselves.

use serde::{Deserialize, Serialize};

use super::Error;
use super::codec::decode_added;
use crate::lineage::Relationship;
use crate::task::{
    ArtifactId, Change, Domain, Moment, OutputArtifact, Phase, ProjectId, QaProfile, RecordId, RecordStatus, Seq,
    Status, Task, TaskId, Tier, Timestamp, WorkerId,
};

/// One change, as the log and a task's history keep it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When it happened.
    pub at: Timestamp,
    /// The project it happened in.
    pub project: ProjectId,
    /// What it happened to.
    pub about: About,
    /// What happened.
    pub change: Change,
    /// For an accepted event: the event itself, a structured `CloudEvent` in
    /// JSON. Kept in the log alone, not in the history.
    pub event: Option<String>,
    /// Whether that event was on the bus before it was accepted: it is not
    /// published there again.
    pub on_bus: bool,
    /// The same time in observed time: the age of an entry of the log counts from
    /// here. It stands behind the row, in the log alone; zero where it does not.
    #[serde(skip)]
    pub observed: Moment,
}

/// A row of `open_tasks` or `finished_tasks`.
pub(super) fn task_of_row(table: &'static str, row: &[u8]) -> Result<Task, Error> {
    // Without `course`: three times `None`, and an empty list.
    decode_added(table, row, 4)
}

/// What an entry of the log is about. Histories have entries about their task
/// alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// A task.
    Task(Standing),
    /// A provenance record.
    Record(RecordId),
    /// The project as a whole.
    Project,
}

/// A task, and where it stands after what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The task.
    pub task: TaskId,
    /// Its version.
    pub version: u64,
    /// Its status.
    pub status: Status,
    /// Its phase.
    pub phase: Phase,
    /// Attempts opened so far.
    pub attempt: u32,
}

impl LogEntry {
    /// When it happened, in observed time.
    #[must_use]
    pub fn moment(&self) -> Moment {
        if self.observed == Moment::default() { Moment::aligned(self.at) } else { self.observed }
    }

    /// Where the task stands that the entry is about, if it is about one.
    #[must_use]
    pub const fn standing(&self) -> Option<Standing> {
        match self.about {
            About::Task(standing) => Some(standing),
            About::Record(_) | About::Project => None,
        }
    }

    /// The task that the entry is about, if it is about one.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        self.standing().map(|standing| standing.task)
    }
}

/// A project: defaults and limits for its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// A name for people.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// How its outputs are validated, unless a submission says otherwise.
    pub qa_profile: Option<QaProfile>,
    /// Any JSON object for the workers, as compact JSON text.
    pub constitution: Option<String>,
    /// Most tasks that hold a slot at once; `None`: the configured default.
    pub max_concurrent: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Counts its changes, from 1.
    pub version: u64,
    /// When it was deleted; its tasks and provenance stay.
    pub archived_at: Option<Timestamp>,
    /// Since when it is paused: none of its tasks is dispatched or leased.
    pub paused_at: Option<Timestamp>,
    /// When its last pause ended.
    pub resumed_at: Option<Timestamp>,
}

/// Whether the tasks of a tier are dispatched and leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TierPause {
    /// Since when it is paused.
    pub paused_at: Option<Timestamp>,
    /// When its last pause ended.
    pub resumed_at: Option<Timestamp>,
    /// Whether its work queue at the broker ever had a consumer.
    pub had_consumer: bool,
    /// Whether a worker of it ever said that it begins. The last field: rows of the
    /// first versions of format 6 end before it.
    #[serde(default)]
    pub tells_starts: bool,
}

/// How many tasks of a project are in which phase, in the order of
/// [`Phase::ALL`]; equal to what a full scan gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Tasks by phase.
    pub by_phase: [u64; 14],
}

impl Counters {
    /// How many tasks are in `phase`.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> u64 {
        Phase::ALL.iter().zip(self.by_phase).find(|(each, _)| **each == phase).map_or(0, |(_, count)| count)
    }

    /// How many tasks are in `status`.
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

    /// How many tasks have not ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.status(Status::Pending) + self.status(Status::Running)
    }

    /// All tasks.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_phase.iter().sum()
    }

    /// Adds the counts of another set of tasks.
    pub fn add(&mut self, other: &Self) {
        self.by_phase.iter_mut().zip(other.by_phase).for_each(|(count, more)| *count += more);
    }

    /// One task moved from a phase (`None`: it is new) to another (`None`:
    /// it was removed).
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
    /// The artifact.
    pub artifact: ArtifactId,
    /// How it was used.
    pub relationship: Relationship,
}

/// An artifact that a record produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordOutput {
    /// What the worker said of it.
    pub artifact: OutputArtifact,
    /// The key of its content, where the output carried it.
    pub content: Option<[u8; 32]>,
}

/// A provenance record: what one attempt produced, from what, and how it
/// was judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: RecordId,
    /// The task.
    pub task: TaskId,
    /// The project.
    pub project: ProjectId,
    /// The attempt, from 1; records of the old program have none.
    pub attempt: Option<u32>,
    /// The verdict.
    pub status: RecordStatus,
    /// The model that made it.
    pub model_used: Option<String>,
    /// The worker that made it.
    pub worker: Option<WorkerId>,
    /// The tier it was made on; records of the old program have none.
    pub tier: Option<Tier>,
    /// The kind of work; records of the old program have none.
    pub domain: Option<Domain>,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When the work began, where known.
    pub started_at: Option<Timestamp>,
    /// When the output came, where known.
    pub completed_at: Option<Timestamp>,
    /// Tokens read.
    pub tokens_input: Option<u64>,
    /// Tokens written.
    pub tokens_output: Option<u64>,
    /// How long the work took, in milliseconds.
    pub execution_time_ms: Option<u64>,
    /// From 0 to 1.
    pub confidence: Option<f64>,
    /// What it produced.
    pub outputs: Vec<RecordOutput>,
    /// What it used.
    pub inputs: Vec<RecordInput>,
    /// What QA or a reviewer said: JSON text of an object.
    pub verification: Option<String>,
    /// Of a record that was imported: what it was where it came from.
    pub imported: Option<Box<Imported>>,
}

/// What an imported record was where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Its id there: the record's id, or the text that it is derived from.
    pub id: String,
    /// Its task there; empty where none was named.
    pub task: String,
    /// Tells a changed record from an unchanged one.
    pub digest: [u8; 32],
    /// Whether it was said to be suspect.
    pub was_suspect: bool,
    /// What was said of its taint, if it was tainted.
    pub taint: Option<ImportedTaint>,
    /// The step in which the import made that a fact.
    pub tainted_in: Option<Seq>,
    /// All of it: the JSON object as it came.
    pub original: String,
}

impl Record {
    /// What was said of its taint where it came from, if the taint of this
    /// step is that one.
    #[must_use]
    pub fn taint_brought_in(&self, step: Seq) -> Option<&ImportedTaint> {
        let imported = self.imported.as_ref().filter(|imported| imported.tainted_in == Some(step))?;
        imported.taint.as_ref()
    }
}

/// A taint that was there before the import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedTaint {
    /// Since when.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// The task, artifact or record that caused it.
    pub by: Option<String>,
}

/// An entry of another audit trail of taints, marks and clears, imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedEvent {
    /// Its id there.
    pub id: String,
    /// The artifact it is about, where it names one.
    pub artifact: Option<ArtifactId>,
    /// The record it is about, where it names one.
    pub record: Option<RecordId>,
    /// What belongs together; empty where nothing was named.
    pub cascade: String,
    /// Tells another event from the same one.
    pub digest: [u8; 32],
    /// All of it: the JSON object as it came.
    pub original: String,
}

/// An event that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it was given up.
    pub at: Timestamp,
    /// The task it was about, where known.
    pub task: Option<TaskId>,
    /// Why it could not be taken.
    pub reason: String,
    /// The event as it came.
    pub raw: String,
}

/// The status and project of a row of `finished_by_end`.
pub(super) fn ended_as(value: &[u8]) -> Result<(Status, ProjectId), Error> {
    let corrupt = |detail: &str| Error::Corrupt { table: "finished_by_end", detail: detail.to_owned() };
    let (code, project) = value.split_first().ok_or_else(|| corrupt("an empty row"))?;
    let status = Status::ALL.into_iter().find(|status| status.code() == *code);
    let status = status.ok_or_else(|| corrupt("an unknown status"))?;
    let project = std::str::from_utf8(project).map_err(|_| corrupt("a project that is no text"))?;
    Ok((status, project_id("finished_by_end", project)?))
}

/// Reads a project's id out of a key.
pub(super) fn project_id(table: &'static str, text: &str) -> Result<ProjectId, Error> {
    ProjectId::new(text).map_err(|error| Error::Corrupt { table, detail: error.to_string() })
}
