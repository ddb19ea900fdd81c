//! An attempt at a task: the worker that has it, its progress, and its output.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::TaskError;
use super::event::{Holder, OutputArtifact};
use super::id::{ArtifactId, LeaseId, RecordId, ReviewId, Tier, WorkerId};
use super::moment::{Moment, Now};
use super::time::Timestamp;

/// An open attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// When the attempt was opened: at its first lease, at its dispatch to a broker, or by an
    /// output.
    pub opened_at: Timestamp,
    /// When a worker first had the attempt, as far as is known.
    pub started_at: Option<Timestamp>,
    /// Since when the task had waited. This age is kept if the task has to wait again.
    pub queued_since: Moment,
    /// Execution time used by earlier leases of the attempt.
    pub executed: Duration,
    /// Whether the attempt holds a slot of its project.
    pub has_slot: bool,
    /// How many workers have held the attempt, one after the other.
    pub holders: u32,
    /// How many leases of the attempt have expired.
    pub lost_leases: u32,
    /// How often a worker has released the attempt.
    pub releases: u32,
    /// Outputs of workers that did not hold the attempt.
    pub foreign: Option<Box<ForeignOutput>>,
}

/// Outputs of workers that did not hold the attempt while another worker did. They are kept with
/// the attempt and never validated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignOutput {
    /// The record made for the first of these outputs.
    pub record: RecordId,
    /// Artifacts of all of them; the main artifact of the first output comes first.
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

    /// When a worker started, or else when the attempt was opened.
    #[must_use]
    pub fn began_at(&self) -> Timestamp {
        self.started_at.unwrap_or(self.opened_at)
    }
}

/// The progress of an attempt that a worker has or has had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Progress {
    /// A worker has taken the attempt from a broker.
    Started {
        /// The worker; `None` until it has sent its id.
        worker: Option<WorkerId>,
        /// Start of the execution time.
        since: Moment,
        /// Whether the start was only inferred from the depth of the broker's queue.
        inferred: bool,
    },
    /// A worker holds a lease.
    Leased {
        /// The worker's lease, which also names the worker.
        lease: Lease,
        /// When the execution time is used up.
        deadline: Moment,
    },
    /// The QA service has the output.
    Validating {
        /// The output.
        product: Product,
        /// When the validation times out; `None` if no timeout is configured.
        deadline: Option<Moment>,
    },
    /// A reviewer has the output.
    Reviewing {
        /// The output.
        product: Product,
        /// The review in progress.
        review: ReviewId,
        /// When the review times out; `None` if no timeout is configured.
        deadline: Option<Moment>,
    },
}

/// A worker's lease on an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Id that renewals and releases must name.
    pub id: LeaseId,
    /// The worker that holds the lease.
    pub worker: WorkerId,
    /// When the lease was granted.
    pub since: Moment,
    /// When the lease expires unless it is renewed.
    pub until: Moment,
}

/// The output of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// The provenance record of the output.
    pub record: RecordId,
    /// The artifact that verdicts name.
    pub artifact: ArtifactId,
    /// All artifacts of the output.
    pub artifacts: Vec<OutputArtifact>,
    /// The worker that sent the output.
    pub sender: Holder,
    /// Artifacts of later outputs of the same attempt. Verdicts on them are stale.
    pub late: Vec<ArtifactId>,
    /// Earlier reviews of the output, without the one in progress.
    pub reviews: Vec<ReviewId>,
}

impl Product {
    /// Whether the artifact is part of the output.
    #[must_use]
    pub(super) fn has_artifact(&self, artifact: &ArtifactId) -> bool {
        self.artifact == *artifact || self.artifacts.iter().any(|each| each.id == *artifact)
    }
}

/// An attempt that ended without completing its task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedAttempt {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// The tier on which it ran.
    pub tier: Tier,
    /// When a worker started, or else when the attempt was opened. Copies in earlier formats use
    /// another name.
    #[serde(alias = "dispatched_at")]
    pub began_at: Timestamp,
    /// When the attempt was closed.
    pub closed_at: Timestamp,
    /// Why the attempt was closed.
    pub error: TaskError,
    /// Record and main artifact of its output, if it has one.
    pub product: Option<(RecordId, ArtifactId)>,
    /// Ids of all its artifacts, late ones included. Verdicts on them are stale.
    pub artifacts: Vec<ArtifactId>,
    /// Reviews of its output. Further events of these reviews are stale.
    pub reviews: Vec<ReviewId>,
}
