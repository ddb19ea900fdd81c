//! What is wrong with the fields of a document, within bounds: an answer about
//! it is small, whatever the document.

use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;

use super::quoted;

/// Most wrong fields that one answer lists; the others are not looked for.
pub const MAX_ERRORS: usize = 32;
/// Longest pointer of a wrong field, in bytes.
const MAX_POINTER_BYTES: usize = 256;
/// Longest message about a wrong field, in bytes.
const MAX_MESSAGE_BYTES: usize = 512;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field, as a JSON pointer into the body; for a query or a header,
    /// its name.
    pub pointer: String,
    /// What it was and what is allowed.
    pub message: String,
}

impl FieldError {
    /// Names a field and what is wrong with it; of long texts, which clients have
    /// chosen, both ends are kept.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: shortened(pointer.into(), MAX_POINTER_BYTES),
            message: shortened(message.into(), MAX_MESSAGE_BYTES),
        }
    }
}

/// A text of at most so many bytes, with an ellipsis in place of its middle.
fn shortened(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let half = most / 2 - "…".len();
    let (begin, end) = (text.floor_char_boundary(half), text.ceil_char_boundary(text.len() - half));
    format!("{}…{}", &text[..begin], &text[end..])
}

/// Collects what is wrong with the fields of a body, so that one answer can
/// name all of it.
#[derive(Debug, Default)]
pub struct Findings {
    errors: Vec<FieldError>,
}

impl Findings {
    /// Goes on from what was found before.
    #[must_use]
    pub fn from_errors(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MAX_ERRORS);
        Self { errors }
    }

    /// Something is wrong with a field. Only the first [`MAX_ERRORS`] are kept.
    pub fn add(&mut self, pointer: &str, message: impl Into<String>) {
        if !self.is_full() {
            self.errors.push(FieldError::new(pointer, message));
        }
    }

    /// Whether as much was found as is listed: there is no need to look further.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// A field that must be there; only missed when nothing is wrong with it.
    pub fn required<T>(&mut self, pointer: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.errors.iter().any(|error| error.pointer == pointer) {
            self.add(pointer, "is required");
        }
        value
    }

    /// A text that must have a form, such as an id.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, pointer: &str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(pointer, format!("{error}, was {}", quoted(text)));
                None
            }
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// What is wrong.
    #[must_use]
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_is_listed() {
        let mut found = Findings::default();
        for index in 0..100 {
            found.add(&format!("/{index}"), "is wrong");
        }
        assert!(found.is_full());
        assert_eq!(found.into_errors().len(), MAX_ERRORS);
    }

    #[test]
    fn long_texts_are_shortened_in_the_middle() {
        let error = FieldError::new(format!("/{}", "ä".repeat(1000)), format!("{}, was z", "é".repeat(1000)));
        assert!(error.pointer.len() <= MAX_POINTER_BYTES && error.message.len() <= MAX_MESSAGE_BYTES);
        assert!(error.pointer.starts_with("/ä") && error.pointer.contains('…'));
        assert!(error.message.ends_with("é, was z"), "{}", error.message);
        let exact = "x".repeat(MAX_POINTER_BYTES);
        assert_eq!(FieldError::new(exact.clone(), "").pointer, exact);
    }
}
