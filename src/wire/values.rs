//! The encoding of the values of a status answer in few bytes, so that a
//! million answers fit into memory.
//!
//! A value is JSON text. Its first byte tells how it is encoded; no JSON text
//! begins with one of these:
//!
//! * 0x80 and above: the token with this number, without further bytes;
//! * 0x01: a time, in eight bytes; 0x02: an id, in sixteen;
//! * 0x03: the number of a run of tokens ([`super::token_runs`]), in two bytes;
//! * 0x1f: the empty text;
//! * anything else: the text itself, up to a byte 0x1f, which JSON text can't
//!   contain.

use serde::Serialize;

use super::time::Time;
use super::token_runs::{self, Run};
use crate::task::Timestamp;

const END: u8 = 0x1f;
const TIME: u8 = 0x01;
const ID: u8 = 0x02;
const RUN: u8 = 0x03;
const FIRST_TOKEN: u8 = 0x80;

/// Texts that many answers contain. The order is free: token numbers are never stored on disk.
const TOKENS: [&[u8]; 60] = [
    b"null",
    b"[]",
    b"{}",
    b"true",
    b"false",
    b"\"pending\"",
    b"\"running\"",
    b"\"completed\"",
    b"\"failed\"",
    b"\"cancelled\"",
    b"\"scheduled\"",
    b"\"blocked\"",
    b"\"analyzing\"",
    b"\"queued\"",
    b"\"backoff\"",
    b"\"dispatched\"",
    b"\"leased\"",
    b"\"validating\"",
    b"\"reviewing\"",
    b"\"children\"",
    b"\"low\"",
    b"\"normal\"",
    b"\"high\"",
    b"\"autonomous\"",
    b"\"collaborative\"",
    b"\"cancel\"",
    b"\"continue\"",
    b"\"default\"",
    b"\"tiny\"",
    b"\"small\"",
    b"\"large\"",
    b"\"coding\"",
    b"\"frontier\"",
    b"\"code-general\"",
    b"\"code-vision\"",
    b"\"code-embedded\"",
    b"\"code-mobile\"",
    b"\"documentation\"",
    b"\"ui-design\"",
    b"\"architecture\"",
    b"\"analysis\"",
    b"\"consensus\"",
    b"\"strict\"",
    b"\"adversarial\"",
    b"\"security\"",
    b"\"testing\"",
    b"\"human\"",
    b"\"none\"",
    b"\"new_project\"",
    b"\"modify\"",
    b"\"fix_bug\"",
    b"\"refactor\"",
    b"\"unknown\"",
    b"0",
    b"1",
    b"2",
    b"3",
    b"300",
    b"600",
    b"3600",
];
const NULL: u8 = FIRST_TOKEN;
const EMPTY_LIST: u8 = FIRST_TOKEN + 1;
const EMPTY_OBJECT: u8 = FIRST_TOKEN + 2;
const TRUE: u8 = FIRST_TOKEN + 3;
const FALSE: u8 = FIRST_TOKEN + 4;
/// The tokens that are quoted words.
const QUOTED: std::ops::Range<usize> = 5..53;
/// The tokens that are numbers.
const NUMBERS: std::ops::Range<usize> = 53..60;

/// Encodes values, one after the other.
#[derive(Debug, Default)]
pub(super) struct ValueWriter(Vec<u8>);

impl ValueWriter {
    /// Returns a writer that appends to `head`.
    pub(super) fn append_to(head: Vec<u8>) -> Self {
        Self(head)
    }

    pub(super) fn into_bytes(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }

    /// Appends values that are encoded already.
    pub(super) fn push_encoded(&mut self, values: &[u8]) {
        self.0.extend_from_slice(values);
    }

    pub(super) fn push_json(&mut self, value: &(impl Serialize + ?Sized)) {
        // Serialization fails only for maps whose keys are not text, and the values have none.
        let _ = serde_json::to_writer(&mut self.0, value);
        self.0.push(END);
    }

    /// Appends JSON text, or the empty text.
    pub(super) fn push_text(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
        self.0.push(END);
    }

