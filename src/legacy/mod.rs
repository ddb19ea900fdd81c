//! Reading and writing the files of the old program: provenance records, taint events and
//! checkpoints.
//!
//! This module does not depend on the engine or on HTTP. [`Line::parse`] parses one JSON object,
//! from a file or from a line of NDJSON, into typed fields beside the original object. `to_json` of
//! each kind renders the object again, in which only those values differ that have changed since.
//!
//! A [`Folder`] is a directory of the old program: one file for each record (`{record id}.json`),
//! `taint_events.json` (a list) and `checkpoints.json` (an object by checkpoint id). Files and
//! elements are read one by one, so memory holds only the names. A bad file or element is reported
//! with its place, and the others are still read.
//!
//! # Duplicate fields
//!
//! The old program stored many fields twice, nested and flat (`execution.model`, `model_used`). If
//! the two differ, the nested one counts, unless it is empty, zero or `pending`.
//!
//! # Values
//!
//! Every value is written back under its key as it was read, including unknown members. Numbers are
//! kept as 64-bit integers or as floating point numbers; a larger integer is refused instead of
//! rounded.

mod checkpoint;
mod digest;
mod event;
mod fields;
mod folder;
mod invalid;
mod line;
mod list_file;
mod pretty;
mod reading;
mod record;
mod render;
mod split;
#[cfg(test)]
mod tests;
mod time;
mod write;
mod written;

pub use checkpoint::Checkpoint;
pub use digest::digest;
pub use event::{Action, TaintEvent};
pub use folder::{Bad, Entries, Folder, Found};
pub use invalid::{Invalid, Reason};
pub use line::{Kind, Line, MAX_LINE_BYTES};
pub use record::{Input, Record, Taint, Verification};
pub use write::FolderWriter;
pub use written::Written;
