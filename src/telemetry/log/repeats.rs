//! Leaves out lines that repeat others.
//!
//! A kind of line is the place in the source together with the fields that distinguish
//! causes, such as the code of a problem or the name of a service. Ids, paths and error
//! texts are ignored: a client can choose them, and could make each line a kind of its
//! own. Lines below `info` are never left out, because they are only enabled to see all
//! of them.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::counts::{LEFT_OUT, TARGET};
use crate::clock::Stopwatch;

/// Time for which a kind is counted before its summary. Then a new window begins.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Lines of a kind that are logged in a window: enough to see several tasks or peers with
/// the same cause.
const LOGGED_PER_WINDOW: u64 = 5;
/// Kinds that are counted separately. Beyond that, all kinds of one place are counted
/// together.
const MAX_KINDS: usize = 512;
/// Longest text of a kind, in bytes.
const MAX_KIND_BYTES: usize = 256;
/// The fields that distinguish causes. They have few values.
const FIELDS: [&str; 10] =
    ["code", "service", "side", "reader", "table", "step", "status", "queue", "exchange", "migration"];

/// The place in the source, and the text of the message and of those fields.
type Kind = (tracing::callsite::Identifier, String);

/// The layer that leaves out lines. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Repeats {
    seen: Arc<Mutex<HashMap<Kind, Seen>>>,
}

/// The count of a kind in its window.
#[derive(Debug)]
struct Seen {
    since: Stopwatch,
    lines: u64,
    level: Level,
}

/// The summary of a kind whose window has ended.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    level: Level,
    line: String,
    count: u64,
}

impl Repeats {
    /// Counts a line. Returns whether it is among the first of its window.
    fn count(&self, kind: Kind, level: Level) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let has_space = seen.len() < MAX_KINDS || seen.contains_key(&kind);
        let kind = if has_space { kind } else { (kind.0, String::new()) };
        let counted = seen.entry(kind).or_insert_with(|| Seen { since: Stopwatch::start(), lines: 0, level });
        counted.lines += 1;
        counted.lines <= LOGGED_PER_WINDOW
    }

    /// Removes the kinds whose window has ended, and returns their summaries.
    fn take_due(&self, window: Duration) -> Vec<Summary> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let due = seen.extract_if(|_, seen| seen.since.elapsed() >= window);
        let due = due.filter(|(_, seen)| seen.lines > LOGGED_PER_WINDOW);
        due.map(|((_, line), seen)| Summary { level: seen.level, line, count: seen.lines - LOGGED_PER_WINDOW })
            .collect()
    }

    /// Logs a summary for each kind whose window has ended, or for every kind with `all`.
    pub(super) fn log_summaries(&self, all: bool) {
        for Summary { level, line, count } in self.take_due(if all { Duration::ZERO } else { WINDOW }) {
            match level {
                Level::ERROR => tracing::error!(target: TARGET, line, count, "lines like this were left out"),
                Level::WARN => tracing::warn!(target: TARGET, line, count, "lines like this were left out"),
                _ => tracing::info!(target: TARGET, line, count, "lines like this were left out"),
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let mut text = KindText(String::new());
        event.record(&mut text);
        let passes = self.count((metadata.callsite(), text.0), *metadata.level());
        if !passes {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }
}

/// Collects the message and the fields that distinguish causes.
struct KindText(String);

impl Visit for KindText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let before = self.0.len();
        if before > MAX_KIND_BYTES {
            return;
        }
        let separator = if before == 0 { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name if FIELDS.contains(&name) => write!(self.0, "{separator}{name}={value:?}"),
            _ => Ok(()),
        };
        if self.0.len() > MAX_KIND_BYTES {
            let end = (0..=MAX_KIND_BYTES).rev().find(|end| self.0.is_char_boundary(*end)).unwrap_or(0);
            self.0.truncate(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(repeats: &Repeats, doing: impl FnOnce()) -> Vec<String> {
        let memory = Memory::default();
        let output = memory.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || output.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(repeats.clone()).with(layer), doing);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn refused(code: &str, path: &str) {
        tracing::warn!(code, path, "request not answered");
    }

    #[test]
    fn the_first_lines_of_each_kind_are_logged_and_the_rest_counted() {
        let repeats = Repeats::default();
        let lines = logged(&repeats, || {
            for number in 0..1000 {
                refused("storage_full", &format!("/tasks/{number}"));
                tracing::debug!("each counts");
            }
            refused("overloaded", "/tasks");
        });
        let of = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
        assert_eq!((of("storage_full"), of("overloaded"), of("each counts")), (5, 1, 1000));
        assert!(repeats.take_due(WINDOW).is_empty(), "the window has not ended");
        let line = "request not answered code=\"storage_full\"".to_owned();
        assert_eq!(repeats.take_due(Duration::ZERO), [Summary { level: Level::WARN, line, count: 995 }]);
        let again = logged(&repeats, || refused("storage_full", "/tasks"));
        assert_eq!(again.len(), 1, "a new window begins with its first line");
    }

    #[test]
    fn kinds_are_limited() {
        let repeats = Repeats::default();
        let lines = logged(&repeats, || {
            for number in 0..5000 {
                refused(&format!("{number}{}", "x".repeat(1000)), "");
            }
        });
        assert!(lines.len() <= MAX_KINDS + 5, "{}", lines.len());
        assert!(repeats.seen.lock().unwrap().keys().all(|(_, text)| text.len() <= MAX_KIND_BYTES));
    }
}