    /// Appends a string that needs no escaping, as a token if there is one.
    pub(super) fn push_word(&mut self, word: &str) {
        let is_token =
            |token: &&[u8]| token.len() == word.len() + 2 && token.get(1..=word.len()) == Some(word.as_bytes());
        if let Some(place) = TOKENS.get(QUOTED).and_then(|tokens| tokens.iter().position(is_token)) {
            self.0.push(code(QUOTED.start + place));
        } else {
            self.0.push(b'"');
            self.0.extend_from_slice(word.as_bytes());
            self.0.extend_from_slice(&[b'"', END]);
        }
    }

    /// Appends a string that needs no escaping, or null.
    pub(super) fn push_optional_word(&mut self, word: Option<&str>) {
        match word {
            Some(word) => self.push_word(word),
            None => self.push_null(),
        }
    }

    pub(super) fn push_bool(&mut self, value: bool) {
        self.0.push(if value { TRUE } else { FALSE });
    }

    pub(super) fn push_number(&mut self, value: u64) {
        let start = self.0.len();
        write_display(&mut self.0, &value);
        let text = self.0.get(start..).unwrap_or_default();
        match TOKENS.get(NUMBERS).and_then(|tokens| tokens.iter().position(|token| *token == text)) {
            Some(place) => {
                self.0.truncate(start);
                self.0.push(code(NUMBERS.start + place));
            }
            None => self.0.push(END),
        }
    }

    pub(super) fn push_null(&mut self) {
        self.0.push(NULL);
    }

    pub(super) fn push_empty_list(&mut self) {
        self.0.push(EMPTY_LIST);
    }

    pub(super) fn push_empty_object(&mut self) {
        self.0.push(EMPTY_OBJECT);
    }

    /// Appends the number of a run of tokens.
    pub(super) fn push_run(&mut self, number: u16) {
        self.0.push(RUN);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Appends a time, or null.
    pub(super) fn push_time(&mut self, time: Option<Time>) {
        match time {
            Some(Time(time)) => {
                self.0.push(TIME);
                self.0.extend_from_slice(&time.as_micros().to_le_bytes());
            }
            None => self.push_null(),
        }
    }

    /// Appends a UUID, or null.
    pub(super) fn push_id(&mut self, id: Option<[u8; 16]>) {
        match id {
            Some(id) => {
                self.0.push(ID);
                self.0.extend_from_slice(&id);
            }
            None => self.push_null(),
        }
    }
}

/// Returns the text of a token.
pub(super) fn token_text(code: u8) -> &'static [u8] {
    code.checked_sub(FIRST_TOKEN).and_then(|place| TOKENS.get(usize::from(place)).copied()).unwrap_or_default()
}

/// Returns the encoded form of the token at `place` in [`TOKENS`].
fn code(place: usize) -> u8 {
    u8::try_from(place).unwrap_or(0).saturating_add(FIRST_TOKEN)
}

pub(super) fn write_display(buffer: &mut Vec<u8>, value: &impl std::fmt::Display) {
    use std::io::Write;
    // Writing to a vector does not fail.
    let _ = write!(buffer, "{value}");
}

/// A decoded value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// JSON text.
    Text(&'a [u8]),
    Time(Timestamp),
    Id([u8; 16]),
    /// Several values with their keys.
    Run(&'static Run),
}

impl Value<'_> {
    /// Appends the JSON text of the value.
    pub(super) fn write(self, body: &mut Vec<u8>) {
        match self {
            Value::Text(text) => body.extend_from_slice(text),
            Value::Time(time) => {
                body.push(b'"');
                body.extend_from_slice(time.to_text(&mut [0; Timestamp::TEXT_BYTES]).as_bytes());
                body.push(b'"');
            }
            Value::Id(id) => {
                body.push(b'"');
                let uuid = uuid::Uuid::from_bytes(id).hyphenated();
                body.extend_from_slice(uuid.encode_lower(&mut [0; 36]).as_bytes());
                body.push(b'"');
            }
            Value::Run(run) => body.extend_from_slice(&run.text),
        }
    }
}

