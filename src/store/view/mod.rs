//! Reading: a consistent view of one commit. Each file has the methods of [`View`] for one topic.

mod contents;
mod log;
mod provenance;
mod snapshot;
mod tasks;

pub use snapshot::{StatusView, SubmissionView, View};
pub use tasks::{Scan, ScanFilter, Sizes};
