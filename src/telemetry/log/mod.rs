//! The log of the service, on stderr.
//!
//! The reader of stderr may stop, such as a stuck log agent or a terminal after Ctrl-S.
//! No thread that logs waits for the reader. A line goes into a bounded queue, and one
//! thread writes the queue out. A line without space is dropped and counted, and the log
//! reports the count when the reader reads again.
//!
//! Repeated lines of one kind are left out after the first few, and a summary with their
//! count follows every [`repeats::WINDOW`]: a client that is refused a thousand times a
//! second must not fill the disk of the log.

mod counts;
mod queue;
mod repeats;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::counts::TARGET;
pub use self::counts::{LogFigures, log_figures};
use self::queue::{Lines, Writer};
use self::repeats::Repeats;

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// The running log. Dropping it writes the queued lines, and stops when nothing could be
/// written to stderr for half a second.
#[derive(Debug)]
pub struct Log {
    writer: Option<Writer>,
}

impl Log {
    /// Queues one line without a format, after all lines before it.
    pub fn line(&self, text: &str) {
        if let Some(writer) = &self.writer {
            writer.lines().push(format!("{text}\n").into_bytes());
        }
    }
}

/// Starts to log to stderr all events that pass `filter`. Panics are logged like other
/// events from now on, because the default hook writes to stderr and would wait for the
/// reader. If the process has a log already, that log stays.
#[must_use]
pub fn start_log(filter: EnvFilter, format: Format) -> Log {
    let repeats = Repeats::default();
    let summaries = repeats.clone();
    let log_own = move |dropped, is_closing| {
        if dropped > 0 {
            tracing::warn!(target: TARGET, lines = dropped, "log lines dropped, stderr was not read in time");
        }
        summaries.log_summaries(is_closing);
    };
    // If the thread cannot be started, the threads that log write to stderr.
    let Ok(writer) = Writer::start(std::io::stderr(), log_own) else {
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let _ = lines.try_init();
        return Log { writer: None };
    };
    let lines: Lines = writer.lines().clone();
    let log =
        tracing_subscriber::fmt::layer().with_writer(move || lines.clone()).with_ansi(std::io::stderr().is_terminal());
    let filtered = tracing_subscriber::registry().with(filter).with(repeats);
    let started = match format {
        Format::Text => filtered.with(log).try_init(),
        Format::Json => filtered.with(log.json().flatten_event(true)).try_init(),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    Log { writer: Some(writer) }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let reason = panic.payload_as_str().unwrap_or("of an unknown type");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(thread, place, reason, %backtrace, "panicked");
    } else {
        tracing::error!(thread, place, reason, "panicked");
    }
}
