//! The clocks at the last commit, from which a start continues. [`clock`](crate::clock) describes
//! how a stop counts.

use super::Error;
use super::tables::{self, CLOCKS_KEY};
use crate::task::{Moment, Now, Timestamp};

/// The readings of the clocks at the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// Both clocks; observed time continues from here. Zero in a new store.
    pub last: Now,
    /// Newest time, in milliseconds, used in an id.
    pub ids_until_ms: u64,
}

type Meta<'a> = redb::Table<'a, &'static str, tables::Bytes>;

/// Encodes a row of `meta`: observed time and wall clock (i64 microseconds), and the newest time of
/// an id (u64 milliseconds), little-endian.
fn to_row(clocks: Clocks) -> [u8; 24] {
    let mut row = [0; 24];
    row[..8].copy_from_slice(&clocks.last.observed.as_micros().to_le_bytes());
    row[8..16].copy_from_slice(&clocks.last.wall.as_micros().to_le_bytes());
    row[16..].copy_from_slice(&clocks.ids_until_ms.to_le_bytes());
    row
}

pub(super) fn of_row(row: &[u8]) -> Result<Clocks, Error> {
    let corrupt = || Error::Corrupt { table: "meta", detail: "the row of the clocks has not 24 bytes".to_owned() };
    let ([observed, wall, ids], []) = row.as_chunks::<8>() else { return Err(corrupt()) };
    let last = Now {
        observed: Moment::from_micros(i64::from_le_bytes(*observed)),
        wall: Timestamp::from_micros(i64::from_le_bytes(*wall)),
    };
    Ok(Clocks { last, ids_until_ms: u64::from_le_bytes(*ids) })
}

/// Stores the clocks at a commit.
pub(super) fn write(meta: &mut Meta<'_>, last: Now, ids_until_ms: u64) -> Result<(), Error> {
    use redb::ReadableTable as _;
    let before = meta.get(CLOCKS_KEY)?.map(|row| of_row(row.value())).transpose()?;
    // Earlier versions made ids with the time of the commit.
    let known = before.map_or(last.wall.as_millis(), |before| before.ids_until_ms);
    let clocks = Clocks { last, ids_until_ms: ids_until_ms.max(known) };
    meta.insert(CLOCKS_KEY, &to_row(clocks)[..])?;
    Ok(())
}
