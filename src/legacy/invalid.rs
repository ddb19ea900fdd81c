//! Faults in files and lines of the old program.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::json;

/// Why a file, a line or an element can't be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// The kind of fault.
    pub reason: Reason,
    /// Offset from the beginning of the file or line in bytes.
    pub offset: u64,
    /// JSON pointer of the field; empty for the whole object.
    pub pointer: String,
    /// The value found and the values allowed.
    pub message: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.offset)?;
        if !self.pointer.is_empty() {
            write!(f, "{} ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

impl Invalid {
    /// Creates a fault of the whole text.
    pub(super) fn new(reason: Reason, offset: usize, message: impl Into<String>) -> Self {
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        Self { reason, offset, pointer: String::new(), message: message.into() }
    }

    /// Moves the fault by `offset` bytes, for a text that is part of a file.
    #[must_use]
    pub fn behind(mut self, bytes: u64) -> Self {
        self.offset = self.offset.saturating_add(bytes);
        self
    }
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The text is empty.
    Empty,
    /// The text ends early.
    Truncated,
    /// The text is not JSON.
    NotJson,
    /// The text is JSON but not an object.
    NotObject,
    /// The text exceeds the size limit.
    TooLarge,
    /// The nesting exceeds the depth limit.
    TooDeep,
    /// A field has a value that is not allowed.
    BadValue,
    /// The object has no id.
    MissingId,
    /// A text contains the character U+0000.
    Nul,
    /// Another object in the same folder has the same id.
    Duplicate,
    /// The file can't be read.
    Unreadable,
}

impl Reason {
    /// Returns the code used in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::NotJson => "not_json",
            Self::NotObject => "not_an_object",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::BadValue => "bad_value",
            Self::MissingId => "missing_id",
            Self::Nul => "nul",
            Self::Duplicate => "duplicate",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A fault of a parsed object whose offset in the text is not known yet.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) pointer: String,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn value(pointer: String, message: impl Into<String>) -> Self {
        Self { reason: Reason::BadValue, pointer, message: message.into() }
    }

    pub(super) fn in_text(self, raw: &[u8]) -> Invalid {
        let offset = locate(raw, &self.pointer);
        Invalid { pointer: self.pointer, ..Invalid::new(self.reason, offset, self.message) }
    }
}

/// Formats a value for a message.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => json::quoted(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Returns the offset of the value at a JSON pointer, or of its nearest existing parent. The text
/// must be JSON.
fn locate(raw: &[u8], pointer: &str) -> usize {
    let Ok(mut place) = serde_json::from_slice::<&RawValue>(raw) else { return 0 };
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match member(place.get(), &part) {
            Some(inner) => place = inner,
            None => break,
        }
    }
    place.get().as_ptr().addr().saturating_sub(raw.as_ptr().addr())
}

fn member<'a>(text: &'a str, part: &str) -> Option<&'a RawValue> {
    if text.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        return items.get(part.parse::<usize>().ok()?).copied();
    }
    let members: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    members.get(part).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_their_text() {
        let raw = br#" {"a": 1, "b/c": {"d": [10, {"e": "x"}]}}"#;
        let at = |text: &str| raw.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        assert_eq!(locate(raw, ""), 1);
        assert_eq!(locate(raw, "/a"), at("1,"));
        assert_eq!(locate(raw, "/b~1c/d/1/e"), at("\"x\""));
        assert_eq!(locate(raw, "/b~1c/missing"), at("{\"d\""));
        assert_eq!(locate(raw, "/a/b"), at("1,"));
    }
}
