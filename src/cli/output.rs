//! Output on stdout: lines and tables for people, the server's JSON for programs.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde_json::Value;

use super::exit::Failure;
use crate::client::Answer;
use crate::clock::Clock;
pub(super) use crate::workload::simulate::worker::shortened;

/// Requested form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Tables and lines for people.
    Table,
    /// The server's JSON for programs; streams have one object on each line.
    Json,
    /// A graph for Graphviz, for `provenance show`, `dependents`, `dependencies` and `export`.
    Dot,
}

impl Output {
    /// Returns the form of output that is not a graph.
    pub(super) const fn format(self) -> Format {
        match self {
            Self::Table => Format::Table,
            Self::Json | Self::Dot => Format::Json,
        }
    }
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Tables and lines for people.
    Table,
    /// The server's JSON for programs; streams have one object on each line.
    Json,
}

/// The form of the output and the properties of the terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) format: Format,
    /// Whether stdout is a terminal, which gets colours and relative times.
    pub(super) is_terminal: bool,
    /// Columns of the terminal, if known.
    pub(super) width: Option<u16>,
    /// Time to which relative times refer.
    pub(super) now: Timestamp,
}

impl Screen {
    pub(super) fn of_stdout(format: Format) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        // A terminal that does not know its width reports 0.
        let width = Table::new().width().filter(|width| is_terminal && *width > 0);
        Self { format, is_terminal, width, now: now() }
    }

    /// Prints an answer, as received or as `render` formats it.
    pub(super) fn show(&self, answer: &Answer, render: impl FnOnce(&Self, &Value) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => line(answer.text.trim_end()),
            Format::Table => line(render(self, &answer.json).trim_end()),
        }
    }

    /// Formats a table. If it is wider than the terminal, the columns in `droppable` are
    /// omitted, in their order, until it fits.
    pub(super) fn table(&self, headers: &[&str], rows: Vec<Vec<Cell>>, droppable: &[&str]) -> String {
        let bold = |name: &&str| Cell::new(name).add_attribute(Attribute::Bold);
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.is_terminal {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        table.set_header(headers.iter().map(bold)).add_rows(rows);
        let widths = table.column_max_content_widths();
        let dropped = self.dropped(headers, &widths, droppable);
        let first = (0..headers.len()).find(|index| !dropped.contains(index));
        for (index, column) in table.column_iter_mut().enumerate() {
            if dropped.contains(&index) {
                column.set_constraint(ColumnConstraint::Hidden);
            } else if Some(index) == first {
                column.set_padding((0, 1));
            }
        }
        table.trim_fmt()
    }

    /// Returns the columns to omit.
    fn dropped(&self, headers: &[&str], widths: &[u16], droppable: &[&str]) -> Vec<usize> {
        // Each cell has a space on both sides.
        let mut total: usize = widths.iter().map(|width| usize::from(*width) + 2).sum();
        let mut dropped = Vec::new();
        for name in droppable {
            if self.width.is_none_or(|width| total <= usize::from(width)) {
                break;
            }
            if let Some(index) = headers.iter().position(|header| header == name) {
                total -= widths.get(index).map_or(0, |width| usize::from(*width) + 2);
                dropped.push(index);
            }
        }
        dropped
    }

    /// Formats a time: relative on a terminal, as received elsewhere.
    pub(super) fn time(&self, value: &Value) -> String {
        match value.as_str() {
            Some(text) if self.is_terminal => age(self.now, text),
            Some(text) => text.to_owned(),
            None => "-".to_owned(),
        }
    }

    /// Formats an object as lines of key and value, with the keys in `first` before the
    /// others. Empty values are omitted.
    pub(super) fn details(&self, object: &Value, first: &[&str]) -> String {
        let Some(fields) = object.as_object() else {
            return object.to_string();
        };
        let leading = first.iter().filter_map(|key| fields.get_key_value(*key));
        let rest = fields.iter().filter(|(key, _)| !first.contains(&key.as_str()));
        let shown: Vec<_> = leading.chain(rest).filter(|(_, value)| !is_empty(value)).collect();
        let width = shown.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        let lines = shown.iter().map(|(key, value)| {
            let value = if key.ends_with("_at") { self.time(value) } else { plain(value) };
            format!("{key:width$}  {}", value.replace('\n', &format!("\n{:width$}  ", "")))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Prints a line on stdout. If the reader has closed it, the command ends without a message.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Closed),
        Err(error) => Err(Failure::Failed(format!("can't write the output: {error}"))),
    }
}

/// Returns the wall clock time.
pub(super) fn now() -> Timestamp {
    let micros = Clock::new().wall().as_micros();
    // Out of range only if the clock is wrong by ten thousand years.
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

/// Returns the cell of a status, in its colour.
pub(super) fn status_cell(task: &Value) -> Cell {
    let status = text(&task["status"]);
    let colour = match status.as_str() {
        "completed" => Some(Color::Green),
        "failed" => Some(Color::Red),
        "running" => Some(Color::Cyan),
        "cancelled" => Some(Color::DarkGrey),
        _ => None,
    };
    let shown = match task["phase"].as_str() {
        Some(phase) if phase != status => format!("{status}/{phase}"),
        _ => status,
    };
    match colour {
        Some(colour) => Cell::new(shown).fg(colour),
        None => Cell::new(shown),
    }
}

/// Formats a scalar; `-` for null.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Formats a value: lists of scalars with commas, other lists with one entry on each line.
fn plain(value: &Value) -> String {
    match value {
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(pairs).collect::<Vec<_>>().join("\n"),
        Value::Object(_) => pairs(value),
        other => text(other),
    }
}

/// Formats a value in one line: an object as `key=value`, null as an empty text.
pub(super) fn pairs(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Object(fields) => {
            let known = fields.iter().filter(|(_, value)| !is_empty(value));
            let pairs: Vec<String> = known.map(|(key, value)| format!("{key}={}", text(value))).collect();
            pairs.join(" ")
        }
        other => text(other),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Formats a time relative to `now`, as `3m ago` or `in 2h`. Text that is not a time is
/// returned as it is.
fn age(now: Timestamp, then: &str) -> String {
    let Ok(then) = then.parse::<Timestamp>() else {
        return then.to_owned();
    };
    let seconds = now.as_second().saturating_sub(then.as_second());
    let span = span(seconds.unsigned_abs());
    if seconds < 0 { format!("in {span}") } else { format!("{span} ago") }
}

/// Formats seconds in the largest unit of which there is at least one.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn screen(is_terminal: bool) -> Screen {
        Screen { format: Format::Table, is_terminal, width: None, now: "2026-01-09T18:00:00Z".parse().unwrap() }
    }

    #[test]
    fn times_are_relative_on_a_terminal_only() {
        let then = json!("2026-01-09T17:56:30Z");
        assert_eq!(screen(true).time(&then), "3m ago");
        assert_eq!(screen(false).time(&then), "2026-01-09T17:56:30Z");
        assert_eq!(screen(true).time(&json!("2026-01-11T18:00:00Z")), "in 2d");
        assert_eq!(screen(true).time(&Value::Null), "-");
    }

    #[test]
    fn tables_are_plain_text_outside_a_terminal() {
        let rows = vec![
            vec![status_cell(&json!({"status": "completed"})), Cell::new("a")],
            vec![status_cell(&json!({"status": "running", "phase": "leased"})), Cell::new("b")],
        ];
        let plain = screen(false).table(&["STATUS", "ID"], rows.clone(), &[]);
        assert_eq!(plain, "STATUS          ID\ncompleted       a\nrunning/leased  b");
        assert!(screen(true).table(&["STATUS", "ID"], rows, &[]).contains('\u{1b}'));
    }

    #[test]
    fn a_narrow_terminal_omits_the_least_important_columns() {
        let row = || vec![vec![Cell::new("1234567890"), Cell::new("12345"), Cell::new("123")]];
        let screen = |width| Screen { width, ..screen(false) };
        let table = |width| screen(width).table(&["A", "B", "C"], row(), &["B", "A"]);
        assert_eq!(table(None).lines().last(), Some("1234567890  12345  123"));
        assert_eq!(table(Some(24)).lines().last(), Some("1234567890  12345  123"));
        assert_eq!(table(Some(23)).lines().last(), Some("1234567890  123"));
        assert_eq!(table(Some(5)).lines().last(), Some("123"));
    }

    #[test]
    fn details_omit_empty_values() {
        let object = json!({"b": null, "tiers": ["x", "y"], "id": "1", "list": [], "n": 0});
        assert_eq!(screen(false).details(&object, &["id"]), "id     1\ntiers  x, y\nn      0");
    }
}
