//! What can be seen of the copy from outside.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Error;
use super::position::Position;
use crate::store::CommitNumber;
use crate::task::{Moment, Timestamp};

/// What the copy is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// The first connection is being made.
    Connecting,
    /// It reads the tables from the begin.
    Scanning,
    /// It follows what changes.
    Following,
    /// The database can't be reached, or can't write.
    Away,
    /// Something is set up wrongly.
    Misconfigured,
    /// The database holds the copy of another store.
    Refused,
}

impl Doing {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Connecting, Self::Scanning, Self::Following, Self::Away, Self::Misconfigured, Self::Refused];

    /// The word for health and metrics.
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

    /// Whether a person or the database has something to do.
    #[must_use]
    pub const fn is_trouble(self) -> bool {
        match self {
            Self::Connecting | Self::Scanning | Self::Following => false,
            Self::Away | Self::Misconfigured | Self::Refused => true,
        }
    }
}

/// The figures of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// What it is doing.
    pub doing: Doing,
    /// Host, port and name of the database.
    pub database: String,
    /// How many commits are not copied yet.
    pub lag_changes: u64,
    /// When the oldest of them was made.
    pub behind_since: Option<Moment>,
    /// Whether this data directory is the owner of the copy; `None`: not known yet.
    pub owner: Option<bool>,
    /// What a scan reads now.
    pub scanning: Option<&'static str>,
    /// Rows written since the start.
    pub rows: u64,
    /// Rows that the database has refused and that wait.
    pub rejects: u64,
    /// What went wrong last, and when.
    pub last_error: Option<(Timestamp, String)>,
}

/// What is known of the copy; shared with who shows it.
#[derive(Debug)]
pub struct Status {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    figures: Figures,
    /// How far the copy is, as far as is known.
    at: Option<CommitNumber>,
    /// What was logged last: trouble is told once, not with every try.
    told: Option<String>,
}

impl Status {
    pub(super) fn new(database: String) -> Self {
        let figures = Figures {
            doing: Doing::Connecting,
            database,
            lag_changes: 0,
            behind_since: None,
            owner: None,
            scanning: None,
            rows: 0,
            rejects: 0,
            last_error: None,
        };
        Self { inner: Mutex::new(Inner { figures, at: None, told: None }) }
    }

    /// The figures now.
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

    /// The copy is here.
    pub(super) fn note_position(&self, at: &Position) {
        let mut inner = self.lock();
        inner.at = Some(at.commit);
        inner.figures.owner = Some(true);
        inner.figures.scanning = at.scan.as_ref().map(|(phase, _)| phase.as_str());
        inner.figures.doing = if at.scan.is_some() { Doing::Scanning } else { Doing::Following };
        if inner.told.take().is_some() {
            tracing::info!(database = inner.figures.database, "the database is written again");
        }
    }

    pub(super) fn note_rows(&self, rows: u64) {
        self.lock().figures.rows += rows;
    }

    pub(super) fn note_rejects(&self, rejects: u64) {
        self.lock().figures.rejects = rejects;
    }

    pub(super) fn note_lag(&self, changes: u64, since: Option<Moment>) {
        let mut inner = self.lock();
        (inner.figures.lag_changes, inner.figures.behind_since) = (changes, since);
    }

    /// Something went wrong. The same thing is logged once.
    pub(super) fn note_error(&self, error: &Error, now: Timestamp) {
        let (doing, message) = (doing(error), error.to_string());
        let mut inner = self.lock();
        inner.figures.doing = doing;
        if doing == Doing::Refused {
            inner.figures.owner = Some(false);
        }
        inner.figures.last_error = Some((now, message.clone()));
        let database = inner.figures.database.clone();
        if inner.told.as_ref() == Some(&message) {
            tracing::debug!(database, error = message, "the database is still not written");
        } else if doing == Doing::Away {
            tracing::warn!(database, error = message, "the database can't be written; it is tried again");
        } else {
            tracing::error!(database, error = message, "the database is not written until this is put right");
        }
        inner.told = Some(message);
    }
}

fn doing(error: &Error) -> Doing {
    match error {
        Error::Away(_) | Error::Slow(_) | Error::Conflict(_) => Doing::Away,
        Error::Setup(_) | Error::Row { .. } | Error::Engine(_) | Error::Store(_) => Doing::Misconfigured,
        Error::Foreign(_) | Error::Lost(_) => Doing::Refused,
    }
}
