//! Room on the disk: how much the store may still write, and what happens when the disk is full.
//!
//! Two marks divide the free space. Below the reserve nothing is accepted that makes the store
//! grow; below the low mark nothing is written at all. What was accepted and is not on the disk yet
//! counts as used: requests in progress, and records of the journal that the tables hold in memory
//! alone.
//!
//! Other processes can fill the disk between two checks. A write that finds no room therefore does
//! not fail: first the ballast is released ([`Ballast`]), then the write waits until there is room
//! again, and writes of the tables are kept in memory (`table_file.rs`). That is a state of its own
//! ([`RoomState::Waiting`]).

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::ballast::Ballast;
use super::error::{Error, is_full};

/// Largest low mark, and largest ballast, in bytes: the tables of one journal.
pub(super) const MOST_KEPT: u64 = 64 * 1024 * 1024;
/// Bytes that a byte of a request can take in the tables: redb stores a large value in a page whose
/// size is a power of two.
const TABLE_FACTOR: u64 = 2;
/// Approximate bytes that an item of a request takes in the tables besides its own.
const ITEM_BYTES: u64 = 4096;
/// Smallest number of bytes for which a checkpoint is made to regain room.
const MIN_FLUSH: u64 = 1024 * 1024;
/// How long a thread that waits for room sleeps before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns true when a start that waits for room should be abandoned.
pub type StopSignal = Arc<dyn Fn() -> bool + Send + Sync>;

/// How much room the disk of the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoomState {
    /// Everything is accepted.
    #[default]
    Enough,
    /// Less than the reserve is free: nothing is accepted that makes the store grow.
    NearlyFull,
    /// Less than the low mark is free: nothing is written.
    Full,
    /// The disk has no room for acknowledged data, and a thread waits for room.
    Waiting,
}

impl RoomState {
    /// Every state, from most to least room.
    pub const ALL: [Self; 4] = [Self::Enough, Self::NearlyFull, Self::Full, Self::Waiting];

    /// The name in answers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::NearlyFull => "nearly_full",
            Self::Full => "full",
            Self::Waiting => "waiting_for_room",
        }
    }

    /// Whether small changes are also refused.
    #[must_use]
    pub const fn stands_still(self) -> bool {
        matches!(self, Self::Full | Self::Waiting)
    }
}

/// A refusal because too little is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Free bytes without what was accepted and is not on the disk yet.
    pub available: u64,
    /// Bytes that must stay free.
    pub mark: u64,
}

/// How much room there is, and how many threads wait for some. Sizes are in bytes.
#[derive(Default)]
pub struct Room {
    /// The open data directory; a store without one has unlimited room.
    dir: Option<File>,
    ballast: Option<Ballast>,
    /// What must stay free; 0 keeps nothing.
    reserve: AtomicU64,
    /// Free bytes at the last check.
    free: AtomicU64,
    /// Bytes written to files since the last check.
    spent: AtomicU64,
    /// Bytes that accepted requests in progress will take.
    in_flight: AtomicU64,
    /// Bytes of the tables for the records of the journal that no checkpoint has made durable, by
    /// the parity of their generation.
    unflushed: [AtomicU64; 2],
    /// Threads that wait for room.
    waiting: AtomicUsize,
    /// Whether a checkpoint would show that there is room.
    flush_wanted: AtomicBool,
    /// Whether a thread that finds no room waits; otherwise it fails.
    patient: AtomicBool,
    given_up: AtomicBool,
    stop: Option<StopSignal>,
    looking: Mutex<()>,
    /// Whether a test sets the free bytes.
    #[cfg(test)]
    is_simulated: bool,
}

impl fmt::Debug for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Room").field("free", &self.free).finish_non_exhaustive()
    }
}

/// Room that is reserved for a request until this is dropped.
#[derive(Debug)]
#[must_use = "the room is given back when it is dropped"]
pub struct RoomReservation {
    room: Arc<Room>,
    cost: u64,
}

impl Drop for RoomReservation {
    fn drop(&mut self) {
        self.room.in_flight.fetch_sub(self.cost, Ordering::AcqRel);
    }
}

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(false) };
}

/// Lets the calling thread wait for the tables even while they wait for room. Other threads get
/// [`super::Error::NoRoom`] then.
pub fn wait_for_room_on_this_thread() {
    MAY_WAIT.set(true);
}

/// Whether the calling thread waits for tables that wait for room.
pub(super) fn may_wait() -> bool {
    MAY_WAIT.get()
}

