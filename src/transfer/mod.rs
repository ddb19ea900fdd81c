//! Provenance in and out of the engine as lines of JSON in the form of the
//! old program: NDJSON, an object a line.
//!
//! Nothing here knows of HTTP or files. Both directions run on channels of
//! chunks, so that whoever is at the other end holds back whoever is ahead,
//! and memory is bounded however long a stream is.

mod budget;
mod causes;
mod checkpoint;
mod event;
mod export;
mod import;
mod lines;
mod outcome;
mod own;
mod record;
mod words;

pub use budget::ImportBudget;
pub use event::{imported_event, taint_event};
pub use export::{Broken, export, record_json};
pub use import::{Chunk, import};
