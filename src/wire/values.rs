//! Values of an answer, one after the other, in few bytes: a million answers
//! stay in memory.
//!
//! A value is JSON text. Its first byte says how it is kept, which no JSON
//! text begins with:
//!
//! * from 0x80: the word with this number, nothing follows;
//! * 0x01: a time, in eight bytes; 0x02: an id, in sixteen;
//! * 0x03: a run of words ([`super::runs`]), its number in two bytes;
//! * 0x1f: no text at all;
//! * anything else: the text itself, up to a byte 0x1f, which JSON text can't
//!   contain.

use serde::Serialize;

use super::runs::{self, Run};
use crate::task::Timestamp;

const END: u8 = 0x1f;
const TIME: u8 = 0x01;
const ID: u8 = 0x02;
const RUN: u8 = 0x03;
const FIRST_WORD: u8 = 0x80;

/// Texts that many answers have. Their places are known to nobody else: they
/// are not stored.
const WORDS: [&[u8]; 60] = [
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
const NULL: u8 = FIRST_WORD;
const EMPTY_LIST: u8 = FIRST_WORD + 1;
const EMPTY_OBJECT: u8 = FIRST_WORD + 2;
const TRUE: u8 = FIRST_WORD + 3;
const FALSE: u8 = FIRST_WORD + 4;
/// A word in quotes is looked for among these.
const QUOTED: std::ops::Range<usize> = 5..53;
/// A number is looked for among these.
const NUMBERS: std::ops::Range<usize> = 53..60;

/// Takes values in and keeps them.
#[derive(Debug, Default)]
pub(crate) struct Values(Vec<u8>);

impl Values {
    /// Behind what is there already.
    pub(crate) fn after(head: Vec<u8>) -> Self {
        Self(head)
    }

    pub(crate) fn into_bytes(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }

    /// Values that were kept before.
    pub(crate) fn kept(&mut self, values: &[u8]) {
        self.0.extend_from_slice(values);
    }

    pub(crate) fn json(&mut self, value: &(impl Serialize + ?Sized)) {
        // The values are text, numbers and plain structures of them: they
        // have no map with other keys than text, the only thing that fails.
        let _ = serde_json::to_writer(&mut self.0, value);
        self.0.push(END);
    }

    /// JSON text; of none, nothing.
    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
        self.0.push(END);
    }

    /// A word that needs no escaping, most likely one that many answers have.
    pub(crate) fn word(&mut self, word: &str) {
        let is_it = |known: &&[u8]| known.len() == word.len() + 2 && known.get(1..=word.len()) == Some(word.as_bytes());
        if let Some(place) = WORDS.get(QUOTED).and_then(|words| words.iter().position(is_it)) {
            self.0.push(code(QUOTED.start + place));
        } else {
            self.0.push(b'"');
            self.0.extend_from_slice(word.as_bytes());
            self.0.extend_from_slice(&[b'"', END]);
        }
    }

    /// A word, or null.
    pub(crate) fn optional(&mut self, word: Option<&str>) {
        match word {
            Some(word) => self.word(word),
            None => self.null(),
        }
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(if value { TRUE } else { FALSE });
    }

    pub(crate) fn number(&mut self, value: u64) {
        let start = self.0.len();
        write_display(&mut self.0, &value);
        let text = self.0.get(start..).unwrap_or_default();
        match WORDS.get(NUMBERS).and_then(|words| words.iter().position(|known| *known == text)) {
            Some(place) => {
                self.0.truncate(start);
                self.0.push(code(NUMBERS.start + place));
            }
            None => self.0.push(END),
        }
    }

    pub(crate) fn null(&mut self) {
        self.0.push(NULL);
    }

    pub(crate) fn empty_list(&mut self) {
        self.0.push(EMPTY_LIST);
    }

    pub(crate) fn empty_object(&mut self) {
        self.0.push(EMPTY_OBJECT);
    }

    /// Words that follow each other, by the number of their run.
    pub(crate) fn run(&mut self, number: u16) {
        self.0.push(RUN);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A time, or null.
    pub(crate) fn time(&mut self, time: Option<Timestamp>) {
        match time {
            Some(time) => {
                self.0.push(TIME);
                self.0.extend_from_slice(&time.as_micros().to_le_bytes());
            }
            None => self.null(),
        }
    }

    /// An id, or null.
    pub(crate) fn id(&mut self, id: Option<[u8; 16]>) {
        match id {
            Some(id) => {
                self.0.push(ID);
                self.0.extend_from_slice(&id);
            }
            None => self.null(),
        }
    }
}

/// The text of a word by its byte.
pub(crate) fn word_text(code: u8) -> &'static [u8] {
    code.checked_sub(FIRST_WORD).and_then(|place| WORDS.get(usize::from(place)).copied()).unwrap_or_default()
}

