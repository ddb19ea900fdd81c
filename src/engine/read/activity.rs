//! Figures of the writer's work, and the time of its last commit.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::api::Figures;
use crate::task::Moment;

/// Duration from which a commit is logged.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Figures of the writer's work since the start.
#[derive(Debug)]
pub(in crate::engine) struct WriterActivity {
    commands: AtomicU64,
    busy_micros: AtomicU64,
    longest_commit_ms: AtomicU64,
    longest_step_micros: AtomicU64,
    /// Time of the last committed group, in microseconds of observed time.
    committed_at: AtomicI64,
}

impl WriterActivity {
    pub(super) const fn new() -> Self {
        Self {
            commands: AtomicU64::new(0),
            busy_micros: AtomicU64::new(0),
            longest_commit_ms: AtomicU64::new(0),
            longest_step_micros: AtomicU64::new(0),
            committed_at: AtomicI64::new(i64::MIN),
        }
    }

    /// Counts a group that took `busy`, which includes `committing` until it was durable.
    pub(in crate::engine) fn record_group(&self, commands: u64, busy: Duration, committing: Duration) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
        self.busy_micros.fetch_add(micros(busy), Ordering::Relaxed);
        self.longest_step_micros.fetch_max(micros(busy.saturating_sub(committing)), Ordering::Relaxed);
    }

    /// Records the duration of a commit, and logs a long one: every client waits for it.
    pub(in crate::engine) fn record_commit_time(&self, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.longest_commit_ms.fetch_max(took_ms, Ordering::Relaxed);
        if took >= SLOW_COMMIT {
            tracing::warn!(took_ms, "a commit took long; the disk is slow, or a checkpoint had much to write");
        }
    }

    /// Records that a group of this time is committed.
    pub(in crate::engine) fn record_committed(&self, at: Moment) {
        self.committed_at.fetch_max(at.as_micros(), Ordering::AcqRel);
    }

    /// Returns the time of the last committed group.
    pub(in crate::engine) fn committed_at(&self) -> Moment {
        Moment::from_micros(self.committed_at.load(Ordering::Acquire))
    }

    /// Returns `figures` with those of the writer's work.
    pub(super) fn add_to(&self, figures: Figures) -> Figures {
        Figures {
            commands: self.commands.load(Ordering::Relaxed),
            longest_commit_ms: self.longest_commit_ms.load(Ordering::Relaxed),
            longest_step_micros: self.longest_step_micros.load(Ordering::Relaxed),
            writer_busy_micros: self.busy_micros.load(Ordering::Relaxed),
            ..figures
        }
    }
}
