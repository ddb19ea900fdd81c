//! Readers of the log and the place that each has in it.

use serde::{Deserialize, Serialize};

use crate::task::{Seq, Timestamp};

/// The place of a reader in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The newest position when it joined: what it takes from the log comes
    /// after it, and what was there before it reads from the tables.
    pub joined: Seq,
    /// When it joined.
    pub joined_at: Timestamp,
    /// Whether it has taken what was there before it joined.
    pub begun: bool,
    /// It has taken everything up to here.
    pub read_to: Seq,
}

impl Place {
    /// That of a reader which joins now.
    #[must_use]
    pub const fn joining(head: Seq, now: Timestamp) -> Self {
        Self { joined: head, joined_at: now, begun: false, read_to: head }
    }
}
