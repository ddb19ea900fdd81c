//! How far the writer and the thread of the tables are, and the watchdog that
//! notices when one of them stands still.
//!
//! Each thread says what it is about to do and counts its steps. The watchdog
//! looks at both from a thread of its own: one that has work and has made no
//! step for [`STALL`], in two looks in a row, is stalled for good, and the
//! process has to end, since a request that waits for it would wait for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::store::Room;

/// How often the watchdog looks.
const LOOK: Duration = Duration::from_secs(5);
/// Longest time that a thread with work may take for one step.
const STALL: Duration = Duration::from_secs(30);
/// After this long without a step the service says that it is not ready.
const UNREADY: Duration = Duration::from_secs(10);

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Waiting for work.
    Idle,
    /// Deciding what commands and timers change.
    Deciding,
    /// Making a batch durable, for which it may have to wait for the tables.
    Committing,
    /// Handing a batch over to the thread of the tables, which may be behind.
    HandingOver,
    /// Bringing batches into the tables.
    Applying,
}

impl Doing {
    const ALL: [Self; 5] = [Self::Idle, Self::Deciding, Self::Committing, Self::HandingOver, Self::Applying];

    const fn code(self) -> u8 {
        match self {
            Self::Idle => 0,
            Self::Deciding => 1,
            Self::Committing => 2,
            Self::HandingOver => 3,
            Self::Applying => 4,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Deciding => "deciding about commands",
            Self::Committing => "making a batch durable",
            Self::HandingOver => "handing a batch over to the tables",
            Self::Applying => "bringing batches into the tables",
        }
    }
}

/// The progress of one thread.
#[derive(Debug, Default)]
pub(super) struct Track {
    doing: AtomicU8,
    steps: AtomicU64,
}

impl Track {
    /// The thread begins something else, or the next piece of the same.
    pub(super) fn enter(&self, doing: Doing) {
        self.doing.store(doing.code(), Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> (Doing, u64) {
        let code = self.doing.load(Ordering::Relaxed);
        let doing = Doing::ALL.into_iter().find(|doing| doing.code() == code);
        (doing.unwrap_or(Doing::Idle), self.steps.load(Ordering::Relaxed))
    }
}

/// The progress of the threads that everything waits for.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) writer: Track,
    pub(super) tables: Track,
    /// One of them has not moved for a while.
    is_stuck: AtomicBool,
    stopped: AtomicBool,
}

impl Progress {
    /// The threads end: there is nothing to watch any more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether one of them has work and has not moved for some seconds.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Acquire)
    }
}

/// What the watchdog has seen of a thread.
#[derive(Debug, Default)]
struct Seen {
    steps: u64,
    /// When the thread was first seen there.
    since: Duration,
    /// Looks in a row at which it had stood there for too long.
    strikes: u32,
}

impl Seen {
    /// Looks at a thread at a time; for how long it has not moved.
    fn look(&mut self, (doing, steps): (Doing, u64), waits_for_room: bool, now: Duration) -> Duration {
        if waits_for_room || doing == Doing::Idle || steps != self.steps {
            *self = Self { steps, since: now, strikes: 0 };
        }
        let still = now.saturating_sub(self.since);
        self.strikes = if still >= STALL { self.strikes + 1 } else { 0 };
        still
    }

    const fn is_stalled(&self) -> bool {
        self.strikes >= 2
    }
}

/// What the watchdog has seen of both.
#[derive(Debug, Default)]
struct Watchdog {
    writer: Seen,
    tables: Seen,
}

