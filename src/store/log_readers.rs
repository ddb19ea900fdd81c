//! Positions of the readers of the log.

use serde::{Deserialize, Serialize};

use crate::task::{Seq, Timestamp};

/// The position of a reader in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderPosition {
    /// Newest position when the reader joined: it reads later positions from the log, and
    /// everything earlier from the tables.
    pub joined: Seq,
    /// When the reader joined.
    pub joined_at: Timestamp,
    /// Whether the reader has processed what existed before it joined.
    pub begun: bool,
    /// The position up to which the reader has processed everything.
    pub read_to: Seq,
}

impl ReaderPosition {
    /// Position of a reader that joins now.
    #[must_use]
    pub const fn joining(head: Seq, now: Timestamp) -> Self {
        Self { joined: head, joined_at: now, begun: false, read_to: head }
    }
}
