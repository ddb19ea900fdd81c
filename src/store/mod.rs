//! The store: everything that must survive, in one redb file with a journal
//! in front of it, and large contents in files beside it.
//!
//! [`Batch`] is the only way to write, [`View`] the only way to read. The
//! tables are described in `tables.rs`. One process owns a data directory:
//! `dats.lock` is held as long as a [`Store`] lives.
//!
//! Written by the writer thread alone; read from anywhere.

mod backup;
mod ballast;
mod batch;
mod batch_rows;
mod cascade_rows;
mod cascade_steps;
mod cascades;
mod cautious;
mod chains;
mod changes;
mod checkpoint;
mod clocks;
mod codec;
mod commit;
mod content_sweep;
mod contents;
mod direct;
mod directory;
mod durable;
mod error;
mod files;
mod front;
mod history;
mod journal;
mod journal_file;
mod letters;
mod lineage;
mod log;
#[cfg(all(test, feature = "model"))]
mod model;
mod open;
mod page;
mod readers;
mod recent;
mod records;
mod recover;
mod room;
mod rows;
mod statements;
mod sync;
mod tables;
mod taken_events;
mod trail;
mod upgrade;
mod view;
mod write;
mod write_changes;

pub use batch::Batch;
pub use batch_rows::{IdempotencyRow, Look, Trim};
pub use cascades::{CascadeRow, Cause, ChangeRow};
pub use changes::{Changed, CommitNumber};
pub use checkpoint::{Checkpoint, CheckpointProgress};
pub use clocks::Clocks;
#[cfg(test)]
pub(crate) use codec::counted;
pub use contents::{ContentFile, KeptContent, MAX_ROW_BYTES};
pub use durable::{Committed, Durable};
pub use error::Error;
pub(crate) use error::{guarded, panic_message};
pub use files::{FileLock, FileSystem, SystemFiles};
pub use history::HistoryEntry;
pub use letters::{LetterEnd, LetterRemoval};
pub use lineage::LineageRow;
pub use open::Store;
pub use page::{PAGE_BYTES, Page, PageBudget};
pub use readers::Place;
pub use recent::Recent;
pub use records::RecordPlace;
pub use recover::{OpenRow, Recovered, open_task};
pub use room::{Admission, Room, RoomState, Shortage, StopSignal, wait_for_room_on_this_thread};
pub use rows::{
    About, Counters, DeadLetter, Imported, ImportedEvent, ImportedTaint, LogEntry, Project, Record, RecordInput,
    RecordOutput, Standing, TierPause,
};
pub use statements::RollbackRow;
pub use taken_events::TakenEvents;
pub use trail::{Changes, StepChange};
pub use upgrade::task_of_document;
pub use view::{Scan, ScanFilter, Sizes, StatusView, SubmissionView, View};
