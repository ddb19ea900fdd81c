//! The store: everything that must survive, in one redb file with a journal in front of it, and
//! large contents in files beside it.
//!
//! [`Batch`] is the only way to write, [`View`] the only way to read. `tables.rs` describes the
//! tables. One process owns a data directory: `dats.lock` is held for as long as a [`Store`] lives.
//! The writer thread alone writes; every thread may read.
//!
//! ```
//! use dats::store::{Batch, Store};
//! use dats::task::{Now, Timestamp};
//! use redb::backends::InMemoryBackend;
//!
//! let store = Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 20, 1 << 20)?;
//! let mut batch = Batch::default();
//! batch.put_content([1; 32], b"content".to_vec());
//! batch.commit(&store, Now::aligned(Timestamp::from_micros(1)))?;
//! assert_eq!(store.view()?.content_length([1; 32])?, Some(7));
//! # Ok::<(), dats::store::Error>(())
//! ```

mod apply;
mod backup;
mod ballast;
mod batch;
mod batch_rows;
mod cascade_changes;
mod cascade_rows;
mod cascade_steps;
mod cascades;
mod changes;
mod checkpoint;
mod clocks;
mod codec;
mod commit;
mod content_sweep;
mod contents;
mod dead_letters;
mod direct_file;
mod directory;
mod durable;
mod error;
mod files;
mod history;
mod journal;
mod journal_file;
mod journal_header;
mod lineage;
mod list_changes;
mod log;
mod log_readers;
#[cfg(all(test, feature = "model"))]
mod model;
mod open;
mod page;
mod recent;
mod record_index;
mod recover;
mod rerun_chains;
mod room;
mod rows;
mod statements;
mod sync;
mod table_file;
mod tables;
mod taken_events;
mod upgrade;
mod view;

pub use batch::Batch;
pub use batch_rows::{ClockUpdate, IdempotencyRow, Trim};
pub use cascade_changes::{FlagChanges, StepChange};
pub use cascades::{CascadeRow, Cause, ChangeRow};
pub use changes::{ChangedKeys, CommitNumber};
pub use checkpoint::{Checkpoint, CheckpointProgress};
pub use clocks::Clocks;
#[cfg(test)]
pub(crate) use codec::counted;
pub use contents::{ContentFile, KeptContent, MAX_ROW_BYTES};
pub use dead_letters::{DeadLetterEnd, DeadLetterRemoval};
pub use durable::{Committed, Durable};
pub use error::Error;
pub(crate) use error::{guarded, panic_message};
pub use files::{FileLock, FileSystem, SystemFiles};
pub use history::HistoryEntry;
pub use lineage::LineageRow;
pub use log_readers::ReaderPosition;
pub use open::Store;
pub use page::{PAGE_BYTES, Page, PageBudget};
pub use recent::RecentRows;
pub use record_index::RecordPlace;
pub use recover::{OpenRow, Recovered, open_task};
pub use room::{Room, RoomReservation, RoomState, Shortage, StopSignal, wait_for_room_on_this_thread};
pub use rows::{
    About, Counters, DeadLetter, Imported, ImportedEvent, ImportedTaint, LogEntry, Project, Record, RecordInput,
    RecordOutput, Standing, TierPause,
};
pub use statements::RollbackRow;
pub use taken_events::TakenEvents;
pub use upgrade::task_of_document;
pub use view::{Scan, ScanFilter, Sizes, StatusView, SubmissionView, View};