impl Watchdog {
    /// Looks at both at a time; where each stands, if one is stalled. Neither is
    /// while one of them waits for room on the disk, for which the other waits too.
    fn look(&mut self, progress: &Progress, waits_for_room: bool, now: Duration) -> Option<String> {
        let (writer, tables) = (progress.writer.now(), progress.tables.now());
        // While it waits for the tables, their steps are its own.
        let waits = matches!(writer.0, Doing::Committing | Doing::HandingOver);
        let steps = if waits { writer.1.wrapping_add(tables.1) } else { writer.1 };
        let writer_still = self.writer.look((writer.0, steps), waits_for_room, now);
        let still = [writer_still, self.tables.look(tables, waits_for_room, now)];
        progress.is_stuck.store(still.iter().any(|still| *still >= UNREADY), Ordering::Release);
        let is_stalled = self.writer.is_stalled() || self.tables.is_stalled();
        is_stalled.then(|| {
            let [writer_still, tables_still] = still.map(|still| still.as_secs());
            format!(
                "no progress for {} s: the writer is {} ({writer_still} s), the thread of the tables is {} \
                 ({tables_still} s)",
                writer_still.max(tables_still),
                writer.0.as_str(),
                tables.0.as_str()
            )
        })
    }
}

/// Watches the writer and the thread of the tables from a thread of its own, until
/// they end. Calls `on_stall` with a description of both once one of them stalls.
pub(super) fn watch(
    progress: Arc<Progress>,
    room: Arc<Room>,
    on_stall: impl FnOnce(&str) + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        let (started, mut watchdog) = (Stopwatch::start(), Watchdog::default());
        loop {
            thread::sleep(LOOK);
            if progress.stopped.load(Ordering::Acquire) {
                return;
            }
            if let Some(stall) = watchdog.look(&progress, room.is_waiting(), started.elapsed()) {
                return on_stall(&stall);
            }
        }
    };
    thread::Builder::new().name("dats-watchdog".to_owned()).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(progress: &Progress, watchdog: &mut Watchdog, seconds: &[u64]) -> Vec<bool> {
        seconds.iter().map(|second| watchdog.look(progress, false, Duration::from_secs(*second)).is_some()).collect()
    }

    #[test]
    fn who_has_work_and_does_not_move_is_stalled_at_the_second_look() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        progress.writer.enter(Doing::Committing);
        assert_eq!(looks(&progress, &mut watchdog, &[5, 10, 14]), [false, false, false]);
        assert!(!progress.is_stuck());
        assert_eq!(looks(&progress, &mut watchdog, &[15, 34, 35, 40]), [false, false, false, true]);
        assert!(progress.is_stuck());
        progress.writer.enter(Doing::Committing);
        assert_eq!(looks(&progress, &mut watchdog, &[45, 50]), [false, false]);
        assert!(!progress.is_stuck());
    }

    #[test]
    fn who_is_idle_may_stand_for_ever() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        assert_eq!(looks(&progress, &mut watchdog, &[5, 100, 200, 300]), [false; 4]);
    }

    #[test]
    fn a_process_that_was_stopped_gets_a_second_look() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        progress.writer.enter(Doing::Deciding);
        assert_eq!(looks(&progress, &mut watchdog, &[5, 605]), [false, false]);
        progress.writer.enter(Doing::Committing);
        assert_eq!(looks(&progress, &mut watchdog, &[610, 615]), [false, false]);
    }

    #[test]
    fn who_waits_for_room_on_the_disk_may_stand_for_ever() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        progress.writer.enter(Doing::Committing);
        progress.tables.enter(Doing::Applying);
        for second in (5..600).step_by(5) {
            assert_eq!(watchdog.look(&progress, true, Duration::from_secs(second)), None);
            assert!(!progress.is_stuck());
        }
        assert_eq!(looks(&progress, &mut watchdog, &[605, 615, 620, 626, 631]), [false, false, false, false, true]);
    }

    #[test]
    fn the_writer_may_wait_while_the_tables_move() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        progress.writer.enter(Doing::HandingOver);
        for second in (5..200).step_by(5) {
            progress.tables.enter(Doing::Applying);
            assert_eq!(looks(&progress, &mut watchdog, &[second]), [false]);
        }
        let stalled = looks(&progress, &mut watchdog, &[200, 230, 235]);
        assert_eq!(stalled.last(), Some(&true), "neither moves: {stalled:?}");
    }
}
