//! The log of events and changes, and its readers.

use tokio::sync::watch;

use super::client::Client;
use crate::engine::api::{ChangePage, Error, LogPage};
use crate::engine::read::log;
use crate::store::{LogEntry, PageBudget, ReaderPosition};
use crate::task::Seq;

/// The log, by [`Engine::log`](crate::engine::Engine::log).
#[derive(Debug, Clone, Copy)]
pub struct LogHandle<'a>(pub(super) &'a Client);

impl LogHandle<'_> {
    /// Returns a page of the published and accepted events after a position that
    /// `keep` accepts.
    pub async fn page(
        self,
        after: Seq,
        budget: impl Into<PageBudget>,
        keep: impl Fn(&LogEntry) -> bool + Send + 'static,
    ) -> Result<LogPage, Error> {
        let budget = budget.into();
        self.0.read(move |side| log::log_page(side, after, budget, &keep)).await
    }

    /// Returns the newest position of the log, and a signal when it moves.
    #[must_use]
    pub fn head(self) -> watch::Receiver<Seq> {
        self.0.read.head()
    }

    /// Returns the handle of a configured reader; `None`: the reader is not configured.
    #[must_use]
    pub fn reader(self, name: &str) -> Option<LogReader> {
        let found = self.0.read.reader_positions.get(name)?;
        Some(LogReader { client: self.0.clone(), name: name.to_owned(), found })
    }
}

/// A reader that keeps a position in the log: entries that it has not read stay in the
/// log, also over restarts.
///
/// A reader is configured by its name in
/// [`Settings::log_readers`](crate::engine::Settings::log_readers). The start gives
/// it a position, and removes that of a reader that is no longer configured. A reader
/// always does the same:
///
/// 1. It gets its handle by [`LogHandle::reader`] and looks at its [`ReaderPosition`]. If it has
///    not `begun`, it reads the tables for everything from before it joined, at its
///    own pace, and calls [`LogReader::begin`]. Meanwhile the log from `joined` on
///    is kept for it.
/// 2. It reads pages from `read_to` on ([`LogReader::page`] for every change,
///    [`LogHandle::page`] for events alone), processes them, and calls
///    [`LogReader::move_to`] with the position that it has reached.
/// 3. At the end of the log it waits for [`LogHandle::head`] to move.
///
/// Moving the position is cheap: it is kept in memory, and the writer stores all positions
/// once a second, and at a stop, in the commit of other changes. After a crash a
/// reader may therefore find its position up to a second back, and read the same
/// entries again: its processing must be idempotent.
///
/// A reader that stays away keeps the log from being trimmed. Its lag is in
/// [`Figures::readers`](crate::engine::Figures::readers) and in the metrics. It is
/// bounded by the disk: submissions are refused while little space is free.
#[derive(Debug, Clone)]
pub struct LogReader {
    client: Client,
    name: String,
    /// The position when the handle was made.
    found: ReaderPosition,
}

impl LogReader {
    /// Returns the reader's position.
    #[must_use]
    pub fn position(&self) -> ReaderPosition {
        self.client.read.reader_positions.get(&self.name).unwrap_or(self.found)
    }

    /// Returns the changes after a position, in order: at most `limit`, and about a
    /// mebibyte of events.
    pub async fn page(&self, after: Seq, limit: usize) -> Result<ChangePage, Error> {
        self.client.read(move |side| log::change_page(side, after, limit)).await
    }

    /// Records that the reader has processed everything from before it joined.
    pub fn begin(&self) {
        self.client.read.reader_positions.change(&self.name, |position| position.begun = true);
    }

    /// Records that the reader has processed everything up to a position. The position
    /// never moves back, nor beyond the head of the log.
    pub fn move_to(&self, position: Seq) {
        let position = position.min(*self.client.read.head().borrow());
        self.client.read.reader_positions.change(&self.name, |own| own.read_to = own.read_to.max(position));
    }
}
