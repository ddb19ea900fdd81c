//! Parser of server-sent events, as the HTML standard defines their text form.
//!
//! Hand-written because the parser must bound the memory of a line: `eventsource-stream`
//! (no release since 2022) and `sse-stream` buffer without a limit, and the crates that
//! have one are younger than this service.

/// Longest line accepted, in bytes: well above the 1 MiB that an event may have.
const MAX_LINE_BYTES: usize = 8 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The last `id:` so far, with which the stream is resumed.
    pub id: Option<String>,
    /// The value of `event:`, or `message` without one.
    pub event: String,
    /// The values of all `data:` lines, joined by line feeds.
    pub data: String,
}

/// A line is longer than the parser accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event stream's line is longer than {MAX_LINE_BYTES} bytes")]
pub(super) struct LineTooLong;

/// Collects the chunks of a stream, which may end anywhere, into events.
#[derive(Debug, Default)]
pub(super) struct SseParser {
    line: Vec<u8>,
    /// Whether the last byte was a carriage return; a line feed after it ends the same line.
    after_return: bool,
    /// Whether a line has ended; a byte order mark is only skipped before the first one.
    started: bool,
    id: Option<String>,
    event: String,
    data: Option<String>,
}

impl SseParser {
    /// Adds a chunk and returns the events that it completes.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<SseEvent>, LineTooLong> {
        let mut events = Vec::new();
        for &byte in chunk {
            let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ if self.line.len() >= MAX_LINE_BYTES => return Err(LineTooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<SseEvent> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let is_first = !std::mem::replace(&mut self.started, true);
        let line = if is_first { text.trim_start_matches('\u{feff}') } else { &text };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        self.field(field, value.strip_prefix(' ').unwrap_or(value));
        None
    }

    /// Applies one field. Comments, whose name is empty, and unknown fields are ignored.
    fn field(&mut self, name: &str, value: &str) {
        match name {
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
    }

    /// Ends an event. Without data there is none to return, but its id is kept.
    fn dispatch(&mut self) -> Option<SseEvent> {
        let name = std::mem::take(&mut self.event);
        let data = self.data.take()?;
        let event = if name.is_empty() { "message".to_owned() } else { name };
        Some(SseEvent { id: self.id.clone().filter(|id| !id.is_empty()), event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, event: &str, data: &str) -> SseEvent {
        SseEvent { id: id.map(str::to_owned), event: event.to_owned(), data: data.to_owned() }
    }

    const STREAM: &str = "\u{feff}: hello\n\nid: 7\nevent: task.ready\ndata: {\"a\":\ndata: 1}\n\n\
        : heartbeat\r\n\r\ndata:no space\r\rid: 9\n\nretry: 10\nnonsense\ndata\n\nevent: lost\ndata: cut";

    fn expected() -> Vec<SseEvent> {
        vec![
            event(Some("7"), "task.ready", "{\"a\":\n1}"),
            event(Some("7"), "message", "no space"),
            event(Some("9"), "message", ""),
        ]
    }

    #[test]
    fn events_come_out_whatever_the_line_ends() {
        assert_eq!(SseParser::default().push(STREAM.as_bytes()).unwrap(), expected());
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        for size in 1..=7 {
            let mut parser = SseParser::default();
            let events: Vec<_> = STREAM.as_bytes().chunks(size).flat_map(|chunk| parser.push(chunk).unwrap()).collect();
            assert_eq!(events, expected(), "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = SseParser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_LINE_BYTES + 1]), Err(LineTooLong));
    }
}
