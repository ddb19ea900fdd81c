//! Formats JSON as the old program did: indented by two spaces, ASCII only, floating point numbers
//! in Python's notation. An unchanged file therefore has the same bytes and need not be written.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Map, Value};

/// Formats an object without a final line feed.
pub(super) fn pretty(object: &Map<String, Value>) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(4096);
    object.serialize(&mut Serializer::with_formatter(&mut text, Ascii(PrettyFormatter::new())))?;
    Ok(text)
}

/// Wraps the indenting formatter and escapes everything that is not ASCII.
struct Ascii(PrettyFormatter<'static>);

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for part in fragment.split_inclusive(|c: char| !is_plain(c)) {
            let special = part.chars().next_back().filter(|c| !is_plain(*c));
            let plain = special.map_or(part, |c| &part[..part.len() - c.len_utf8()]);
            writer.write_all(plain.as_bytes())?;
            let mut units = [0; 2];
            for unit in special.map_or(&[][..], |c| &*c.encode_utf16(&mut units)) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

const fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// Formats the shortest digits that parse to the same number, with a two-digit exponent below
/// 0.0001 and from 1e16.
fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(-4..16) | Err(_) => format!("{value:?}"),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_old_program() {
        let object = serde_json::from_str(
            r#"{"id": "a", "list": [1, {"é": "𝄞 \" \\ \n \u007f"}], "none": [], "empty": {}, "null": null}"#,
        );
        let expected = "{\n  \"id\": \"a\",\n  \"list\": [\n    1,\n    {\n      \"\\u00e9\": \
            \"\\ud834\\udd1e \\\" \\\\ \\n \\u007f\"\n    }\n  ],\n  \"none\": [],\n  \"empty\": {},\n  \"null\": null\n}";
        assert_eq!(String::from_utf8(pretty(&object.unwrap()).unwrap()).unwrap(), expected);
    }

    #[test]
    fn floats_are_those_of_the_old_program() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.85, "0.85"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.000_012_3, "1.23e-05"),
            (1e-7, "1e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345_680_000.0, "1.2345678901234568e+20"),
            (-2.5e-300, "-2.5e-300"),
        ] {
            assert_eq!(float(value), text);
            assert!((text.parse::<f64>().unwrap() - value).abs() <= 0.0);
        }
    }
}
