//! Taint events: entries of the audit trail, one for each artifact that a cascade affected.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::invalid::{Fault, Reason};
use super::time;
use crate::task::{ArtifactId, RecordId, Timestamp};

/// How an event changed a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// The record was tainted.
    Taint,
    /// The record became suspect.
    Suspect,
    /// The record was cleared.
    Clear,
    /// A suspect record was tainted.
    Escalate,
}

impl Action {
    /// Returns the word used in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taint => "taint",
            Self::Suspect => "suspect",
            Self::Clear => "clear",
            Self::Escalate => "escalate",
        }
    }

    fn read(word: &str) -> Option<Self> {
        [Self::Taint, Self::Suspect, Self::Clear, Self::Escalate].into_iter().find(|each| each.as_str() == word)
    }
}

/// A taint event of the old program.
#[derive(Debug, Clone, PartialEq)]
pub struct TaintEvent {
    /// Any text of 1 to 255 bytes.
    pub id: String,
    /// Time of the event, if the file has one.
    pub timestamp: Option<Timestamp>,
    /// The affected artifact.
    pub artifact: Option<ArtifactId>,
    /// The record of that artifact, if the file names it.
    pub record: Option<RecordId>,
    /// Free text.
    pub reason: String,
    /// The artifact or record that caused the event; empty if the file names none.
    pub source_artifact: String,
    /// The record that caused the event, if the file names it.
    pub source_record: Option<RecordId>,
    /// Distance from the tainted record, which has 0.
    pub cascade_depth: u64,
    /// The id shared by all events of one cascade; empty if the file names none.
    pub cascade: String,
    /// How the record was changed.
    pub action: Action,
    /// The parsed object, for an imported event.
    pub original: Option<Map<String, Value>>,
}

impl TaintEvent {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let text = |key| Ok::<_, Fault>(fields.text(key)?.unwrap_or_default().to_owned());
        let record = |key| Ok::<_, Fault>(fields.id(key)?.map(|id| RecordId::of_text(id.as_str())));
        let action = match fields.text("action")? {
            None => Action::Taint,
            Some(word) => {
                Action::read(word).ok_or_else(|| fields.fault("action", "must be taint, suspect, clear or escalate"))?
            }
        };
        Ok(Self {
            id: required_id(fields)?,
            timestamp: fields.time("timestamp")?,
            artifact: fields.id("artifact_id")?,
            record: record("provenance_id")?,
            reason: text("reason")?,
            source_artifact: text("source_artifact_id")?,
            source_record: record("source_provenance_id")?,
            cascade_depth: fields.count("cascade_depth")?.unwrap_or(0),
            cascade: fields.id("cascade_id")?.map_or_else(String::new, |id| id.to_string()),
            action,
            original: None,
        })
    }

    /// Renders the event in the old program's form: the original object or a new one. Events never
    /// change.
    #[must_use]
    pub fn to_json(&self) -> Value {
        if let Some(original) = &self.original {
            return Value::Object(original.clone());
        }
        let record = |id: Option<RecordId>| id.map_or_else(String::new, |id| id.to_string());
        json!({
            "id": self.id,
            "timestamp": self.timestamp.map(time::write),
            "artifact_id": self.artifact.as_ref().map_or("", ArtifactId::as_str),
            "provenance_id": record(self.record),
            "reason": self.reason,
            "source_artifact_id": self.source_artifact,
            "source_provenance_id": record(self.source_record),
            "cascade_depth": self.cascade_depth,
            "cascade_id": self.cascade,
            "action": self.action.as_str(),
        })
    }
}

/// Returns the required member `id`: a text of 1 to 255 bytes.
pub(super) fn required_id(fields: &Fields<'_>) -> Result<String, Fault> {
    let missing = || {
        let message = "is missing; must be a text of 1 to 255 bytes".to_owned();
        Fault { reason: Reason::MissingId, pointer: "/id".to_owned(), message }
    };
    fields.id("id")?.map(|id| id.as_str().to_owned()).ok_or_else(missing)
}
