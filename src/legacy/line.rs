//! One object of the old program: a record, a taint event or a checkpoint.

use serde_json::{Map, Value};

use super::checkpoint::Checkpoint;
use super::event::TaintEvent;
use super::fields::Fields;
use super::invalid::{Fault, Invalid, Reason, describe};
use super::record::Record;
use crate::json;
use crate::task::RecordId;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Maximum size of one object in bytes, some thousand times that of a usual record.
pub const MAX_LINE_BYTES: usize = 4 << 20;

/// Kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A provenance record.
    Record,
    /// An entry of the taint audit trail.
    TaintEvent,
    /// A checkpoint of a project.
    Checkpoint,
}

impl Kind {
    /// Returns the word used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::TaintEvent => "taint_event",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A parsed object.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A provenance record.
    Record(Box<Record>),
    /// An entry of the taint audit trail.
    TaintEvent(Box<TaintEvent>),
    /// A checkpoint of a project.
    Checkpoint(Box<Checkpoint>),
}

impl Line {
    /// Parses one JSON object.
    pub fn parse(raw: &[u8]) -> Result<Self, Invalid> {
        let object = parse_object(raw)?;
        Self::from_object(object).map_err(|fault| fault.in_text(raw))
    }

    fn from_object(object: Map<String, Value>) -> Result<Self, Fault> {
        let kind = kind(&object);
        let fields = Fields::new(&object);
        Ok(match kind {
            Kind::Record => {
                let record = Record::read(&fields)?;
                // Any object can have an id; without other members of a record, only a UUID
                // identifies one.
                if !has(&object, &OF_RECORDS) && record.name.parse::<RecordId>().is_err() {
                    return Err(fields.fault("id", "must be a UUID where nothing else tells a record"));
                }
                Self::Record(Box::new(Record { original: Some(object), ..record }))
            }
            Kind::TaintEvent => {
                let event = TaintEvent::read(&fields)?;
                Self::TaintEvent(Box::new(TaintEvent { original: Some(object), ..event }))
            }
            Kind::Checkpoint => {
                let checkpoint = Checkpoint::read(&fields)?;
                Self::Checkpoint(Box::new(Checkpoint { original: Some(object), ..checkpoint }))
            }
        })
    }

    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Record(_) => Kind::Record,
            Self::TaintEvent(_) => Kind::TaintEvent,
            Self::Checkpoint(_) => Kind::Checkpoint,
        }
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Record(record) => record.name.clone(),
            Self::TaintEvent(event) => event.id.clone(),
            Self::Checkpoint(checkpoint) => checkpoint.id.clone(),
        }
    }

    /// Returns the parsed object.
    #[must_use]
    pub fn original(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Record(record) => record.original.as_ref(),
            Self::TaintEvent(event) => event.original.as_ref(),
            Self::Checkpoint(checkpoint) => checkpoint.original.as_ref(),
        }
    }
}

/// Parses a text as one object and checks all limits.
fn parse_object(raw: &[u8]) -> Result<Map<String, Value>, Invalid> {
    if raw.len() > MAX_LINE_BYTES {
        let message = format!("must be at most {MAX_LINE_BYTES} bytes, was {}", raw.len());
        return Err(Invalid::new(Reason::TooLarge, MAX_LINE_BYTES, message));
    }
    if raw.trim_ascii().is_empty() {
        return Err(Invalid::new(Reason::Empty, 0, "there is nothing; must be a JSON object"));
    }
    if raw.starts_with(BYTE_ORDER_MARK) {
        let message = "begins with a byte order mark (U+FEFF); must be a JSON object in UTF-8 without one";
        return Err(Invalid::new(Reason::NotJson, 0, message));
    }
    if let Err(error) = std::str::from_utf8(raw) {
        let reason = if error.error_len().is_none() { Reason::Truncated } else { Reason::NotJson };
        return Err(Invalid::new(reason, error.valid_up_to(), "is not UTF-8; must be a JSON object"));
    }
    if let Some(at) = json::find_too_deep(raw) {
        let message = format!("must not be nested deeper than {} levels", json::MAX_DEPTH);
        return Err(Invalid::new(Reason::TooDeep, at, message));
    }
    let value: Value = serde_json::from_slice(raw).map_err(|error| not_json(raw, &error))?;
    let Value::Object(object) = value else {
        let message = format!("must be a JSON object, was {}", describe(&value));
        return Err(Invalid::new(Reason::NotObject, leading_space(raw), message));
    };
    check_values(raw)?;
    check_keys(raw)?;
    Ok(object)
}

