//! Splits a large array or object into its elements without holding it in memory.
//!
//! Only brackets and strings are tracked here; the caller parses each element. A bad element
//! therefore does not affect the others, and of a truncated file all complete elements are
//! returned.

use std::io::{BufRead, ErrorKind};

use super::invalid::{Invalid, Reason};
use super::line::MAX_LINE_BYTES;

/// The text of an element and its offset in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) offset: u64,
    /// The key, for a member of an object.
    pub(super) key: Option<String>,
    pub(super) raw: Vec<u8>,
}

/// Iterator over the elements of an array or the members of an object.
pub(super) struct Splitter<R> {
    reader: R,
    offset: u64,
    /// The opening bracket: `[` or `{`.
    opening: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    First,
    Next,
    Done,
}

impl<R: BufRead> Splitter<R> {
    /// Creates a splitter of a text that must be an array.
    pub(super) fn of_array(reader: R) -> Self {
        Self { reader, offset: 0, opening: b'[', state: State::Start }
    }

    /// Creates a splitter of a text that must be an object.
    pub(super) fn of_object(reader: R) -> Self {
        Self { reader, offset: 0, opening: b'{', state: State::Start }
    }

    fn element(&mut self) -> Result<Option<Element>, Invalid> {
        if self.state == State::Start {
            self.open()?;
            self.state = State::First;
        }
        let byte = self.expect_byte()?;
        if byte == self.closing() {
            self.step();
            return self.close().map(|()| None);
        }
        if self.state == State::Next {
            self.expect(b',', "a comma or the end")?;
        }
        self.state = State::Next;
        let key = if self.opening == b'{' { Some(self.key()?) } else { None };
        self.expect_byte()?;
        let offset = self.offset;
        let raw = self.value()?;
        Ok(Some(Element { offset, key, raw }))
    }

    const fn closing(&self) -> u8 {
        if self.opening == b'[' { b']' } else { b'}' }
    }

    fn open(&mut self) -> Result<(), Invalid> {
        let what = if self.opening == b'[' { "a JSON array" } else { "a JSON object" };
        self.skip_space()?;
        match self.peek()? {
            Some(byte) if byte == self.opening => {
                self.step();
                Ok(())
            }
            Some(byte) => Err(self.fault(Reason::NotObject, format!("must be {what}, began with {}", shown(byte)))),
            None => Err(self.fault(Reason::Empty, format!("there is nothing; must be {what}"))),
        }
    }

    fn close(&mut self) -> Result<(), Invalid> {
        self.state = State::Done;
        self.skip_space()?;
        match self.peek()? {
            None => Ok(()),
            Some(byte) => Err(self.fault(Reason::NotJson, format!("must end here, was {}", shown(byte)))),
        }
    }