/// The low mark for a reserve; the ballast has the same size.
const fn low_mark(reserve: u64) -> u64 {
    if reserve / 4 < MOST_KEPT { reserve / 4 } else { MOST_KEPT }
}

impl Room {
    /// The room of a data directory. `stop` ends the wait of a start; without it, writes that find
    /// no room fail until [`Self::keep`].
    pub(super) fn of(dir: &Path, stop: Option<StopSignal>) -> Arc<Self> {
        let patient = AtomicBool::new(stop.is_some());
        let (dir, ballast) = (File::open(dir).ok(), Some(Ballast::new(dir)));
        let room = Self { dir, ballast, patient, stop, ..Self::default() };
        room.look();
        Arc::new(room)
    }

    /// Sets how much must stay free, creates the ballast for it in the background, and from now on
    /// lets threads wait for room.
    pub fn keep(self: &Arc<Self>, reserve: u64) {
        self.reserve.store(reserve, Ordering::Release);
        self.patient.store(true, Ordering::Release);
        if let Some(ballast) = &self.ballast {
            ballast.set_size(low_mark(reserve));
        }
        self.restore_ballast();
    }

    /// Bytes that must stay free.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Acquire)
    }

    /// Free bytes at the last check.
    #[must_use]
    pub fn free(&self) -> u64 {
        #[cfg(test)]
        if self.is_simulated {
            return self.free.load(Ordering::Acquire);
        }
        if self.dir.is_some() { self.free.load(Ordering::Acquire) } else { u64::MAX }
    }

    /// Asks the system how much is free. If the system does not say, the last value stands.
    pub fn look(&self) {
        let Some(dir) = &self.dir else { return };
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = self.spent.load(Ordering::Acquire);
        if let Ok(stats) = rustix::fs::fstatvfs(dir) {
            self.free.store(stats.f_bavail.saturating_mul(stats.f_frsize), Ordering::Release);
            self.spent.fetch_sub(spent, Ordering::AcqRel);
        }
    }

    /// Free bytes without a missing ballast, which comes first.
    fn free_behind_ballast(&self) -> u64 {
        self.free().saturating_sub(self.ballast.as_ref().map_or(0, Ballast::missing))
    }

    fn unflushed(&self) -> u64 {
        let sum = |sum: u64, bytes: &AtomicU64| sum.saturating_add(bytes.load(Ordering::Acquire));
        self.unflushed.iter().fold(0, sum)
    }

    /// Free bytes without what was accepted and is not on the disk yet.
    #[must_use]
    pub fn available(&self) -> u64 {
        let accepted = [self.spent.load(Ordering::Acquire), self.in_flight.load(Ordering::Acquire), self.unflushed()];
        accepted.into_iter().fold(self.free_behind_ballast(), u64::saturating_sub)
    }

    /// How much room there is, as of the last check.
    #[must_use]
    pub fn state(&self) -> RoomState {
        let (available, reserve) = (self.available(), self.reserve());
        if self.is_waiting() {
            RoomState::Waiting
        } else if available < low_mark(reserve) {
            RoomState::Full
        } else if available < reserve {
            RoomState::NearlyFull
        } else {
            RoomState::Enough
        }
    }

    /// Whether a thread waits for room.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Reserves room for a request of this number of items and bytes.
    pub fn admit(self: &Arc<Self>, items: u64, bytes: u64) -> Result<RoomReservation, Shortage> {
        let cost = bytes.saturating_mul(TABLE_FACTOR).saturating_add(items.saturating_mul(ITEM_BYTES));
        self.in_flight.fetch_add(cost, Ordering::AcqRel);
        // If there is no room, the reservation is dropped and thereby undone.
        let admission = RoomReservation { room: Arc::clone(self), cost };
        self.require(self.reserve()).map(|()| admission)
    }

    /// Refuses a small change if there is no room for it.
    pub fn admit_small(&self) -> Result<(), Shortage> {
        self.require(low_mark(self.reserve()))
    }

    fn require(&self, mark: u64) -> Result<(), Shortage> {
        // Other processes can use the disk between two checks: at most an eighth of the reserve is
        // given away unchecked.
        if self.spent.load(Ordering::Acquire) > self.reserve() / 8 || self.available() < mark {
            self.look();
        }
        let available = self.available();
        if available >= mark && !self.is_waiting() {
            return Ok(());
        }
        self.want_flush(mark);
        Err(Shortage { available, mark })
    }

    /// Why small changes are refused.
    #[must_use]
    pub fn shortage(&self) -> Shortage {
        Shortage { available: self.available(), mark: low_mark(self.reserve()) }
    }

    /// Requests a checkpoint if it would show that there is room and is certain to have room
    /// itself.
    fn want_flush(&self, mark: u64) {
        let unflushed = self.unflushed();
        if unflushed >= MIN_FLUSH && !self.is_waiting() && self.free_behind_ballast() >= mark.max(unflushed) {
            self.flush_wanted.store(true, Ordering::Release);
        }
    }

    /// Whether a checkpoint would show that there is room. Resets the request.
    pub fn take_flush_wanted(&self) -> bool {
        if self.state().stands_still() {
            self.want_flush(low_mark(self.reserve()));
        }
        self.flush_wanted.swap(false, Ordering::AcqRel)
    }

    /// Counts bytes written to a content file.
    pub(super) fn spend(&self, bytes: u64) {
        self.spent.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts a record of the journal, whose space is its own: the resulting changes of the tables
    /// are not on the disk yet.
    pub(super) fn add_unflushed(&self, generation: u64, bytes: u64) {
        self.of_generation(generation).fetch_add(bytes.saturating_mul(TABLE_FACTOR), Ordering::AcqRel);
    }

    /// Records a durable checkpoint, which this generation follows.
    pub(super) fn flushed_before(&self, generation: u64) {
        self.look();
        self.of_generation(generation.wrapping_sub(1)).store(0, Ordering::Release);
    }

    const fn of_generation(&self, generation: u64) -> &AtomicU64 {
        let [even, odd] = &self.unflushed;
        if generation.is_multiple_of(2) { even } else { odd }
    }

    /// Makes all waits for room fail from now on.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// Whether a thread that finds no room waits for some.
    pub(crate) fn may_pause(&self) -> bool {
        let is_stopped = self.stop.as_ref().is_some_and(|stop| stop());
        self.patient.load(Ordering::Acquire) && !self.given_up.load(Ordering::Acquire) && !is_stopped
    }

    /// Creates the ballast again once there is room for it, on a thread of its own.
    pub fn restore_ballast(self: &Arc<Self>) {
        let Some(ballast) = &self.ballast else { return };
        let missing = ballast.missing();
        let has_room = self.available() >= self.reserve();
        if missing == 0 || !has_room || self.is_waiting() || !ballast.begin_making() {
            return;
        }
        let room = Arc::clone(self);
        let make = move || {
            if let Some(ballast) = &room.ballast {
                ballast.make();
                room.look();
            }
        };
        if thread::Builder::new().name("dats-ballast".to_owned()).spawn(make).is_err() {
            ballast.end_making();
        }
    }

    /// Releases the ballast. Returns whether there was one.
    pub(super) fn release_ballast(&self) -> bool {
        self.look();
        let is_released = self.ballast.as_ref().is_some_and(Ballast::release);
        self.look();
        is_released
    }

    /// Repeats a write while it finds no room.
    pub(super) fn retry<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut wait = self.wait();
        loop {
            match work() {
                Err(error) if is_full(&error) => wait.pause(error)?,
                result => return result,
            }
        }
    }

    /// Starts an operation that may have to wait for room.
    pub(crate) const fn wait(&self) -> Wait<'_> {
        Wait { room: self, is_counted: false }
    }
}

