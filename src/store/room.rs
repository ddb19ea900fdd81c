//! Room on the disk: how much the store may still take, and what happens when
//! the disk has nothing left.
//!
//! Two marks divide the free space. Below the reserve nothing is taken that
//! makes the store grow; below the low mark nothing is written at all. What was
//! accepted and is not on the disk yet counts as used: requests under way, and
//! records of the journal that the tables have in memory alone.
//!
//! Somebody else can fill the disk between two looks. So a write that finds no
//! room does not fail: first the ballast is given up ([`Ballast`]), then what was
//! to be written waits until there is room again, that of the tables in memory
//! (`cautious.rs`). That is a named state ([`RoomState::Waiting`]).

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
/// Bytes that a byte of a request can take in the tables: redb keeps a large
/// value in a page whose size is a power of two.
const TABLE_FACTOR: u64 = 2;
/// Bytes that an item of a request takes in the tables beside its own, about.
const ITEM_BYTES: u64 = 4096;
/// Least that a checkpoint must make durable to be worth while for room, in bytes.
const MIN_FLUSH: u64 = 1024 * 1024;
/// How long a thread that waits for room sleeps before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// Decides whether a start that waits for room is given up.
pub type StopSignal = Arc<dyn Fn() -> bool + Send + Sync>;

/// How much room there is on the disk of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoomState {
    /// Everything is taken.
    #[default]
    Enough,
    /// Less than the reserve is free: nothing is taken that makes the store grow.
    NearlyFull,
    /// Less than the low mark is free: nothing is written.
    Full,
    /// The disk has no room for what was acknowledged: a thread waits for room.
    Waiting,
}

impl RoomState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Enough, Self::NearlyFull, Self::Full, Self::Waiting];

    /// Its name in answers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::NearlyFull => "nearly_full",
            Self::Full => "full",
            Self::Waiting => "waiting_for_room",
        }
    }

    /// Whether small changes are refused, too.
    #[must_use]
    pub const fn stands_still(self) -> bool {
        matches!(self, Self::Full | Self::Waiting)
    }
}

/// Why something is not taken: too little is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Free bytes, less what was accepted and is not on the disk yet.
    pub available: u64,
    /// Bytes that must stay free.
    pub mark: u64,
}

/// How much room there is, and who waits for some. Sizes are in bytes.
#[derive(Default)]
pub struct Room {
    /// The data directory, open; a store without one has room without end.
    dir: Option<File>,
    ballast: Option<Ballast>,
    /// What must stay free; 0: nothing is kept.
    reserve: AtomicU64,
    /// What was free at the last look.
    free: AtomicU64,
    /// Written to files since the last look.
    spent: AtomicU64,
    /// What accepted requests under way will take.
    in_flight: AtomicU64,
    /// What the tables take for the records of the journal that no checkpoint
    /// has made durable, by the parity of their generation.
    unflushed: [AtomicU64; 2],
    /// Threads that wait for room.
    waiting: AtomicUsize,
    /// A checkpoint would show that there is room.
    flush_wanted: AtomicBool,
    /// A thread that finds no room waits; otherwise it fails.
    patient: AtomicBool,
    given_up: AtomicBool,
    stop: Option<StopSignal>,
    looking: Mutex<()>,
    /// What is free is what a test says.
    #[cfg(test)]
    is_simulated: bool,
}

impl fmt::Debug for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Room").field("free", &self.free).finish_non_exhaustive()
    }
}

/// Room that is set aside for a request, until this is dropped.
#[derive(Debug)]
#[must_use = "the room is given back when it is dropped"]
pub struct Admission {
    room: Arc<Room>,
    cost: u64,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.room.in_flight.fetch_sub(self.cost, Ordering::AcqRel);
    }
}

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread waits for the tables also while they wait for room. Other
/// threads get [`super::Error::NoRoom`] then.
pub fn wait_for_room_on_this_thread() {
    MAY_WAIT.set(true);
}

