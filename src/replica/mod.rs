//! The canonical copy in Postgres, written behind the store.
//!
//! The store lists the keys of the rows that each commit changes (`store/changes.rs`). The
//! [`Replicator`] reads that list in order, reads the current version of each row (so several
//! changes of one row become one upsert), and writes them in one transaction that also advances the
//! copy's position in `replication_state`. A written row is never older than the position; it can
//! be newer, because its later changes appear in the list again. After a crash on either side the
//! copy therefore resumes at its position and misses nothing.
//!
//! A database that is new or has missed changes is filled by a scan of all tables, page by page,
//! followed by the list from the point where the scan began.
//!
//! Nothing in the service waits for the database. [`Error`] lists the failures and how the copy
//! reacts to each.

mod address;
mod cells;
mod error;
mod json;
mod keys;
mod metrics;
mod ownership;
mod portion;
mod position;
mod restore;
mod row_key;
mod rows;
mod run;
mod session;
mod settings;
mod state;
mod status;
mod sweep;
mod tables;
mod tls;
mod verify;
mod write;

pub use address::{Address, InvalidAddress};
pub use error::Error;
pub use metrics::Metrics;
pub use ownership::{Claim, Origin, Ownership, take_over};
pub use restore::{Restore, Restored};
pub use run::Replicator;
pub use settings::Settings;
pub use status::{CopyState, Figures, Status};
pub use tables::OTHER_TABLES;
pub use verify::{Report, verify};