/// An operation that may have to wait for room.
pub(crate) struct Wait<'a> {
    room: &'a Room,
    is_counted: bool,
}

impl Wait<'_> {
    /// Returns when a write that found no room may be tried again. Returns the error if threads do
    /// not wait.
    pub(super) fn pause(&mut self, error: io::Error) -> io::Result<()> {
        if self.room.release_ballast() {
            return Ok(());
        }
        self.begin(error)?;
        thread::sleep(PAUSE);
        Ok(())
    }

    /// Begins or continues the wait for room for a checkpoint. Fails if threads do not wait.
    pub(crate) fn go_on(&mut self) -> Result<(), Error> {
        let full = io::Error::from(ErrorKind::StorageFull);
        self.begin(full).map_err(|error| Error::Unknown(Box::new(redb::Error::Io(error))))
    }

    /// Begins or continues the wait. Returns the error if threads do not wait.
    fn begin(&mut self, error: io::Error) -> io::Result<()> {
        if !self.room.may_pause() {
            return Err(error);
        }
        if !self.is_counted {
            self.is_counted = true;
            self.room.waiting.fetch_add(1, Ordering::AcqRel);
            tracing::warn!(%error, "disk full, waiting for room for acknowledged changes");
        }
        Ok(())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.room.waiting.fetch_sub(1, Ordering::AcqRel);
            tracing::info!("disk has room again");
        }
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
