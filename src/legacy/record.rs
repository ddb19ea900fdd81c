//! A provenance record in typed fields.

use serde_json::{Map, Value};

use super::digest::digest;
use crate::task::{ArtifactId, Domain, OutputArtifact, ProjectId, RecordId, RecordStatus, Tier, Timestamp};

/// One record. What the file does not tell, or leaves empty, is `None` or
/// empty here too.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id: the one that its name stands for.
    pub id: RecordId,
    /// Its id as it stands: a UUID, or any other text of at most 255 bytes.
    pub name: String,
    /// The task it is of: any text of at most 255 bytes; empty where unknown.
    pub task: String,
    /// The project it is of; `default` where the file names none.
    pub project: ProjectId,
    /// The verdict, without taint. `pending` where the file says no more than
    /// that the record is tainted or suspect.
    pub status: RecordStatus,
    /// The flags as the file has them, both of them at once if need be.
    pub taint: Taint,
    /// The model that made it.
    pub model: Option<String>,
    /// The worker that made it.
    pub worker: Option<String>,
    /// The tier it was made on. The old program knows none; our own files have it.
    pub tier: Option<Tier>,
    /// The kind of work. The old program knows none; our own files have it.
    pub domain: Option<Domain>,
    /// The attempt, from 1. The old program knows none; our own files have it.
    pub attempt: Option<u32>,
    /// The artifacts it produced, each once. Outputs that name no artifact
    /// are in `original` alone.
    pub outputs: Vec<OutputArtifact>,
    /// The artifacts it used, each once.
    pub inputs: Vec<Input>,
    /// From 0 to 1.
    pub confidence: Option<f64>,
    /// Tokens read.
    pub tokens_input: Option<u64>,
    /// Tokens written.
    pub tokens_output: Option<u64>,
    /// How long the work took, in milliseconds.
    pub execution_time_ms: Option<u64>,
    /// How the verdict came about.
    pub verification: Verification,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When the work began.
    pub started_at: Option<Timestamp>,
    /// When the work ended.
    pub completed_at: Option<Timestamp>,
    /// The object as it came, for an imported record.
    pub original: Option<Map<String, Value>>,
}

/// An artifact that a record used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Input {
    /// The artifact.
    pub artifact: ArtifactId,
    /// Whether it was consumed; else it was only referenced.
    pub consumed: bool,
}

/// How the verdict on a record came about.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verification {
    /// How it was validated.
    pub qa_profile: Option<String>,
    /// The validation, as the QA service names it.
    pub qa_result_id: Option<String>,
    /// When.
    pub verified_at: Option<Timestamp>,
    /// The model or the person.
    pub verified_by: Option<String>,
    /// What was said of it: usually an object, null for nothing.
    pub details: Value,
}

/// Whether a record is tainted or suspect, since when and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taint {
    /// It is bad.
    pub is_tainted: bool,
    /// Since when it is tainted.
    pub tainted_at: Option<Timestamp>,
    /// Why it is tainted.
    pub tainted_reason: Option<String>,
    /// The task, artifact or record that tainted it.
    pub tainted_by: Option<String>,
    /// It may be bad, since something it depends on is.
    pub is_suspect: bool,
    /// Since when it is suspect.
    pub suspect_since: Option<Timestamp>,
    /// The artifact or record that made it suspect.
    pub suspect_source: Option<String>,
}

impl Record {
    /// When it was made; where the file does not say so, when its work began
    /// or ended; where it says nothing at all, 1970, so that importing it
    /// again gives the same.
    #[must_use]
    pub fn made_at(&self) -> Timestamp {
        self.created_at.or(self.started_at).or(self.completed_at).unwrap_or_default()
    }

    /// What tells a changed file from an unchanged one: a hash over the object
    /// as it came.
    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.original.as_ref().map(digest)
    }
}
