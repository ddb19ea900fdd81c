//! What the program before this one left behind: its provenance records,
//! taint events and checkpoints, read and written.
//!
//! Nothing here knows of the engine or of HTTP. [`Line::parse`] reads one
//! JSON object, whether it stood in a file or on a line of NDJSON, and gives
//! typed fields beside the object as it came. `to_json` of each kind gives the
//! object again, with no more changed than what has changed since.
//!
//! A [`Folder`] is a directory of the old program: a file for each record
//! (`{record id}.json`), `taint_events.json` (a list) and `checkpoints.json`
//! (an object by checkpoint id). It is read file by file and element by
//! element, so that its size costs no memory but for the names; a bad file
//! or element is reported with its place, and the rest is read.
//!
//! # Twins
//!
//! The old program kept many fields twice, in a structure and flat beside it
//! (`execution.model`, `model_used`). Where they disagree, the structure wins,
//! unless it is empty, zero or `pending`.
//!
//! # Values
//!
//! What came in goes out with the same values under every key, also those
//! that nobody here knows. Numbers are kept as 64-bit integers or as floating
//! point numbers; an integer that is neither is refused, not rounded.

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

pub use checkpoint::Checkpoint;
pub use digest::digest;
pub use event::{Action, TaintEvent};
pub use folder::{Bad, Entries, Folder, Found};
pub use invalid::{Invalid, Reason};
pub use line::{Kind, Line, MAX_LINE_BYTES};
pub use record::{Input, Record, Taint, Verification};
pub use write::{FolderWriter, Written};
