//! Lines of the answer to an import, as JSON text.

use serde::Serialize;
use serde_json::json;

use super::outcome::LineResult;
use crate::engine::Error;

/// Results in the order of their lines.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<(u64, Vec<u8>)>);

impl Answers {
    pub(super) fn add(&mut self, number: u64, result: &LineResult<'_>) {
        let mut text = Vec::with_capacity(128);
        write(&mut text, result);
        self.0.push((number, text));
    }

    pub(super) fn text(mut self) -> Vec<u8> {
        self.0.sort_by_key(|(number, _)| *number);
        self.0.into_iter().flat_map(|(_, text)| text).collect()
    }
}

/// Renders the error that ends an import, as its last line.
pub(super) fn failure(error: &Error) -> Vec<u8> {
    let code = match error {
        Error::NotOwner => "not_owner",
        Error::ShuttingDown => "shutting_down",
        Error::DiskFull { .. } => "storage_full",
        Error::Unknown => "outcome_unknown",
        Error::Store(error) if error.is_no_room() => "storage_full",
        Error::Refused(_) | Error::Overloaded | Error::Store(_) => "internal",
    };
    error_line(code, &error.to_string())
}

pub(super) fn error_line(code: &str, detail: &str) -> Vec<u8> {
    let mut text = Vec::new();
    write(&mut text, &json!({ "error": {"code": code, "detail": detail} }));
    text
}

pub(super) fn write(text: &mut Vec<u8>, line: &impl Serialize) {
    // Writing to memory is infallible, and all keys are text.
    let _ = serde_json::to_writer(&mut *text, line);
    text.push(b'\n');
}
