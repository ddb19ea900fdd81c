//! Figures for metrics and health.

use super::dead_letters::DeadLetterCounts;
use super::log::ReaderLag;
use super::work::WorkQueue;
use crate::store::{Counters, RoomState};
use crate::task::{Moment, Tier};

/// Accuracy of the estimated completion times, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimates {
    /// Tasks that completed by their estimate.
    pub kept: u64,
    /// Tasks that completed after it.
    pub missed: u64,
    /// Tasks by the ratio of actual to estimated time: one class up to each of
    /// [`Self::BOUNDS`], and one above.
    pub ratios: [u64; 10],
    /// Sum of all these ratios.
    pub ratio_sum: f64,
}

/// Figures for metrics and health.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Number of all tasks by phase.
    pub counters: Counters,
    /// Projects that are not deleted.
    pub projects: u64,
    /// Projects that are paused.
    pub paused_projects: u64,
    /// Time since which the oldest task waits to be routed; at most a second old.
    pub oldest_analyzing: Option<Moment>,
    /// Time since which the oldest task waits for a slot; at most a second old.
    pub oldest_queued: Option<Moment>,
    /// The work queues.
    pub queues: Vec<WorkQueue>,
    /// Accuracy of the estimated completion times.
    pub estimates: Estimates,
    /// Newest position of the log.
    pub head: u64,
    /// Oldest position that the log still has.
    pub tail: u64,
    /// Lag of the readers of the log; at most a second old.
    pub readers: Vec<ReaderLag>,
    /// Commits since the start.
    pub commits: u64,
    /// Commands since the start.
    pub commands: u64,
    /// Time the writer spent on commands, in microseconds.
    pub writer_busy_micros: u64,
    /// Longest commit since the start, in milliseconds.
    pub longest_commit_ms: u64,
    /// Longest time that the writer took for a group apart from its commit, in
    /// microseconds: later commands wait for it.
    pub longest_step_micros: u64,
    /// Commands that wait for the writer.
    pub queued_commands: u64,
    /// Events accepted since the start, by outcome.
    pub events: EventCounts,
    /// Figures of the dead letters.
    pub dead_letters: DeadLetterCounts,
    /// Bytes of the store's file.
    pub store_bytes: u64,
    /// Tasks whose status answer is in memory.
    pub hot_tasks: u64,
    /// Free space on the disk of the data directory, in MiB.
    pub free_mib: u64,
    /// Free space below which commands that make the store grow are refused, in MiB.
    pub reserve_mib: u64,
    /// State of the free space.
    pub room: RoomState,
}

impl Figures {
    /// Returns the tiers that are paused.
    pub fn paused_tiers(&self) -> impl Iterator<Item = &Tier> {
        self.queues.iter().filter(|queue| queue.paused_at.is_some()).map(|queue| &queue.tier)
    }

    /// Returns whether some commands are refused because the disk is nearly full.
    #[must_use]
    pub fn is_disk_low(&self) -> bool {
        self.room != RoomState::Enough
    }
}

/// Parts of the figures that take a search, so that they are looked up once a second.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Backlog {
    /// Time since which the oldest task waits to be routed.
    pub(in crate::engine) oldest_analyzing: Option<Moment>,
    /// Time since which the oldest task waits for a slot.
    pub(in crate::engine) oldest_queued: Option<Moment>,
    /// Lag of the readers of the log.
    pub(in crate::engine) readers: Vec<ReaderLag>,
}

impl Estimates {
    /// Upper bounds of the classes of actual against estimated time. Ratios above the last
    /// bound are in a class of their own.
    pub const BOUNDS: [f64; 9] = [0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0];
}

/// Events accepted since the start, by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    /// Events that changed a task, a record or a project, or that agreed with its state.
    pub applied: u64,
    /// Events about something that had moved on already.
    pub stale: u64,
    /// Verdicts that wait for their outputs.
    pub parked: u64,
    /// Events that were accepted before.
    pub duplicates: u64,
}

impl EventCounts {
    /// Returns the counts by the name of the outcome.
    #[must_use]
    pub const fn by_outcome(&self) -> [(&'static str, u64); 4] {
        [("applied", self.applied), ("stale", self.stale), ("parked", self.parked), ("duplicate", self.duplicates)]
    }
}