fn not_json(raw: &[u8], error: &serde_json::Error) -> Invalid {
    if error.is_eof() {
        return Invalid::new(Reason::Truncated, raw.len(), "ends in the middle of a JSON value");
    }
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    let before = raw.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    let offset = before.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1);
    let message = message.replace("expected ident", "expected true, false or null");
    let was = raw.get(offset..).map(String::from_utf8_lossy).and_then(|rest| rest.chars().next());
    let was = was.map_or_else(String::new, |found| format!(", was {found:?}"));
    Invalid::new(Reason::NotJson, offset.min(raw.len()), format!("is not JSON: {message}{was}"))
}

/// Refuses values that JSON allows and the store can't keep.
fn check_values(raw: &[u8]) -> Result<(), Invalid> {
    if let Some((at, number)) = json::find_oversized_integer(raw) {
        let number: String = number.chars().take(40).collect();
        return Err(Invalid::new(Reason::BadValue, at, format!("{}, was {number}", json::allowed_integers())));
    }
    match find_nul(raw) {
        Some(at) => Err(Invalid::new(Reason::Nul, at, "a text must not contain the character U+0000")),
        None => Ok(()),
    }
}

/// Refuses duplicate keys, because it is ambiguous which value counts.
fn check_keys(raw: &[u8]) -> Result<(), Invalid> {
    match json::find_duplicate_keys(raw).into_iter().next() {
        Some(doubled) => {
            let message = doubled.to_string();
            Err(Invalid { pointer: doubled.pointer, ..Invalid::new(Reason::BadValue, doubled.at, message) })
        }
        None => Ok(()),
    }
}

/// Returns the offset of an escaped U+0000. The text must be JSON.
fn find_nul(raw: &[u8]) -> Option<usize> {
    let escapes = memchr::memmem::find_iter(raw, br"\u0000");
    // `\\u0000` with an escaped backslash is not an escape of U+0000.
    escapes.into_iter().find(|at| raw.iter().take(*at).rev().take_while(|byte| **byte == b'\\').count() % 2 == 0)
}

fn leading_space(raw: &[u8]) -> usize {
    raw.len() - raw.trim_ascii_start().len()
}

/// Members that only records have.
const OF_RECORDS: [&str; 6] = ["task_id", "outputs", "inputs", "execution", "verification", "verification_status"];
/// Members that only taint events have.
const OF_EVENTS: [&str; 3] = ["cascade_depth", "source_artifact_id", "source_provenance_id"];
/// Members that only checkpoints have.
const OF_CHECKPOINTS: [&str; 4] = ["trigger", "provenance_count", "last_provenance_id", "git_ref"];

/// Determines the kind of an object from its members.
fn kind(object: &Map<String, Value>) -> Kind {
    let has = |keys: &[&str]| has(object, keys);
    if has(&OF_RECORDS) {
        Kind::Record
    } else if has(&["action"]) && has(&["cascade_id", "artifact_id"]) || has(&OF_EVENTS) {
        Kind::TaintEvent
    } else if has(&OF_CHECKPOINTS) {
        Kind::Checkpoint
    } else {
        Kind::Record
    }
}

fn has(object: &Map<String, Value>, keys: &[&str]) -> bool {
    keys.iter().any(|key| object.contains_key(*key))
}
