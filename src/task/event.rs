//! What workers and QA report about a task, after the wire form was checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::content::Content;
use super::id::{ArtifactId, LeaseId, ReviewId, TaskId, WorkerId};
use super::time::Timestamp;

/// One artifact that an output names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputArtifact {
    /// The artifact's id.
    pub id: ArtifactId,
    /// `code`, `document`, `config`, `analysis`, `architecture` or another word.
    pub kind: Option<String>,
    /// Where the worker put it (`path` or `location` on the wire).
    pub path: Option<String>,
    /// The language of code.
    pub language: Option<String>,
    /// The worker's checksum of it.
    pub checksum: Option<String>,
    /// Its size in bytes.
    pub size_bytes: Option<u64>,
}

/// Most artifacts of an output, and most that it says it used.
pub const MAX_OUTPUT_ARTIFACTS: usize = 1024;

/// A worker, as far as it is known: by its lease, its own id, or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The lease.
    pub lease: Option<LeaseId>,
    /// The worker.
    pub worker: Option<WorkerId>,
}

/// `task.output.created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The artifact that verdicts will name.
    pub artifact: ArtifactId,
    /// The attempt it belongs to; `None` means the current one.
    pub attempt: Option<u32>,
    /// The contents of artifacts, where the worker sent them.
    pub contents: BTreeMap<ArtifactId, Content>,
    /// What the output consists of.
    pub artifacts: Vec<OutputArtifact>,
    /// Artifacts that were used.
    pub inputs_consumed: Vec<ArtifactId>,
    /// The model that made it.
    pub model_used: Option<String>,
    /// The worker that made it, and the lease under which it did.
    pub sender: Holder,
    /// Tokens read.
    pub tokens_input: Option<u64>,
    /// Tokens written.
    pub tokens_output: Option<u64>,
    /// The worker's own measure, in milliseconds.
    pub execution_time_ms: Option<u64>,
    /// From 0 to 1.
    pub confidence: Option<f64>,
    /// When the worker started.
    pub started_at: Option<Timestamp>,
}

impl Output {
    /// All artifacts of the output; the one that verdicts name first, if the
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

/// A verdict about an artifact, which may arrive before the artifact does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The artifact it is about.
    pub artifact: ArtifactId,
    /// What was decided.
    pub decision: Decision,
    /// The rest of the event's data as compact JSON text: score, profile,
    /// validators, issues. It goes into the record's `verification`.
    pub details: String,
}

/// The decision of a [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// `task.validated`.
    Validated,
    /// `task.rejected`, with the reason in words.
    Rejected {
        /// The first issue or the given reason.
        reason: String,
    },
}

/// `task.failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, in words.
    pub error: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// The attempt it belongs to; `None` means the current one.
    pub attempt: Option<u32>,
    /// The worker that failed, and the lease under which it did.
    pub sender: Holder,
    /// Whether the event came from a QA service.
    pub from_qa: bool,
}

/// `task.started`: a worker begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The attempt it belongs to; `None` means the current one.
    pub attempt: Option<u32>,
    /// The worker that begins, and the lease under which it does.
    pub sender: Holder,
}

/// `review.requested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewRequest {
    /// The review's id.
    pub review: ReviewId,
    /// Why a person is asked.
    pub reason: String,
    /// The artifact to look at, where named.
    pub artifact: Option<ArtifactId>,
}

/// How a person decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReviewDecision {
    /// The output is good.
    Approved,
    /// The output is not good.
    Rejected,
    /// The output needs changes: another attempt.
    ChangesRequested,
}

impl ReviewDecision {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::ChangesRequested => "changes_requested",
        }
    }
}

/// `review.completed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The review's id.
    pub review: ReviewId,
    /// The decision.
    pub decision: ReviewDecision,
    /// Who decided.
    pub reviewer: Option<String>,
    /// The artifact it is about, where named.
    pub artifact: Option<ArtifactId>,
    /// What the reviewer said.
    pub comments: Option<String>,
}

/// What happened to a task, as a worker or QA reports it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// `task.output.created`
    Output(Box<Output>),
    /// `task.validated` and `task.rejected`
    Verdict(Verdict),
    /// `task.failed`
    Failed(Failure),
    /// `task.started`
    Started(Started),
    /// `review.requested`
    ReviewRequested(ReviewRequest),
    /// `review.completed`
    ReviewCompleted(Review),
}

impl Report {
    /// The event's name in the catalogue.
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

/// How a report names its task: by id, or, for reviews that do not carry
/// it, by artifact or review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correlation {
    /// The task, where named.
    pub task: Option<TaskId>,
    /// The artifact, where named.
    pub artifact: Option<ArtifactId>,
    /// The review, where named.
    pub review: Option<ReviewId>,
}