    fn key(&mut self) -> Result<String, Invalid> {
        self.expect_byte()?;
        let start = self.offset;
        self.expect(b'"', "a key in quotes")?;
        let (mut raw, mut escaped) = (vec![b'"'], false);
        loop {
            let byte = self.peek()?.ok_or_else(|| self.truncated())?;
            self.step();
            if raw.len() > MAX_LINE_BYTES {
                return Err(self.fault(Reason::TooLarge, format!("a key must be at most {MAX_LINE_BYTES} bytes")));
            }
            raw.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => break,
                _ => {}
            }
        }
        let key = serde_json::from_slice(&raw).map_err(|error| {
            let text = error.to_string();
            let message = format!("a key is not JSON: {}", text.split(" at line ").next().unwrap_or(&text));
            Invalid::new(Reason::NotJson, 0, message).behind(start)
        })?;
        self.expect(b':', "a colon")?;
        Ok(key)
    }

    /// Reads up to the comma or bracket that ends the value. Of a value above the size limit it
    /// keeps one byte more than the limit, so that parsing refuses it.
    fn value(&mut self) -> Result<Vec<u8>, Invalid> {
        let (mut raw, mut depth, mut in_string, mut escaped) = (Vec::new(), 0_usize, false, false);
        loop {
            let byte = self.peek()?.ok_or_else(|| self.truncated())?;
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'{' | b'[' if !in_string => depth += 1,
                b',' | b'}' | b']' if !in_string && depth == 0 => break,
                b'}' | b']' if !in_string => depth -= 1,
                _ => {}
            }
            self.step();
            if raw.len() <= MAX_LINE_BYTES {
                raw.push(byte);
            }
        }
        raw.truncate(raw.trim_ascii_end().len());
        Ok(raw)
    }

    fn expect(&mut self, wanted: u8, name: &str) -> Result<(), Invalid> {
        let byte = self.expect_byte()?;
        if byte != wanted {
            return Err(self.fault(Reason::NotJson, format!("must be {name}, was {}", shown(byte))));
        }
        self.step();
        Ok(())
    }

    /// Returns the next byte that is not white space; its absence is a fault.
    fn expect_byte(&mut self) -> Result<u8, Invalid> {
        self.skip_space()?;
        self.peek()?.ok_or_else(|| self.truncated())
    }

    fn skip_space(&mut self) -> Result<(), Invalid> {
        while self.peek()?.is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Option<u8>, Invalid> {
        loop {
            match self.reader.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fault(Reason::Unreadable, format!("can't be read: {error}"))),
            }
        }
    }

    fn step(&mut self) {
        self.reader.consume(1);
        self.offset += 1;
    }

    fn truncated(&self) -> Invalid {
        self.fault(Reason::Truncated, "ends in the middle of a JSON value")
    }

    fn fault(&self, reason: Reason, message: impl Into<String>) -> Invalid {
        Invalid::new(reason, 0, message).behind(self.offset)
    }
}

impl<R: BufRead> Iterator for Splitter<R> {
    type Item = Result<Element, Invalid>;

    /// A fault of the structure ends the iteration.
    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let element = self.element();
        if element.is_err() {
            self.state = State::Done;
        }
        element.transpose()
    }
}

fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("`{}`", char::from(byte)) } else { format!("the byte 0x{byte:02x}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(text: &str) -> Vec<Result<String, Reason>> {
        let elements = Splitter::of_array(text.as_bytes());
        elements.map(|each| each.map(|element| String::from_utf8(element.raw).unwrap()).map_err(|e| e.reason)).collect()
    }

    #[test]
    fn elements_come_one_by_one() {
        assert_eq!(array(" [ ] \n"), []);
        let whole = array("[{\"a\": [1, \"],\\\"\"]} , 2,\n{}]");
        assert_eq!(whole, ["{\"a\": [1, \"],\\\"\"]}", "2", "{}"].map(|text| Ok(text.to_owned())));
        assert_eq!(array("[1, {\"a\""), [Ok("1".to_owned()), Err(Reason::Truncated)]);
        assert_eq!(array("[1"), [Err(Reason::Truncated)]);
        assert_eq!(array("[1] x"), [Ok("1".to_owned()), Err(Reason::NotJson)]);
        assert_eq!(array(""), [Err(Reason::Empty)]);
        assert_eq!(array("{}"), [Err(Reason::NotObject)]);
    }

    #[test]
    fn members_have_keys_and_places() {
        let text = "{\"a\\n\": {\"x\": 1}, \"b\" :2}";
        let found: Vec<Element> = Splitter::of_object(text.as_bytes()).map(Result::unwrap).collect();
        let element =
            |offset, key: &str, raw: &str| Element { offset, key: Some(key.to_owned()), raw: raw.as_bytes().to_vec() };
        assert_eq!(found, [element(8, "a\n", "{\"x\": 1}"), element(23, "b", "2")]);
        for bad in ["{a: 1}", "{\"a\" 1}", "{\"a\": 1,}", "{\"\\x\": 1}", "{\"a"] {
            assert!(Splitter::of_object(bad.as_bytes()).any(|each| each.is_err()), "{bad}");
        }
    }

    #[test]
    fn an_element_without_end_takes_no_memory() {
        let text = format!("[\"{}\", 1]", "x".repeat(2 * MAX_LINE_BYTES));
        let found: Vec<Element> = Splitter::of_array(text.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(found.iter().map(|element| element.raw.len()).collect::<Vec<_>>(), [MAX_LINE_BYTES + 1, 1]);
    }
}