/// The byte of the word at a place.
fn code(place: usize) -> u8 {
    u8::try_from(place).unwrap_or(0).saturating_add(FIRST_WORD)
}

pub(crate) fn write_display(buffer: &mut Vec<u8>, value: &impl std::fmt::Display) {
    use std::io::Write;
    // Writing into memory does not fail.
    let _ = write!(buffer, "{value}");
}

/// One value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// As JSON text.
    Text(&'a [u8]),
    Time(Timestamp),
    Id([u8; 16]),
    /// Several values, with what stands before each.
    Run(&'static Run),
}

impl Value<'_> {
    /// Its JSON text, behind what is there.
    pub(crate) fn write(self, body: &mut Vec<u8>) {
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

/// Gives kept values back, in order.
#[derive(Debug)]
pub(crate) struct Kept<'a>(pub(crate) &'a [u8]);

impl<'a> Kept<'a> {
    /// The words that come next, at most so many.
    pub(crate) fn words(&self, most: usize) -> &'a [u8] {
        let count = self.0.iter().take(most).take_while(|byte| **byte >= FIRST_WORD).count();
        self.0.split_at(count).0
    }

    /// Passes over so many words.
    pub(crate) fn skip_words(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    /// The next value as it is kept.
    pub(crate) fn next_kept(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.next()?;
        before.get(..before.len() - self.0.len())
    }
}

impl<'a> Iterator for Kept<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        let (&first, rest) = self.0.split_first()?;
        if let Some(place) = first.checked_sub(FIRST_WORD) {
            self.0 = rest;
            return WORDS.get(usize::from(place)).map(|word| Value::Text(word));
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
                runs::get(u16::from_le_bytes(*number)).map(Value::Run)
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

    fn texts(values: Values) -> Vec<String> {
        let bytes = values.into_bytes();
        let written = |value: Value<'_>| {
            let mut text = Vec::new();
            value.write(&mut text);
            String::from_utf8(text).unwrap()
        };
        Kept(&bytes).map(written).collect()
    }

    #[test]
    fn every_value_comes_back_as_its_json_text() {
        let mut values = Values::default();
        let time = Timestamp::from_micros(1_795_000_000_123_400);
        let id = TaskId::from_bytes([0x80; 16]);
        values.word("completed");
        values.word("a word of my own");
        values.optional(None);
        values.number(600);
        values.number(u64::MAX);
        values.bool(true);
        values.bool(false);
        values.empty_list();
        values.time(Some(time));
        values.time(None);
        values.id(Some(id.to_bytes()));
        values.raw(b"");
        values.raw("{\"größe\":\"\u{80}\"}".as_bytes());
        values.json(&["ü\u{1f}"]);
        let time = format!("\"{time}\"");
        let id = format!("\"{id}\"");
        let expected = [
            "\"completed\"",
            "\"a word of my own\"",
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
    fn all_words_are_found_again_and_stand_once() {
        for (place, word) in WORDS.iter().enumerate() {
            assert_eq!(WORDS.iter().position(|each| each == word), Some(place), "{}", word.escape_ascii());
            let text = std::str::from_utf8(word).unwrap();
            let mut values = Values::default();
            if QUOTED.contains(&place) {
                values.word(text.trim_matches('"'));
            } else if NUMBERS.contains(&place) {
                values.number(text.parse().unwrap());
            } else {
                continue;
            }
            assert_eq!(*values.into_bytes(), [code(place)], "{text}");
        }
    }
}