/// Whether the calling thread waits for tables that wait for room.
pub(super) fn may_wait() -> bool {
    MAY_WAIT.get()
}

/// The low mark that belongs to a reserve; the ballast is as large.
const fn low_mark(reserve: u64) -> u64 {
    if reserve / 4 < MOST_KEPT { reserve / 4 } else { MOST_KEPT }
}

impl Room {
    /// The room of a data directory. `stop` ends the wait of a start; without
    /// it, what finds no room fails until [`Self::be_patient`].
    pub(super) fn of(dir: &Path, stop: Option<StopSignal>) -> Arc<Self> {
        let patient = AtomicBool::new(stop.is_some());
        let (dir, ballast) = (File::open(dir).ok(), Some(Ballast::new(dir)));
        let room = Self { dir, ballast, patient, stop, ..Self::default() };
        room.look();
        Arc::new(room)
    }

    /// Sets how much must stay free, makes the ballast that belongs to it in the
    /// background, and from now on lets threads wait that find no room.
    pub fn keep(self: &Arc<Self>, reserve: u64) {
        self.reserve.store(reserve, Ordering::Release);
        self.patient.store(true, Ordering::Release);
        if let Some(ballast) = &self.ballast {
            ballast.set_size(low_mark(reserve));
        }
        self.restore_ballast();
    }

    /// What must stay free.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Acquire)
    }

    /// What was free at the last look.
    #[must_use]
    pub fn free(&self) -> u64 {
        #[cfg(test)]
        if self.is_simulated {
            return self.free.load(Ordering::Acquire);
        }
        if self.dir.is_some() { self.free.load(Ordering::Acquire) } else { u64::MAX }
    }

    /// Asks the system how much is free. Where it does not say, what it said last
    /// holds.
    pub fn look(&self) {
        let Some(dir) = &self.dir else { return };
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = self.spent.load(Ordering::Acquire);
        if let Ok(stats) = rustix::fs::fstatvfs(dir) {
            self.free.store(stats.f_bavail.saturating_mul(stats.f_frsize), Ordering::Release);
            self.spent.fetch_sub(spent, Ordering::AcqRel);
        }
    }

    /// What is free behind the ballast, which comes first where it is missing.
    fn free_behind_ballast(&self) -> u64 {
        self.free().saturating_sub(self.ballast.as_ref().map_or(0, Ballast::missing))
    }

    fn unflushed(&self) -> u64 {
        let sum = |sum: u64, bytes: &AtomicU64| sum.saturating_add(bytes.load(Ordering::Acquire));
        self.unflushed.iter().fold(0, sum)
    }

    /// What is free, less what was accepted and is not on the disk yet.
    #[must_use]
    pub fn available(&self) -> u64 {
        let accepted = [self.spent.load(Ordering::Acquire), self.in_flight.load(Ordering::Acquire), self.unflushed()];
        accepted.into_iter().fold(self.free_behind_ballast(), u64::saturating_sub)
    }

    /// How much room there is, as of the last look.
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

    /// Sets room aside for a request of so many items, which have so many bytes
    /// in all.
    pub fn admit(self: &Arc<Self>, items: u64, bytes: u64) -> Result<Admission, Shortage> {
        let cost = bytes.saturating_mul(TABLE_FACTOR).saturating_add(items.saturating_mul(ITEM_BYTES));
        self.in_flight.fetch_add(cost, Ordering::AcqRel);
        // Dropped, and with it the room given back, where there is none.
        let admission = Admission { room: Arc::clone(self), cost };
        self.require(self.reserve()).map(|()| admission)
    }

    /// Whether there is room for a change that is small.
    pub fn admit_small(&self) -> Result<(), Shortage> {
        self.require(low_mark(self.reserve()))
    }

    fn require(&self, mark: u64) -> Result<(), Shortage> {
        // Between two looks others can use the disk, too: at most an eighth of the
        // reserve is given away unseen.
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

    /// A checkpoint is wanted where it would show that there is room. It is sure
    /// to have room itself.
    fn want_flush(&self, mark: u64) {
        let unflushed = self.unflushed();
        if unflushed >= MIN_FLUSH && !self.is_waiting() && self.free_behind_ballast() >= mark.max(unflushed) {
            self.flush_wanted.store(true, Ordering::Release);
        }
    }

    /// Whether a checkpoint would show that there is room; asked once.
    pub fn take_flush_wanted(&self) -> bool {
        if self.state().stands_still() {
            self.want_flush(low_mark(self.reserve()));
        }
        self.flush_wanted.swap(false, Ordering::AcqRel)
    }

    /// Bytes were written to a file of a content.
    pub(super) fn spend(&self, bytes: u64) {
        self.spent.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A record was written to the journal, whose space is its own: what the
    /// tables make of it is not on the disk yet.
    pub(super) fn add_unflushed(&self, generation: u64, bytes: u64) {
        self.of_generation(generation).fetch_add(bytes.saturating_mul(TABLE_FACTOR), Ordering::AcqRel);
    }

    /// A checkpoint is durable, which is followed by this generation.
    pub(super) fn flushed_before(&self, generation: u64) {
        self.look();
        self.of_generation(generation.wrapping_sub(1)).store(0, Ordering::Release);
    }

    const fn of_generation(&self, generation: u64) -> &AtomicU64 {
        let [even, odd] = &self.unflushed;
        if generation.is_multiple_of(2) { even } else { odd }
    }

    /// From now on nobody waits for room: what waits fails.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// Whether a thread that finds no room waits for some.
    pub(crate) fn may_pause(&self) -> bool {
        let is_stopped = self.stop.as_ref().is_some_and(|stop| stop());
        self.patient.load(Ordering::Acquire) && !self.given_up.load(Ordering::Acquire) && !is_stopped
    }

    /// Makes the ballast again once there is room for it, on a thread of its own.
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

    /// Gives the ballast up; whether there was one.
    pub(super) fn release_ballast(&self) -> bool {
        self.look();
        let is_released = self.ballast.as_ref().is_some_and(Ballast::release);
        self.look();
        is_released
    }

    /// Does something that writes, again and again while it finds no room.
    pub(super) fn retry<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut wait = self.wait();
        loop {
            match work() {
                Err(error) if is_full(&error) => wait.pause(error)?,
                result => return result,
            }
        }
    }

    /// Begins to do something that may have to wait for room.
    pub(crate) const fn wait(&self) -> Wait<'_> {
        Wait { room: self, is_counted: false }
    }
}

