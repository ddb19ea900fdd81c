//! The status of the copy for health and metrics.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Error;
use super::position::Position;
use crate::store::CommitNumber;
use crate::task::{Moment, Timestamp};

/// The state of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    /// Connecting for the first time.
    Connecting,
    /// Scanning all tables.
    Scanning,
    /// Following the list of changes.
    Following,
    /// The database is unreachable or can't write.
    Away,
    /// The configuration is wrong.
    Misconfigured,
    /// The database holds the copy of another store.
    Refused,
}

impl CopyState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Connecting, Self::Scanning, Self::Following, Self::Away, Self::Misconfigured, Self::Refused];

    /// Returns the word used in health answers and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Scanning => "scanning",
            Self::Following => "following",
            Self::Away => "away",
            Self::Misconfigured => "misconfigured",
            Self::Refused => "refused",
        }
    }

    /// Returns whether the copy is interrupted.
    #[must_use]
    pub const fn is_interrupted(self) -> bool {
        match self {
            Self::Connecting | Self::Scanning | Self::Following => false,
            Self::Away | Self::Misconfigured | Self::Refused => true,
        }
    }
}

/// The figures of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The state of the copy.
    pub state: CopyState,
    /// Host, port and name of the database.
    pub database: String,
    /// Number of commits that are not copied yet.
    pub lag_changes: u64,
    /// Time of the oldest of them.
    pub behind_since: Option<Moment>,
    /// Whether this data directory owns the copy; `None` if not known yet.
    pub owner: Option<bool>,
    /// Name of the scan phase in progress.
    pub scanning: Option<&'static str>,
    /// Rows written since the start.
    pub rows: u64,
    /// Rows that the database has refused and holds as rejected.
    pub rejects: u64,
    /// Time and message of the last error.
    pub last_error: Option<(Timestamp, String)>,
}

/// The status of the copy, shared with its readers.
#[derive(Debug)]
pub struct Status {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    figures: Figures,
    /// The last known position.
    at: Option<CommitNumber>,
    /// The message that was logged last; a repeated error is logged once.
    logged: Option<String>,
}

impl Status {
    pub(super) fn new(database: String) -> Self {
        let figures = Figures {
            state: CopyState::Connecting,
            database,
            lag_changes: 0,
            behind_since: None,
            owner: None,
            scanning: None,
            rows: 0,
            rejects: 0,
            last_error: None,
        };
        Self { inner: Mutex::new(Inner { figures, at: None, logged: None }) }
    }

    /// Returns a snapshot of the figures.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn at(&self) -> Option<CommitNumber> {
        self.lock().at
    }

    /// Records the position of the copy.
    pub(super) fn record_position(&self, at: &Position) {
        let mut inner = self.lock();
        inner.at = Some(at.commit);
        inner.figures.owner = Some(true);
        inner.figures.scanning = at.scan.as_ref().map(|(phase, _)| phase.as_str());
        inner.figures.state = if at.scan.is_some() { CopyState::Scanning } else { CopyState::Following };
        if inner.logged.take().is_some() {
            tracing::info!(database = inner.figures.database, "writing to the database again");
        }
    }

    pub(super) fn record_rows(&self, rows: u64) {
        self.lock().figures.rows += rows;
    }

    pub(super) fn record_rejects(&self, rejects: u64) {
        self.lock().figures.rejects = rejects;
    }

    pub(super) fn record_lag(&self, changes: u64, since: Option<Moment>) {
        let mut inner = self.lock();
        (inner.figures.lag_changes, inner.figures.behind_since) = (changes, since);
    }

    /// Records an error. A repeated error is logged once.
    pub(super) fn record_error(&self, error: &Error, now: Timestamp) {
        let (state, message) = (state(error), error.to_string());
        let mut inner = self.lock();
        inner.figures.state = state;
        if state == CopyState::Refused {
            inner.figures.owner = Some(false);
        }
        inner.figures.last_error = Some((now, message.clone()));
        let database = inner.figures.database.clone();
        if inner.logged.as_ref() == Some(&message) {
            tracing::debug!(database, error = message, "still unable to write to the database");
        } else if state == CopyState::Away {
            tracing::warn!(database, error = message, "unable to write to the database; retrying");
        } else {
            tracing::error!(database, error = message, "unable to write to the database until this is corrected");
        }
        inner.logged = Some(message);
    }
}

fn state(error: &Error) -> CopyState {
    match error {
        Error::Away(_) | Error::Slow(_) | Error::Conflict(_) => CopyState::Away,
        Error::Setup(_) | Error::Row { .. } | Error::Engine(_) | Error::Store(_) => CopyState::Misconfigured,
        Error::Foreign(_) | Error::Lost(_) => CopyState::Refused,
    }
}
