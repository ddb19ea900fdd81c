//! The progress of the writer and of the thread of the tables, and the watchdog that detects
//! when one of them stalls.
//!
//! Each thread records what it is about to do and counts its steps. The watchdog checks both
//! from a thread of its own. A thread that has work and has made no step for [`STALL`], in two
//! checks in a row, is stalled for good. Then the process must end, because requests that wait
//! for the thread would wait for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::store::Room;

/// How often the watchdog checks.
const CHECK_PERIOD: Duration = Duration::from_secs(5);
/// Longest time that a thread with work may take for one step.
const STALL: Duration = Duration::from_secs(30);
/// Time without a step after which the service reports that it is not ready.
const UNREADY: Duration = Duration::from_secs(10);

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Activity {
    /// Waiting for work.
    Idle,
    /// Deciding what commands and timers change.
    Deciding,
    /// Making a batch durable, for which it may have to wait for the tables.
    Committing,
    /// Handing a batch over to the thread of the tables, which may be behind.
    HandingOver,
    /// Applying batches to the tables.
    Applying,
}

impl Activity {
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
            Self::HandingOver => "handing a batch over to the thread of the tables",
            Self::Applying => "applying batches to the tables",
        }
    }
}

/// The progress of one thread.
#[derive(Debug, Default)]
pub(in crate::engine) struct Track {
    activity: AtomicU8,
    steps: AtomicU64,
}

impl Track {
    /// Records that the thread begins another activity, or the next step of the same.
    pub(in crate::engine) fn enter(&self, activity: Activity) {
        self.activity.store(activity.code(), Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> (Activity, u64) {
        let code = self.activity.load(Ordering::Relaxed);
        let activity = Activity::ALL.into_iter().find(|activity| activity.code() == code);
        (activity.unwrap_or(Activity::Idle), self.steps.load(Ordering::Relaxed))
    }
}

/// The progress of the two threads on which requests wait.
#[derive(Debug, Default)]
pub(in crate::engine) struct Progress {
    pub(in crate::engine) writer: Track,
    pub(in crate::engine) tables: Track,
    /// Whether one of them has work and has made no step for [`UNREADY`].
    is_stuck: AtomicBool,
    stopped: AtomicBool,
}

impl Progress {
    /// Records that the threads end, so that the watchdog ends too.
    pub(in crate::engine) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether one of them has work and has made no step for some seconds.
    pub(in crate::engine) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Acquire)
    }
}

/// What the watchdog knows of a thread.
#[derive(Debug, Default)]
struct Seen {
    steps: u64,
    /// When the thread was first seen at this step.
    since: Duration,
    /// Checks in a row at which it had been at this step for too long.
    strikes: u32,
}

impl Seen {
    /// Checks a thread. Returns for how long it has made no step.
    fn check(&mut self, (activity, steps): (Activity, u64), waits_for_room: bool, now: Duration) -> Duration {
        if waits_for_room || activity == Activity::Idle || steps != self.steps {
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

/// What the watchdog knows of both threads.
#[derive(Debug, Default)]
struct Watchdog {
    writer: Seen,
    tables: Seen,
}

impl Watchdog {
    /// Checks both threads. Returns what each is doing, if one is stalled. Neither counts as
    /// stalled while one of them waits for room on the disk, because the other waits with it.
    fn check(&mut self, progress: &Progress, waits_for_room: bool, now: Duration) -> Option<String> {
        let (writer, tables) = (progress.writer.now(), progress.tables.now());
        // While the writer waits for the tables, their steps count as its own.
        let waits = matches!(writer.0, Activity::Committing | Activity::HandingOver);
        let steps = if waits { writer.1.wrapping_add(tables.1) } else { writer.1 };
        let writer_still = self.writer.check((writer.0, steps), waits_for_room, now);
        let still = [writer_still, self.tables.check(tables, waits_for_room, now)];
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
pub(in crate::engine) fn watch(
    progress: Arc<Progress>,
    room: Arc<Room>,
    on_stall: impl FnOnce(&str) + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        let (started, mut watchdog) = (Stopwatch::start(), Watchdog::default());
        loop {
            thread::sleep(CHECK_PERIOD);
            if progress.stopped.load(Ordering::Acquire) {
                return;
            }
            if let Some(stall) = watchdog.check(&progress, room.is_waiting(), started.elapsed()) {
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
        seconds.iter().map(|second| watchdog.check(progress, false, Duration::from_secs(*second)).is_some()).collect()
    }

    #[test]
    fn a_thread_with_work_that_makes_no_step_is_stalled_at_the_second_check() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        progress.writer.enter(Activity::Committing);
        assert_eq!(looks(&progress, &mut watchdog, &[5, 10, 14]), [false, false, false]);
        assert!(!progress.is_stuck());
        assert_eq!(looks(&progress, &mut watchdog, &[15, 34, 35, 40]), [false, false, false, true]);
        assert!(progress.is_stuck());
        progress.writer.enter(Activity::Committing);
        assert_eq!(looks(&progress, &mut watchdog, &[45, 50]), [false, false]);
        assert!(!progress.is_stuck());
    }

    #[test]
    fn an_idle_thread_is_never_stalled() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        assert_eq!(looks(&progress, &mut watchdog, &[5, 100, 200, 300]), [false; 4]);
    }

    #[test]
    fn a_process_that_was_suspended_gets_a_second_check() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        progress.writer.enter(Activity::Deciding);
        assert_eq!(looks(&progress, &mut watchdog, &[5, 605]), [false, false]);
        progress.writer.enter(Activity::Committing);
        assert_eq!(looks(&progress, &mut watchdog, &[610, 615]), [false, false]);
    }

    #[test]
    fn a_thread_that_waits_for_room_on_the_disk_is_never_stalled() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        progress.writer.enter(Activity::Committing);
        progress.tables.enter(Activity::Applying);
        for second in (5..600).step_by(5) {
            assert_eq!(watchdog.check(&progress, true, Duration::from_secs(second)), None);
            assert!(!progress.is_stuck());
        }
        assert_eq!(looks(&progress, &mut watchdog, &[605, 615, 620, 626, 631]), [false, false, false, false, true]);
    }

    #[test]
    fn the_writer_may_wait_while_the_tables_move() {
        let (progress, mut watchdog) = (Progress::default(), Watchdog::default());
        progress.writer.enter(Activity::HandingOver);
        for second in (5..200).step_by(5) {
            progress.tables.enter(Activity::Applying);
            assert_eq!(looks(&progress, &mut watchdog, &[second]), [false]);
        }
        let stalled = looks(&progress, &mut watchdog, &[200, 230, 235]);
        assert_eq!(stalled.last(), Some(&true), "neither makes a step: {stalled:?}");
    }
}
