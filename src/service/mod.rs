//! The composition root: opens, starts and connects the parts, and stops them in order. The
//! commands on the data directory of a stopped service are here, too.

mod backends;
mod background;
mod descriptors;
mod directory;
mod error;
mod open;
mod running;
mod settings;

pub use backends::check;
pub use directory::{
    BackupReport, PruneReport, RestoreReport, backup, look_at_copy, prune, require_store, restore, restore_backup,
    verify,
};
pub use error::{StartError, StoreFailed};
pub use open::open;
pub use running::{Rights, Service};
