//! Pages of the log, and the lag of its readers.

use bytes::Bytes;

use crate::store::LogEntry;
use crate::task::{Moment, Seq};

/// An event of the log, with the parts of its wire form that the log does not store.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// Position in the log.
    pub seq: Seq,
    /// The entry.
    pub entry: LogEntry,
    /// The data of a published event, as a JSON object; `None` for an accepted one.
    pub data: Option<Bytes>,
    /// W3C trace context of the task's submission.
    pub traceparent: Option<String>,
}

/// A page of events.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// Published and accepted events, in order.
    pub entries: Vec<LoggedEvent>,
    /// Position up to which the log was read; the next page starts after it.
    pub read_to: Seq,
    /// The first position that the log still has, if it was trimmed beyond the
    /// requested one.
    pub reset: Option<Seq>,
    /// Whether the page ends before its limit, because it is full of bytes or
    /// because it has looked at the most entries that one page may.
    pub truncated: bool,
}

/// A page of changes: every entry of the log, not events alone.
#[derive(Debug, Clone)]
pub struct ChangePage {
    /// The changes, in order.
    pub entries: Vec<(Seq, LogEntry)>,
    /// Position up to which the log was read; the next page starts after it.
    pub read_to: Seq,
    /// The first position that the log still has, if it was trimmed beyond the
    /// requested one. It is never beyond a reader's own position.
    pub reset: Option<Seq>,
}

/// How far a reader of the log lags behind its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderLag {
    /// Name of the reader.
    pub reader: String,
    /// Number of changes that it has not read.
    pub changes: u64,
    /// Time of the oldest of them.
    pub oldest: Option<Moment>,
}