/// Something that may have to wait for room.
pub(crate) struct Wait<'a> {
    room: &'a Room,
    is_counted: bool,
}

impl Wait<'_> {
    /// The write has found no room: returns when it may be tried again. Gives
    /// the error back where nobody waits.
    pub(super) fn pause(&mut self, error: io::Error) -> io::Result<()> {
        if self.room.release_ballast() {
            return Ok(());
        }
        self.begin(error)?;
        thread::sleep(PAUSE);
        Ok(())
    }

    /// The wait for room for a checkpoint begins, or goes on; an error where nobody
    /// waits.
    pub(crate) fn go_on(&mut self) -> Result<(), Error> {
        let full = io::Error::from(ErrorKind::StorageFull);
        self.begin(full).map_err(|error| Error::Unknown(Box::new(redb::Error::Io(error))))
    }

    /// The wait begins, or goes on. Gives the error back where nobody waits.
    fn begin(&mut self, error: io::Error) -> io::Result<()> {
        if !self.room.may_pause() {
            return Err(error);
        }
        if !self.is_counted {
            self.is_counted = true;
            self.room.waiting.fetch_add(1, Ordering::AcqRel);
            tracing::warn!(%error, "the disk has no room for what was acknowledged; waiting for room");
        }
        Ok(())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.room.waiting.fetch_sub(1, Ordering::AcqRel);
            tracing::info!("no longer waiting for room on the disk");
        }
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
