//! Dead letters: messages that could not be taken, as they are listed.

use serde::Deserialize;

use crate::store::DeadLetter;
use crate::task::{TaskId, Timestamp};

/// Filter for dead letters. A letter must match every field that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Letters whose reason contains this text, ignoring case.
    pub reason: Option<String>,
    /// Letters with an event of this type, with or without the prefix `dats.`.
    pub kind: Option<String>,
    /// Letters with an event of this source.
    pub source: Option<String>,
    /// Letters that name this task.
    pub task: Option<TaskId>,
    /// Letters received at this time or later.
    pub created_after: Option<Timestamp>,
    /// Letters received before this time.
    pub created_before: Option<Timestamp>,
}

impl DeadLetterFilter {
    /// Returns whether no field is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether a letter matches every field that is set.
    pub(in crate::engine) fn matches(&self, letter: &DeadLetter) -> bool {
        let has_reason = |wanted: &String| letter.reason.to_lowercase().contains(&wanted.to_lowercase());
        let matches_fields = self.reason.as_ref().is_none_or(has_reason)
            && self.task.is_none_or(|task| letter.task == Some(task))
            && self.created_after.is_none_or(|after| letter.at >= after)
            && self.created_before.is_none_or(|before| letter.at < before);
        if !matches_fields || self.kind.is_none() && self.source.is_none() {
            return matches_fields;
        }
        let head = DeadLetterHead::of(&letter.raw);
        let bare = |kind: &str| kind.strip_prefix("dats.").unwrap_or(kind).to_owned();
        let has_kind = |wanted: &String| head.kind.as_deref().is_some_and(|kind| bare(kind) == bare(wanted));
        self.kind.as_ref().is_none_or(has_kind)
            && self.source.as_ref().is_none_or(|source| head.source.as_ref() == Some(source))
    }
}

/// Type and source of the event in a dead letter, as far as they can be parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterHead {
    /// The `CloudEvents` type.
    pub kind: Option<String>,
    /// The `CloudEvents` source.
    pub source: Option<String>,
}

impl DeadLetterHead {
    /// Parses the head of a message. Both fields are `None` unless it is a JSON object.
    #[must_use]
    pub fn of(raw: &str) -> Self {
        /// A value of another type than text counts as absent.
        #[derive(Deserialize)]
        struct Wire {
            #[serde(rename = "type")]
            kind: Option<serde_json::Value>,
            source: Option<serde_json::Value>,
        }
        let text = |value: Option<serde_json::Value>| match value {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        let Ok(wire) = serde_json::from_str::<Wire>(raw) else { return Self::default() };
        Self { kind: text(wire.kind), source: text(wire.source) }
    }
}

/// A page of dead letters, newest first.
#[derive(Debug, Clone)]
pub struct DeadLetterPage {
    /// The letters, each with its number.
    pub entries: Vec<(u64, DeadLetter)>,
    /// The next page holds the letters before this number.
    pub next: Option<u64>,
    /// Whether the page ends before its limit, because it is full of bytes or
    /// because the search stopped before it had looked at every letter.
    pub truncated: bool,
}

/// Figures of the dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadLetterCounts {
    /// Number of letters.
    pub kept: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// Number of letters removed since the start, in the order of
    /// [`DeadLetterEnd::ALL`](crate::store::DeadLetterEnd::ALL).
    pub ended: [u64; 3],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(reason: &str, raw: &str, at: i64) -> DeadLetter {
        DeadLetter { at: Timestamp::from_micros(at), task: None, reason: reason.to_owned(), raw: raw.to_owned() }
    }

    #[test]
    fn every_field_narrows() {
        let event = letter("Not JSON at all", r#"{"type":"dats.task.validated","source":"/qa","data":{"a":[1]}}"#, 5);
        let filter = DeadLetterFilter::default();
        assert!(filter.is_empty() && filter.matches(&event));
        let reason = |text: &str| DeadLetterFilter { reason: Some(text.to_owned()), ..DeadLetterFilter::default() };
        assert!(reason("json").matches(&event) && !reason("xml").matches(&event));
        let kind = |text: &str| DeadLetterFilter { kind: Some(text.to_owned()), ..DeadLetterFilter::default() };
        assert!(kind("task.validated").matches(&event) && kind("dats.task.validated").matches(&event));
        assert!(!kind("task.rejected").matches(&event) && !kind("task.validated").matches(&letter("x", "garbage", 5)));
        let source = |text: &str| DeadLetterFilter { source: Some(text.to_owned()), ..DeadLetterFilter::default() };
        assert!(source("/qa").matches(&event) && !source("qa").matches(&event));
        let at = |micros| Some(Timestamp::from_micros(micros));
        let age = |after, before| DeadLetterFilter { created_after: after, created_before: before, ..filter.clone() };
        assert!(age(at(5), at(6)).matches(&event));
        assert!(!age(at(6), None).matches(&event) && !age(None, at(5)).matches(&event));
    }

    #[test]
    fn a_head_that_is_no_text_is_none() {
        assert_eq!(DeadLetterHead::of(r#"{"type":7,"source":null}"#), DeadLetterHead::default());
        assert_eq!(DeadLetterHead::of("[]"), DeadLetterHead::default());
        assert_eq!(DeadLetterHead::of(r#"{"type":"t"}"#).kind.as_deref(), Some("t"));
    }
}
