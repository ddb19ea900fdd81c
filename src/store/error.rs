//! Errors of the store. Each class is kept apart.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::task::Timestamp;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the data directory open.
    #[error("data directory {0} is in use by another process")]
    InUse(PathBuf),
    /// The directory holds foreign files.
    #[error(
        "{dir} is not a data directory of dats: it has no dats.redb but contains {found:?}; choose an empty directory"
    )]
    ForeignDirectory {
        /// The data directory as given.
        dir: PathBuf,
        /// Name of the first foreign file.
        found: String,
    },
    /// A file is not what it should be. It was not changed.
    #[error("{path} can't be opened as a dats store: {detail}; it was left as it is")]
    NotAStore {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer version wrote the data.
    #[error("the data has format {found}, this version reads up to {supported}: install the newer version again")]
    NewerFormat {
        /// The format of the data.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// An earlier version wrote the data, and it was only to be read.
    #[error("the data has format {found}, this version reads {supported}: start the service once, which upgrades it")]
    OlderFormat {
        /// The format of the data.
        found: u32,
        /// The format that this version reads.
        supported: u32,
    },
    /// The last commit lies in the future of the wall clock. Nothing was changed.
    #[error(
        "the last commit was made at {last_commit}, but the wall clock shows {now}: the clock is wrong now, or was wrong \
         then; set the clock right, or, if it is right, start with `dats serve --accept-clock`, which goes on from it"
    )]
    ClockBehind {
        /// When the last commit was made.
        last_commit: Timestamp,
        /// The reading of the wall clock.
        now: Timestamp,
    },
    /// The journal does not belong to the tables beside it. Nothing was changed.
    #[error(
        "dats.journal does not belong to the dats.redb beside it: {detail}; both were left as they are: put back the two \
         files of one time, or restore a backup"
    )]
    ForeignJournal {
        /// What does not match.
        detail: String,
    },
    /// The tables are missing, and the journal shows that they had contents.
    #[error(
        "{dir} has no dats.redb, and its dats.journal was in use: acknowledged changes are missing; it was left as it \
         is: put dats.redb back, or restore a backup into another directory"
    )]
    LostTables {
        /// The data directory as given.
        dir: PathBuf,
    },
    /// A row does not have the form of its table.
    #[error("table {table} has a corrupt row: {detail}")]
    Corrupt {
        /// Name of the table.
        table: &'static str,
        /// What is wrong with the row.
        detail: String,
    },
    /// A content file does not match its SHA-256 or length.
    #[error("{path} is damaged: {detail}")]
    DamagedContent {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// The attempted operation, as a verb.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The database failed to read or to prepare a write. Nothing changed.
    #[error("the database failed: {0}")]
    Database(#[source] Box<redb::Error>),
    /// The database panicked, as it can on a damaged file.
    #[error("the database panicked: {0}")]
    Panicked(String),
    /// The tables lack the last acknowledged changes because the disk has no room for them. They
    /// follow by themselves once there is room.
    #[error("the disk is full: the tables wait for room to take what was acknowledged last")]
    NoRoom,
    /// The disk has no room for what a start must write.
    #[error(
        "the disk of {0} is full: the store can't take what its journal has; free some space and start again, nothing \
         is lost"
    )]
    DiskFull(PathBuf),
    /// A durable change was not applied to the tables. Nothing is lost: the next start applies it.
    #[error("the tables did not follow the journal; the next start brings them up to date")]
    TablesBehind,
    /// A commit failed. It may have become durable all the same.
    #[error("the commit failed, its outcome is unknown: {0}")]
    Unknown(#[source] Box<redb::Error>),
}

impl Error {
    /// Whether the cause is that the disk, or what may be used of it, is full.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::NoRoom | Self::DiskFull(_) => true,
            Self::Io { source, .. } => is_full(source),
            Self::Database(error) | Self::Unknown(error) => {
                matches!(&**error, redb::Error::Io(source) if is_full(source))
            }
            _ => false,
        }
    }

    /// Converts the error of a file that is being opened and was not written yet: unreadable tables
    /// mean that it is not a store. Errors of the system stay as they are.
    pub(super) fn of_damaged(self, path: &Path) -> Self {
        match self {
            Self::Database(error) if !matches!(*error, redb::Error::Io(_)) => {
                Self::NotAStore { path: path.to_owned(), detail: error.to_string() }
            }
            error => error,
        }
    }
}

/// Whether this error says that the disk, or what we may use of it, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Runs `work` and turns a panic into an error, because a damaged file can make redb panic while it
/// repairs or reads.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    const { assert!(cfg!(panic = "unwind"), "panics are caught here") };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::Panicked(panic_message(&*panic))))
}

/// The message of a caught panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

macro_rules! from_redb {
    ($($kind:ty),*) => {
        $(impl From<$kind> for Error {
            fn from(error: $kind) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

from_redb!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::DatabaseError,
    redb::SetDurabilityError,
    redb::CommitError
);
