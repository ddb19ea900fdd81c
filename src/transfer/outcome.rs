//! The result of each line of an import, and the summary.

use std::borrow::Cow;

use serde::Serialize;

use crate::engine::{ImportOutcome, ImportRefusal, ImportResult};
use crate::legacy::{Invalid, Kind};
use crate::task::RecordId;

/// Maximum number of records named in one result; further ones are only counted.
const MAX_NAMED: usize = 1000;

/// The result of a line, as a line of the answer.
#[derive(Debug, Serialize)]
pub(super) struct LineResult<'a> {
    line: u64,
    kind: Option<&'static str>,
    id: Option<&'a str>,
    /// The id of the local record, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance_id: Option<RecordId>,
    outcome: &'static str,
    #[serde(flatten)]
    refusal: Option<RefusalWire<'a>>,
    #[serde(flatten)]
    newly_suspect: Option<NewlySuspect<'a>>,
}

#[derive(Debug, Serialize)]
struct RefusalWire<'a> {
    /// A code for the reason.
    reason: &'static str,
    message: Cow<'a, str>,
    /// Offset in the line in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cycle: &'a [RecordId],
}

#[derive(Debug, Serialize)]
struct NewlySuspect<'a> {
    newly_suspect: &'a [RecordId],
    newly_suspect_count: usize,
}

/// The summary of an import.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    /// Lines that were not empty.
    pub(super) lines: u64,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) unchanged: u64,
    pub(super) refused: u64,
    /// Records that are suspect by the rule although their lines do not say so. `None`, here and
    /// below, if there were too many to check.
    pub(super) newly_suspect: Option<u64>,
    /// Records that their lines call suspect and that are not suspect by the rule.
    pub(super) no_longer_suspect: Option<u64>,
}

impl Summary {
    pub(super) const fn add(&mut self, outcome: &ImportOutcome) {
        let count = match outcome {
            ImportOutcome::Created => &mut self.created,
            ImportOutcome::Updated => &mut self.updated,
            ImportOutcome::Unchanged => &mut self.unchanged,
            ImportOutcome::Refused(_) => &mut self.refused,
        };
        *count += 1;
    }
}

impl<'a> LineResult<'a> {
    /// The result of a line that could not be parsed.
    pub(super) fn invalid(line: u64, invalid: &'a Invalid) -> Self {
        let field = if invalid.pointer.is_empty() { String::new() } else { format!("{} ", invalid.pointer) };
        let message = format!("{field}{}", invalid.message).into();
        let (reason, offset) = (invalid.reason.as_str(), Some(invalid.offset));
        Self::refused((line, None, None), RefusalWire { reason, message, offset, cycle: &[] })
    }

    /// The result of a line that was parsed and can't be imported.
    pub(super) fn unusable(line: u64, reason: &'static str, message: impl Into<Cow<'a, str>>) -> Self {
        Self::refused((line, None, None), RefusalWire { reason, message: message.into(), offset: None, cycle: &[] })
    }

    /// The result that the engine reported.
    pub(super) fn new(
        (line, kind, id): (u64, Kind, &'a str),
        provenance_id: Option<RecordId>,
        result: &'a ImportResult,
    ) -> Self {
        let about = (line, Some(kind.as_str()), Some(id));
        let outcome = match &result.outcome {
            ImportOutcome::Created => "created",
            ImportOutcome::Updated => "updated",
            ImportOutcome::Unchanged => "unchanged",
            ImportOutcome::Refused(refusal) => return Self::refused(about, RefusalWire::of(refusal)),
        };
        let newly_suspect = &result.newly_suspect;
        let newly_suspect = (!newly_suspect.is_empty()).then(|| NewlySuspect {
            newly_suspect: newly_suspect.get(..MAX_NAMED).unwrap_or(newly_suspect),
            newly_suspect_count: newly_suspect.len(),
        });
        let (line, kind, id) = about;
        Self { line, kind, id, provenance_id, outcome, refusal: None, newly_suspect }
    }

    fn refused((line, kind, id): (u64, Option<&'static str>, Option<&'a str>), refusal: RefusalWire<'a>) -> Self {
        let refusal = Some(refusal);
        Self { line, kind, id, provenance_id: None, outcome: "refused", refusal, newly_suspect: None }
    }
}

impl<'a> RefusalWire<'a> {
    fn of(refusal: &'a ImportRefusal) -> Self {
        let (reason, cycle): (_, &[RecordId]) = match refusal {
            ImportRefusal::Cycle(cycle) => ("cycle", cycle),
            ImportRefusal::MadeHere(_) => ("made_here", &[]),
            ImportRefusal::OtherEvent(_) => ("other_event", &[]),
            ImportRefusal::OtherCheckpoint(_) => ("other_checkpoint", &[]),
            ImportRefusal::TooManyProjects(_) => ("too_many_projects", &[]),
            ImportRefusal::NoOrigin => ("no_origin", &[]),
        };
        Self { reason, message: refusal.to_string().into(), offset: None, cycle }
    }
}
