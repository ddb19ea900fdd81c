//! What can go wrong with the store, each class kept.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::task::Timestamp;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the data directory open.
    #[error("data directory {0} is in use by another process")]
    InUse(PathBuf),
    /// The directory holds files of something else.
    #[error(
        "{dir} is not a data directory of dats: it has no dats.redb but contains {found:?}; choose an empty directory"
    )]
    ForeignDirectory {
        /// The directory.
        dir: PathBuf,
        /// The first foreign name.
        found: String,
    },
    /// The store's file is not what it should be. It was not touched.
    #[error("{path} can't be opened as a dats store: {detail}; it was left as it is")]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The data was written by a newer version.
    #[error("the data has format {found}, this version reads up to {supported}: install the newer version again")]
    NewerFormat {
        /// The format of the data.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// The data was written by an earlier version, and was to be read alone.
    #[error("the data has format {found}, this version reads {supported}: start the service once, which upgrades it")]
    OlderFormat {
        /// The format of the data.
        found: u32,
        /// The format that this version reads.
        supported: u32,
    },
    /// The last commit lies in the future of the wall clock. Nothing was touched.
    #[error(
        "the last commit was made at {last_commit}, but the wall clock shows {now}: the clock is wrong now, or was wrong \
         then; set the clock right, or, if it is right, start with `dats serve --accept-clock`, which goes on from it"
    )]
    ClockBehind {
        /// When the last commit was made.
        last_commit: Timestamp,
        /// What the wall clock shows.
        now: Timestamp,
    },
    /// The journal is not the one of the tables beside it. Nothing was touched.
    #[error(
        "dats.journal does not belong to the dats.redb beside it: {detail}; both were left as they are: put back the two \
         files of one time, or restore a backup"
    )]
    ForeignJournal {
        /// What does not fit.
        detail: String,
    },
    /// The tables are gone, and the journal shows that they had something.
    #[error(
        "{dir} has no dats.redb, and its dats.journal was in use: acknowledged changes are missing; it was left as it \
         is: put dats.redb back, or restore a backup into another directory"
    )]
    LostTables {
        /// The directory.
        dir: PathBuf,
    },
    /// A row is not what its table says.
    #[error("table {table} has a corrupt row: {detail}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A file with the content of an artifact is not what was kept there.
    #[error("{path} is damaged: {detail}")]
    DamagedContent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The database failed to read or to prepare a write; nothing changed.
    #[error("the database failed: {0}")]
    Database(#[source] Box<redb::Error>),
    /// The database panicked, as it can over a damaged file.
    #[error("the database panicked: {0}")]
    Panicked(String),
    /// The tables lack what was acknowledged last, since the disk has no room for
    /// it. They follow by themselves once there is room.
    #[error("the disk is full: the tables wait for room to take what was acknowledged last")]
    NoRoom,
    /// The disk has no room for what a start has to write.
    #[error(
        "the disk of {0} is full: the store can't take what its journal has; free some space and start again, nothing \
         is lost"
    )]
    DiskFull(PathBuf),
    /// What is durable did not get into the tables. Nothing is lost: the next
    /// start brings it there.
    #[error("the tables did not follow the journal; the next start brings them up to date")]
    TablesBehind,
    /// A commit failed. It can have become durable all the same.
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

    /// The error of a file that is being opened, and that nothing was written to yet:
    /// one whose tables can't be read is not what it should be. What the system
    /// refuses stays an error of its own.
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

/// A damaged file can make redb panic while it repairs or reads: that
/// is an error like any other.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    const { assert!(cfg!(panic = "unwind"), "panics are caught here") };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::Panicked(panic_message(&*panic))))
}

/// What a caught panic says.
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
