//! The read side: it answers reads without waiting for the writer.
//!
//! The writer publishes plain data after each commit
//! ([`Publication`](super::api::Publication)), and [`ReadSide`] serves it from memory.
//! Lists, pages and trees are read from rows of the store.

mod activity;
pub(super) mod audit;
pub(super) mod cascades;
mod copy_progress;
pub(super) mod dead_letters;
pub(super) mod dispatches;
pub(super) mod list;
pub(super) mod log;
mod pauses;
mod projects;
mod reader_positions;
mod recent_ends;
pub(super) mod records;
mod side;
pub(super) mod signals;
mod statuses;
pub(super) mod tree;

pub(super) use side::ReadSide;
