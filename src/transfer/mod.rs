//! Import and export of provenance as NDJSON in the form of the old program, one object per line.
//!
//! This module does not depend on HTTP or files. Both directions use bounded channels of chunks, so
//! a slow reader slows the writer down, and memory is bounded regardless of the length of a stream.

mod answer_lines;
mod budget;
mod causes;
mod checkpoint;
mod event;
mod export;
mod import;
mod lines;
mod manual_marks;
mod outcome;
mod own;
mod record;

pub use budget::ImportBudget;
pub use event::{imported_event, taint_event};
pub use export::{ExportFailed, export, record_json};
pub use import::{Chunk, import};
