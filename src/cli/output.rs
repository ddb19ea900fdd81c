//! What goes to stdout: lines, tables for people, the server's JSON for
//! programs.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde_json::Value;

use super::client::Answer;
use super::exit::Failure;

/// Longest description in a table, in characters.
const DESCRIPTION_WIDTH: usize = 48;

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables and lines for people.
    Table,
    /// The server's JSON for programs; streams as one object a line.
    Json,
}

/// How to show things to whoever reads the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) format: Format,
    /// Stdout is a terminal: colours and relative times.
    pub(super) is_terminal: bool,
    /// What relative times refer to.
    pub(super) now: Timestamp,
}

impl Screen {
    pub(super) fn of_stdout(format: Format) -> Self {
        Self { format, is_terminal: std::io::stdout().is_terminal(), now: now() }
    }

    /// Prints an answer: as it came, or as `render` shows it.
    pub(super) fn show(&self, answer: &Answer, render: impl FnOnce(&Self, &Value) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => line(answer.text.trim_end()),
            Format::Table => line(render(self, &answer.json).trim_end()),
        }
    }

    /// A table; columns are as wide as their content unless a terminal is
    /// too narrow for them.
    pub(super) fn table(&self, headers: &[&str], rows: Vec<Vec<Cell>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.is_terminal {
            table.enforce_styling().set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(headers.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        table.add_rows(rows);
        let lines: Vec<String> = table.trim_fmt().lines().map(|line| line.trim_start_matches(' ').to_owned()).collect();
        lines.join("\n")
    }

    /// A time: relative on a terminal, as it came elsewhere.
    pub(super) fn time(&self, value: &Value) -> String {
        match value.as_str() {
            Some(text) if self.is_terminal => age(self.now, text),
            Some(text) => text.to_owned(),
            None => "-".to_owned(),
        }
    }

    /// One object as lines of key and value: `first` before the rest, what is
    /// unknown or empty left out.
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

/// Prints a line on stdout. A reader that went away ends the command quietly.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Closed),
        Err(error) => Err(Failure::Failed(format!("can't write the output: {error}"))),
    }
}

/// The time by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "ages on a screen need the wall clock, not the engine's guarded one")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// A cell that stands out by what a status means.
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

/// A scalar as text, `-` for nothing.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value in one piece: lists of scalars by commas.
fn plain(value: &Value) -> String {
    match value {
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) => items.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"),
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

/// The first words of a description, in one line.
pub(super) fn shortened(description: &str) -> String {
    let words: Vec<&str> = description.split_whitespace().collect();
    let flat = words.join(" ");
    if flat.chars().count() <= DESCRIPTION_WIDTH {
        return flat;
    }
    let cut: String = flat.chars().take(DESCRIPTION_WIDTH - 1).collect();
    format!("{}…", cut.trim_end())
}

/// `3m ago` or, for the future, `in 2h`; the text itself where it is no time.
fn age(now: Timestamp, then: &str) -> String {
    let Ok(then) = then.parse::<Timestamp>() else {
        return then.to_owned();
    };
    let seconds = now.as_second().saturating_sub(then.as_second());
    let span = span(seconds.unsigned_abs());
    if seconds < 0 { format!("in {span}") } else { format!("{span} ago") }
}

/// A number of seconds in its largest whole unit.
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
        Screen { format: Format::Table, is_terminal, now: "2026-01-09T18:00:00Z".parse().unwrap() }
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
        let plain = screen(false).table(&["STATUS", "ID"], rows.clone());
        assert_eq!(plain, "STATUS          ID\ncompleted       a\nrunning/leased  b");
        assert!(screen(true).table(&["STATUS", "ID"], rows).contains('\u{1b}'));
    }

    #[test]
    fn details_leave_out_what_is_unknown() {
        let object = json!({"b": null, "tiers": ["x", "y"], "id": "1", "list": [], "n": 0});
        assert_eq!(screen(false).details(&object, &["id"]), "id     1\nn      0\ntiers  x, y");
    }

    #[test]
    fn descriptions_fit_a_line() {
        assert_eq!(shortened("two\n words"), "two words");
        assert_eq!(shortened(&"word ".repeat(20)).chars().count(), DESCRIPTION_WIDTH);
    }
}
