//! Reports of workers and of the QA service about a task, parsed and checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::content::Content;
use super::id::{ArtifactId, LeaseId, ReviewId, TaskId, WorkerId};
use super::time::Timestamp;

/// One artifact of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputArtifact {
    /// The id that the worker gave the artifact.
    pub id: ArtifactId,
    /// `code`, `document`, `config`, `analysis`, `architecture` or another word.
    pub kind: Option<String>,
    /// Where the worker stored the artifact (`path` or `location` on the wire).
    pub path: Option<String>,
    /// Programming language of code.
    pub language: Option<String>,
    /// Checksum as computed by the worker.
    pub checksum: Option<String>,
    /// Size of the artifact as the worker stated it.
    pub size_bytes: Option<u64>,
}

/// Largest number of artifacts in an output, and of artifacts that it names as consumed.
pub const MAX_OUTPUT_ARTIFACTS: usize = 1024;

/// A worker as far as it is known: by its lease, by its own id, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The lease that the worker named or holds.
    pub lease: Option<LeaseId>,
    /// The id that the worker gave itself.
    pub worker: Option<WorkerId>,
}

/// The event `task.output.created`: a worker delivers the output of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The artifact that verdicts will name.
    pub artifact: ArtifactId,
    /// The attempt, from 1; `None` means the current one.
    pub attempt: Option<u32>,
    /// Contents of artifacts, if the worker sent them.
    pub contents: BTreeMap<ArtifactId, Content>,
    /// The artifacts that the output consists of.
    pub artifacts: Vec<OutputArtifact>,
    /// Artifacts that the worker used.
    pub inputs_consumed: Vec<ArtifactId>,
    /// The model that produced the output.
    pub model_used: Option<String>,
    /// The worker that sent the output, and its lease.
    pub sender: Holder,
    /// Tokens read by the model.
    pub tokens_input: Option<u64>,
    /// Tokens written by the model.
    pub tokens_output: Option<u64>,
    /// Execution time as measured by the worker, in milliseconds.
    pub execution_time_ms: Option<u64>,
    /// The worker's confidence, from 0 to 1.
    pub confidence: Option<f64>,
    /// When the worker started, by its own clock.
    pub started_at: Option<Timestamp>,
}

impl Output {
    /// Returns all artifacts of the output. The artifact that verdicts name comes first if the
    /// worker did not list it.
    #[must_use]
    pub fn all_artifacts(&self) -> Vec<OutputArtifact> {
        let listed = self.artifacts.iter().any(|artifact| artifact.id == self.artifact);
        let named = (!listed).then(|| OutputArtifact {
            id: self.artifact.clone(),
            kind: None,
            path: None,
            language: None,
            checksum: None,
            size_bytes: None,
        });
        named.into_iter().chain(self.artifacts.iter().cloned()).collect()
    }
}

/// A verdict on an artifact. It may arrive before the artifact does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The artifact that was checked.
    pub artifact: ArtifactId,
    /// Whether the artifact passed.
    pub decision: Decision,
    /// The rest of the event's data as compact JSON text: score, profile, validators, issues. It is
    /// stored in the record's `verification`.
    pub details: String,
}

/// The decision of a [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// The event `task.validated`.
    Validated,
    /// The event `task.rejected`.
    Rejected {
        /// The given reason, or else the first issue.
        reason: String,
    },
}

/// The event `task.failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The cause in words.
    pub error: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// The attempt, from 1; `None` means the current one.
    pub attempt: Option<u32>,
    /// The worker that failed, and its lease.
    pub sender: Holder,
    /// Whether the QA service sent the event.
    pub from_qa: bool,
}

/// The event `task.started`: a worker starts an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The attempt, from 1; `None` means the current one.
    pub attempt: Option<u32>,
    /// The worker that starts, and its lease.
    pub sender: Holder,
}

/// The event `review.requested`: a person is asked to look at an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewRequest {
    /// The id that the QA service gave the review.
    pub review: ReviewId,
    /// Why a review is needed, in words.
    pub reason: String,
    /// The artifact to review; `None` if the event names none.
    pub artifact: Option<ArtifactId>,
}

/// The decision of a reviewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReviewDecision {
    /// The output is accepted.
    Approved,
    /// The output is rejected.
    Rejected,
    /// The output needs changes, which another attempt makes.
    ChangesRequested,
}

impl ReviewDecision {
    /// The decision as it appears on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::ChangesRequested => "changes_requested",
        }
    }
}

/// The event `review.completed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The id that the QA service gave the review.
    pub review: ReviewId,
    /// The reviewer's decision.
    pub decision: ReviewDecision,
    /// Id of the reviewer.
    pub reviewer: Option<String>,
    /// The artifact that was reviewed; `None` if the event names none.
    pub artifact: Option<ArtifactId>,
    /// The reviewer's comments.
    pub comments: Option<String>,
}

/// A report of a worker or of the QA service about a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// `task.output.created`.
    Output(Box<Output>),
    /// `task.validated` or `task.rejected`.
    Verdict(Verdict),
    /// `task.failed`.
    Failed(Failure),
    /// `task.started`.
    Started(Started),
    /// A person is asked to review: `review.requested`.
    ReviewRequested(ReviewRequest),
    /// A person has decided: `review.completed`.
    ReviewCompleted(Review),
}

impl Report {
    /// The name of the event in the catalogue.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Output(_) => "task.output.created",
            Self::Verdict(Verdict { decision: Decision::Validated, .. }) => "task.validated",
            Self::Verdict(Verdict { decision: Decision::Rejected { .. }, .. }) => "task.rejected",
            Self::Failed(_) => "task.failed",
            Self::Started(_) => "task.started",
            Self::ReviewRequested(_) => "review.requested",
            Self::ReviewCompleted(_) => "review.completed",
        }
    }
}

/// How a report identifies its task: by the task's id, or, for reviews that do not carry it, by an
/// artifact or a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correlation {
    /// The task, if the report names it.
    pub task: Option<TaskId>,
    /// The artifact, if the report names it.
    pub artifact: Option<ArtifactId>,
    /// The review, if the report names it.
    pub review: Option<ReviewId>,
}
