//! Events that one commit has accepted and forgotten.

use super::error::Error;
use crate::task::{EventHash, Moment, Seq};

/// Events that one commit has accepted and forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenEvents {
    /// The last position of the commit.
    pub seq: Seq,
    /// When they were accepted.
    pub at: Moment,
    /// Hashes of the accepted events.
    pub hashes: Vec<EventHash>,
    /// Hashes of events of earlier commits that this commit forgot before it accepted its own.
    pub forgotten: Vec<EventHash>,
}

impl TakenEvents {
    pub(super) fn to_row(&self) -> Vec<u8> {
        let forgotten = u32::try_from(self.forgotten.len()).unwrap_or(u32::MAX);
        let mut row = self.at.as_micros().to_le_bytes().to_vec();
        row.extend(forgotten.to_le_bytes());
        row.extend(self.forgotten.iter().chain(&self.hashes).flat_map(|hash| hash.0));
        row
    }

    pub(super) fn of_row(seq: Seq, row: &[u8]) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt { table: "taken_events", detail: "a row that is cut short".to_owned() };
        let (micros, rest) = row.split_first_chunk().ok_or_else(corrupt)?;
        let (count, rest) = rest.split_first_chunk().ok_or_else(corrupt)?;
        let all: Vec<EventHash> = rest.as_chunks().0.iter().copied().map(EventHash).collect();
        let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        let (forgotten, hashes) = all.split_at_checked(count).ok_or_else(corrupt)?;
        let at = Moment::from_micros(i64::from_le_bytes(*micros));
        Ok(Self { seq, at, hashes: hashes.to_vec(), forgotten: forgotten.to_vec() })
    }
}
