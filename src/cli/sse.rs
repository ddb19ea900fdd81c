//! Server-sent events, as the HTML standard defines their text form.

/// Longest line taken: far more than the 1 MiB that an event may have.
const MAX_LINE_BYTES: usize = 8 << 20;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// Where to resume; the last `id:` seen so far, if any.
    pub(super) id: Option<String>,
    /// `event:`, or `message` where it was left out.
    pub(super) event: String,
    /// All `data:` lines, joined by line feeds.
    pub(super) data: String,
}

/// A line longer than this reader holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event stream's line is longer than {MAX_LINE_BYTES} bytes")]
pub(super) struct LineTooLong;

/// Turns the chunks of a stream, cut anywhere, into events.
#[derive(Debug, Default)]
pub(super) struct SseParser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed now belongs to it.
    after_return: bool,
    /// A byte order mark may stand before the first line.
    started: bool,
    id: Option<String>,
    event: String,
    data: Option<String>,
}

impl SseParser {
    /// Takes the next chunk and gives the events it completed.
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

    /// A comment has an empty name; unknown fields are passed over.
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

    /// An event without data is none, but its id counts.
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