/// Decodes values, one after the other.
#[derive(Debug)]
pub(super) struct ValueReader<'a>(pub(super) &'a [u8]);

impl<'a> ValueReader<'a> {
    /// Returns the tokens that come next, at most `max` of them, without passing them.
    pub(super) fn peek_tokens(&self, max: usize) -> &'a [u8] {
        let count = self.0.iter().take(max).take_while(|byte| **byte >= FIRST_TOKEN).count();
        self.0.split_at(count).0
    }

    /// Skips `count` tokens.
    pub(super) fn skip_tokens(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    /// Returns the next value in its encoded form.
    pub(super) fn next_encoded(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.next()?;
        before.get(..before.len() - self.0.len())
    }
}

impl<'a> Iterator for ValueReader<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        let (&first, rest) = self.0.split_first()?;
        if let Some(place) = first.checked_sub(FIRST_TOKEN) {
            self.0 = rest;
            return TOKENS.get(usize::from(place)).map(|token| Value::Text(token));
        }
        match first {
            TIME => {
                let (micros, rest) = rest.split_first_chunk()?;
                self.0 = rest;
                Some(Value::Time(Timestamp::from_micros(i64::from_le_bytes(*micros))))
            }
            ID => {
                let (id, rest) = rest.split_first_chunk()?;
                self.0 = rest;
                Some(Value::Id(*id))
            }
            RUN => {
                let (number, rest) = rest.split_first_chunk()?;
                self.0 = rest;
                token_runs::get(u16::from_le_bytes(*number)).map(Value::Run)
            }
            _ => {
                let end = memchr::memchr(END, self.0)?;
                let (text, rest) = self.0.split_at(end);
                self.0 = rest.get(1..).unwrap_or_default();
                Some(Value::Text(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskId;

    fn texts(values: ValueWriter) -> Vec<String> {
        let bytes = values.into_bytes();
        let written = |value: Value<'_>| {
            let mut text = Vec::new();
            value.write(&mut text);
            String::from_utf8(text).unwrap()
        };
        ValueReader(&bytes).map(written).collect()
    }

    #[test]
    fn every_value_comes_back_as_its_json_text() {
        let mut values = ValueWriter::default();
        let time = Timestamp::from_micros(1_795_000_000_123_400);
        let id = TaskId::from_bytes([0x80; 16]);
        values.push_word("completed");
        values.push_word("an unlisted word");
        values.push_optional_word(None);
        values.push_number(600);
        values.push_number(u64::MAX);
        values.push_bool(true);
        values.push_bool(false);
        values.push_empty_list();
        values.push_time(Some(Time(time)));
        values.push_time(None);
        values.push_id(Some(id.to_bytes()));
        values.push_text(b"");
        values.push_text("{\"größe\":\"\u{80}\"}".as_bytes());
        values.push_json(&["ü\u{1f}"]);
        let time = format!("\"{time}\"");
        let id = format!("\"{id}\"");
        let expected = [
            "\"completed\"",
            "\"an unlisted word\"",
            "null",
            "600",
            "18446744073709551615",
            "true",
            "false",
            "[]",
            &time,
            "null",
            &id,
            "",
            "{\"größe\":\"\u{80}\"}",
            "[\"ü\\u001f\"]",
        ];
        assert_eq!(texts(values), expected);
    }

    #[test]
    fn every_token_is_listed_once_and_encoded_as_one_byte() {
        for (place, word) in TOKENS.iter().enumerate() {
            assert_eq!(TOKENS.iter().position(|token| token == word), Some(place), "{}", word.escape_ascii());
            let text = std::str::from_utf8(word).unwrap();
            let mut values = ValueWriter::default();
            if QUOTED.contains(&place) {
                values.push_word(text.trim_matches('"'));
            } else if NUMBERS.contains(&place) {
                values.push_number(text.parse().unwrap());
            } else {
                continue;
            }
            assert_eq!(*values.into_bytes(), [code(place)], "{text}");
        }
    }
}
