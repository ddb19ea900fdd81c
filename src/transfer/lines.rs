//! Splits chunks into lines.

use bytes::Bytes;

/// Maximum length of a line in bytes, without its line feed.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// A line with its number, counted from 1; the text is `None` if the line was too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawLine {
    pub(super) number: u64,
    pub(super) text: Option<Vec<u8>>,
}

impl RawLine {
    /// Returns the length in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, Vec::len)
    }
}

/// Splits chunks into lines. A line that is too long is dropped as it arrives. Empty lines count
/// but are not returned.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    line: Vec<u8>,
    too_long: bool,
    number: u64,
}

impl Cutter {
    /// Appends the lines that end in a chunk.
    pub(super) fn push(&mut self, chunk: &Bytes, lines: &mut Vec<RawLine>) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            if self.line.len() + text.len() > MAX_LINE_BYTES {
                self.too_long = true;
                self.line = Vec::new();
            }
            if !self.too_long {
                self.line.extend_from_slice(text);
            }
            if ends {
                lines.extend(self.end());
            }
        }
    }

    /// Returns the last line if the input ends without a line feed.
    pub(super) fn end(&mut self) -> Option<RawLine> {
        self.number += 1;
        let text = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            return Some(RawLine { number: self.number, text: None });
        }
        (!text.trim_ascii().is_empty()).then_some(RawLine { number: self.number, text: Some(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &[u8], size: usize) -> Vec<(u64, Option<usize>)> {
        let (mut cutter, mut lines) = (Cutter::default(), Vec::new());
        for chunk in text.chunks(size) {
            cutter.push(&Bytes::copy_from_slice(chunk), &mut lines);
            assert!(cutter.line.len() <= MAX_LINE_BYTES);
        }
        lines.extend(cutter.end());
        lines.into_iter().map(|line| (line.number, line.text.map(|text| text.len()))).collect()
    }

    #[test]
    fn lines_come_out_wherever_chunks_are_cut() {
        for size in 1..12 {
            assert_eq!(cut(b"{}\n\n \r\n[1]\nlast", size), [(1, Some(2)), (4, Some(3)), (5, Some(4))]);
            assert_eq!(cut(b"", size), []);
            assert_eq!(cut(b"{}\n", size), [(1, Some(2))]);
        }
    }

    #[test]
    fn a_line_that_is_too_long_takes_no_memory_and_ends() {
        let mut text = vec![b'x'; MAX_LINE_BYTES];
        text.extend(b"\n");
        text.extend(vec![b'x'; 3 * MAX_LINE_BYTES]);
        text.extend(b"\n{}\n");
        for size in [1000, 1 << 20, 1 << 23] {
            assert_eq!(cut(&text, size), [(1, Some(MAX_LINE_BYTES)), (2, None), (3, Some(2))]);
        }
    }
}
