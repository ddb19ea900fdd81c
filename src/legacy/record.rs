//! Provenance records.

use serde_json::{Map, Value};

use super::digest::digest;
use crate::task::{ArtifactId, Domain, OutputArtifact, ProjectId, RecordId, RecordStatus, Tier, Timestamp};

/// A provenance record. Members that are missing or empty in the file are `None` or empty here.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The id, derived from `name` if that is not a UUID.
    pub id: RecordId,
    /// The id as the file has it: a UUID or any other text of at most 255 bytes.
    pub name: String,
    /// The task: any text of at most 255 bytes; empty if unknown.
    pub task: String,
    /// The project; `default` if the file names none.
    pub project: ProjectId,
    /// The verdict without flags. `pending` if the file states only that the record is tainted or
    /// suspect.
    pub status: RecordStatus,
    /// The flags as the file has them; both may be set.
    pub taint: Taint,
    /// The model that produced the output.
    pub model: Option<String>,
    /// The worker that produced the output.
    pub worker: Option<String>,
    /// The tier of the work. Only files of this service have it.
    pub tier: Option<Tier>,
    /// The domain of the work. Only files of this service have it.
    pub domain: Option<Domain>,
    /// The attempt, counted from 1. Only files of this service have it.
    pub attempt: Option<u32>,
    /// The produced artifacts without duplicates. Outputs that name no artifact are only in
    /// `original`.
    pub outputs: Vec<OutputArtifact>,
    /// The used artifacts without duplicates.
    pub inputs: Vec<Input>,
    /// From 0 to 1.
    pub confidence: Option<f64>,
    /// Number of tokens read.
    pub tokens_input: Option<u64>,
    /// Number of tokens written.
    pub tokens_output: Option<u64>,
    /// Duration of the work in milliseconds.
    pub execution_time_ms: Option<u64>,
    /// How the verdict was reached.
    pub verification: Verification,
    /// Creation time, if the file has one; see [`Record::made_at`].
    pub created_at: Option<Timestamp>,
    /// Time when the work began.
    pub started_at: Option<Timestamp>,
    /// Time when the work ended.
    pub completed_at: Option<Timestamp>,
    /// The parsed object, for an imported record.
    pub original: Option<Map<String, Value>>,
}

/// An artifact that a record used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Input {
    /// The id of the artifact.
    pub artifact: ArtifactId,
    /// Whether the artifact was consumed; otherwise it was only referenced.
    pub consumed: bool,
}

/// How the verdict on a record was reached.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verification {
    /// The kind of validation.
    pub qa_profile: Option<String>,
    /// The id that the QA service gave to the validation.
    pub qa_result_id: Option<String>,
    /// Time of the verdict.
    pub verified_at: Option<Timestamp>,
    /// The model or the person that gave the verdict.
    pub verified_by: Option<String>,
    /// Usually an object; null for nothing.
    pub details: Value,
}

/// Whether a record is tainted or suspect, with times and reasons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taint {
    /// Whether the record is tainted.
    pub is_tainted: bool,
    /// Time of the taint.
    pub tainted_at: Option<Timestamp>,
    /// Reason of the taint.
    pub tainted_reason: Option<String>,
    /// The task, artifact or record that caused the taint.
    pub tainted_by: Option<String>,
    /// Whether the record is suspect, because a record that it depends on is tainted.
    pub is_suspect: bool,
    /// Time when the record became suspect.
    pub suspect_since: Option<Timestamp>,
    /// The artifact or record that made it suspect.
    pub suspect_source: Option<String>,
}

impl Record {
    /// Returns the creation time, or the time when the work began or ended, or 1970 if the file has
    /// none of them. The result is deterministic, so a repeated import gives the same record.
    #[must_use]
    pub fn made_at(&self) -> Timestamp {
        self.created_at.or(self.started_at).or(self.completed_at).unwrap_or_default()
    }

    /// Returns the hash of the original object, which tells a changed file from an unchanged one.
    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.original.as_ref().map(digest)
    }
}
