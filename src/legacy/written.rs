//! The effect of a write on a file, and the name of a file until it is complete.

use std::path::{Path, PathBuf};

/// The effect of a write on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The file did not exist.
    Created,
    /// The file existed with other contents.
    Updated,
    /// The file existed with the same contents and was not written.
    Unchanged,
}

/// Returns a temporary name that no reader of `*.json` picks up and no other process uses.
pub(super) fn temporary(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.{}.tmp", std::process::id()))
}
