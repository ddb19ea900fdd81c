//! What the clocks showed when something was last kept, so that a start can go
//! on from there: see [`clock`](crate::clock) for how a stop counts.

use std::time::Duration;

use super::batch::{Batch, Look};
use super::tables::{self, CLOCKS_KEY, LAST_COMMIT_KEY};
use super::{Error, Store, View};
use crate::task::{Moment, Now, Timestamp};

/// How far the last commit may lie in the future: clocks of machines differ.
const TOLERANCE: Duration = Duration::from_mins(5);

/// What the clocks showed when something was last kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clocks {
    /// Both clocks; observed time goes on from here. Zero in a new store.
    pub last: Now,
    /// The newest time, in milliseconds, that an id was made with.
    pub ids_until_ms: u64,
}

type Meta<'a> = redb::Table<'a, &'static str, tables::Bytes>;

/// A row of `meta`: observed time and wall clock (i64 microseconds), and the
/// newest time of an id (u64 milliseconds), little-endian.
fn to_row(clocks: Clocks) -> [u8; 24] {
    let mut row = [0; 24];
    row[..8].copy_from_slice(&clocks.last.observed.as_micros().to_le_bytes());
    row[8..16].copy_from_slice(&clocks.last.wall.as_micros().to_le_bytes());
    row[16..].copy_from_slice(&clocks.ids_until_ms.to_le_bytes());
    row
}

fn of_row(row: &[u8]) -> Result<Clocks, Error> {
    let corrupt = || Error::Corrupt { table: "meta", detail: "the row of the clocks has not 24 bytes".to_owned() };
    let ([observed, wall, ids], []) = row.as_chunks::<8>() else { return Err(corrupt()) };
    let last = Now {
        observed: Moment::from_micros(i64::from_le_bytes(*observed)),
        wall: Timestamp::from_micros(i64::from_le_bytes(*wall)),
    };
    Ok(Clocks { last, ids_until_ms: u64::from_le_bytes(*ids) })
}

/// Keeps what the clocks showed at a commit.
pub(super) fn write(meta: &mut Meta<'_>, last: Now, ids_until_ms: u64) -> Result<(), Error> {
    use redb::ReadableTable as _;
    let before = meta.get(CLOCKS_KEY)?.map(|row| of_row(row.value())).transpose()?;
    // Where it was never kept, ids were made with the time of the commit.
    let known = before.map_or(last.wall.as_millis(), |before| before.ids_until_ms);
    let clocks = Clocks { last, ids_until_ms: ids_until_ms.max(known) };
    meta.insert(CLOCKS_KEY, &to_row(clocks)[..])?;
    Ok(())
}

impl Batch {
    /// What the clocks showed at its commit.
    pub(super) fn present(&self) -> Now {
        if self.observed == Moment::default() {
            Now::aligned(self.at)
        } else {
            Now { observed: self.observed, wall: self.at }
        }
    }
}

impl View {
    /// When the last commit was made, by the wall clock; zero in a new store.
    pub fn last_commit_at(&self) -> Result<Timestamp, Error> {
        let meta = self.table(tables::META)?;
        let micros = meta.get(LAST_COMMIT_KEY)?.and_then(|value| value.value().try_into().ok().map(i64::from_le_bytes));
        Ok(Timestamp::from_micros(micros.unwrap_or(0)))
    }

    /// What the clocks showed when something was last kept.
    pub fn clocks(&self) -> Result<Clocks, Error> {
        if let Some(row) = self.table(tables::META)?.get(CLOCKS_KEY)? {
            return of_row(row.value());
        }
        // A new store, or one of the first versions of this format.
        let last = self.last_commit_at()?;
        Ok(Clocks { last: Now::aligned(last), ids_until_ms: last.as_millis() })
    }
}

impl Store {
    /// Refuses a wall clock by which the last commit lies more than five minutes
    /// in the future ([`Error::ClockBehind`]): the clock is wrong now, or was
    /// wrong then.
    pub fn check_clock(&self, now: Timestamp) -> Result<(), Error> {
        let last_commit = self.view()?.last_commit_at()?;
        if last_commit > now.after(TOLERANCE) { Err(Error::ClockBehind { last_commit, now }) } else { Ok(()) }
    }

    /// Takes the wall clock as it is, although the last commit may lie in its
    /// future.
    pub fn accept_clock(&self, now: Now) -> Result<(), Error> {
        let last_commit = self.view()?.last_commit_at()?;
        if last_commit <= now.wall {
            return Ok(());
        }
        tracing::warn!(%last_commit, now = %now.wall, "the wall clock is accepted, although the last commit lies ahead");
        let mut batch = Batch::default();
        batch.keep_clocks(Look::Accepted);
        batch.commit(self, now)
    }
}
