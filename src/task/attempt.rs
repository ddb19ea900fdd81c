//! An attempt at a task: who has it, how far it is, and what it has produced.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::TaskError;
use super::event::{Holder, OutputArtifact};
use super::id::{ArtifactId, LeaseId, RecordId, ReviewId, Tier, WorkerId};
use super::moment::{Moment, Now};
use super::time::Timestamp;

/// An attempt that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it was opened: at its first lease, at the dispatch to a broker, or
    /// by an output.
    pub opened_at: Timestamp,
    /// When a worker first had it, as far as is known.
    pub started_at: Option<Timestamp>,
    /// Since when the task waited for it: its age, should it wait again.
    pub queued_since: Moment,
    /// Execution that earlier leases of this attempt already used.
    pub executed: Duration,
    /// Whether it holds a slot of its project.
    pub has_slot: bool,
    /// How many workers have held it, one after the other.
    pub holders: u32,
    /// How many leases of it have run out.
    pub lost_leases: u32,
    /// How often a worker gave it back.
    pub releases: u32,
    /// What came from workers that did not hold it.
    pub foreign: Option<Box<ForeignOutput>>,
}

/// Outputs of workers that did not hold the attempt while another one did:
/// kept with the attempt, and never validated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignOutput {
    /// The record that was made for the first of them.
    pub record: RecordId,
    /// Their artifacts, the main one of the first output first.
    pub artifacts: Vec<ArtifactId>,
}

impl Attempt {
    /// A new attempt of a task that has waited since `queued_since`.
    #[must_use]
    pub const fn open(number: u32, queued_since: Moment, now: Now) -> Self {
        Self {
            number,
            opened_at: now.wall,
            started_at: None,
            queued_since,
            executed: Duration::ZERO,
            has_slot: false,
            holders: 0,
            lost_leases: 0,
            releases: 0,
            foreign: None,
        }
    }

    /// When a worker began, or else when the attempt was opened.
    #[must_use]
    pub fn began_at(&self) -> Timestamp {
        self.started_at.unwrap_or(self.opened_at)
    }
}

/// How far an attempt is that a worker has, or has had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Progress {
    /// A worker has taken it from a broker.
    Started {
        /// The worker, where it has said so.
        worker: Option<WorkerId>,
        /// Since when its execution counts.
        since: Moment,
        /// Whether that is only inferred from what waits at the broker.
        inferred: bool,
    },
    /// A worker holds it.
    Leased {
        /// The hold.
        lease: Lease,
        /// When its execution has lasted too long.
        deadline: Moment,
    },
    /// QA has the output.
    Validating {
        /// The output.
        product: Product,
        /// When validation has lasted too long, where configured.
        deadline: Option<Moment>,
    },
    /// A person has the output.
    Reviewing {
        /// The output.
        product: Product,
        /// The review.
        review: ReviewId,
        /// When the review has lasted too long, where configured.
        deadline: Option<Moment>,
    },
}

/// A worker's hold on an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id: who renews or releases must name it.
    pub id: LeaseId,
    /// The holder.
    pub worker: WorkerId,
    /// Since when.
    pub since: Moment,
    /// Until when, unless renewed.
    pub until: Moment,
}

/// What an attempt produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its provenance record.
    pub record: RecordId,
    /// The artifact that verdicts name.
    pub artifact: ArtifactId,
    /// All artifacts of the output.
    pub artifacts: Vec<OutputArtifact>,
    /// The worker that sent it.
    pub sender: Holder,
    /// Artifacts of other outputs of the same attempt: verdicts on these are
    /// stale.
    pub late: Vec<ArtifactId>,
    /// Reviews of it besides the one under way.
    pub reviews: Vec<ReviewId>,
}

impl Product {
    /// Whether the output consists of this artifact, among others.
    #[must_use]
    pub(super) fn has_artifact(&self, artifact: &ArtifactId) -> bool {
        self.artifact == *artifact || self.artifacts.iter().any(|each| each.id == *artifact)
    }
}

/// An attempt that did not complete its task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedAttempt {
    /// From 1.
    pub number: u32,
    /// The tier it ran on.
    pub tier: Tier,
    /// When a worker began, or else when the attempt was opened. Copies of
    /// earlier formats have it under another name.
    #[serde(alias = "dispatched_at")]
    pub began_at: Timestamp,
    /// When it ended.
    pub closed_at: Timestamp,
    /// Why it ended.
    pub error: TaskError,
    /// Its record and the artifact, if it produced something.
    pub product: Option<(RecordId, ArtifactId)>,
    /// The ids of all its artifacts, late ones too: verdicts on them are stale.
    pub artifacts: Vec<ArtifactId>,
    /// The reviews of its output: what else comes of them is stale.
    pub reviews: Vec<ReviewId>,
}
