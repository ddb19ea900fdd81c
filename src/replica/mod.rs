//! The canonical copy in Postgres, written behind.
//!
//! The store lists the keys of what each commit changes (`store/changes.rs`).
//! The [`Replicator`] reads that list in order, reads the rows as they are now
//! (so many changes of one row become one upsert), and writes them in one
//! transaction that also moves the copy's position in `replication_state`.
//! What is written is never older than the position says; rows can be newer,
//! since later changes are in the list again. So after a crash on either side
//! the copy goes on from its position, and nothing is missed.
//!
//! A database that has missed changes, or is new, first gets a scan of all
//! tables, page by page, then the list from where the scan began.
//!
//! Nothing waits for the database, whatever it does. See [`Error`] for what
//! can happen to it and what is done about it.

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
pub use status::{Doing, Figures, Status};
pub use tables::OTHER_TABLES;
pub use verify::{Report, verify};
