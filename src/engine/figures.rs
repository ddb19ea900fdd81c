//! Figures for metrics and health.

use super::api::Queue;
use super::dead_letters::LetterCounts;
use super::readers::Behind;
use crate::store::{Counters, RoomState};
use crate::task::{Moment, Tier};

/// How estimates compare with what tasks took, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimates {
    /// Tasks that completed by their estimate.
    pub kept: u64,
    /// Tasks that completed after it.
    pub missed: u64,
    /// Tasks by actual against estimated time, in classes up to
    /// [`Self::BOUNDS`], and those above.
    pub ratios: [u64; 10],
    /// The sum of all these ratios.
    pub ratio_sum: f64,
}

/// Figures for metrics and health.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// All tasks by phase.
    pub counters: Counters,
    /// Projects that exist.
    pub projects: u64,
    /// Projects that are paused.
    pub paused_projects: u64,
    /// Since when the oldest task waits to be routed, at most a second old.
    pub oldest_analyzing: Option<Moment>,
    /// Since when the oldest task waits for a slot, at most a second old.
    pub oldest_queued: Option<Moment>,
    /// The work queues.
    pub queues: Vec<Queue>,
    /// How estimates compare with what tasks took.
    pub estimates: Estimates,
    /// The newest position of the log.
    pub head: u64,
    /// The oldest position that the log still has.
    pub tail: u64,
    /// What the readers of the log have not taken, at most a second old.
    pub readers: Vec<Behind>,
    /// Commits since the start.
    pub commits: u64,
    /// Commands since the start.
    pub commands: u64,
    /// Time the writer spent on them, in microseconds.
    pub writer_busy_micros: u64,
    /// The longest commit since the start, in milliseconds.
    pub longest_commit_ms: u64,
    /// Longest time that the writer took for a group beside making it durable, in
    /// microseconds: what follows is decided no sooner.
    pub longest_step_micros: u64,
    /// Commands that wait for the writer.
    pub queued_commands: u64,
    /// Events taken since the start, by outcome: applied, stale, parked, duplicate.
    pub events: [u64; 4],
    /// Dead letters in numbers.
    pub dead_letters: LetterCounts,
    /// Bytes of the store's file.
    pub store_bytes: u64,
    /// Tasks whose answer is kept in memory.
    pub hot_tasks: u64,
    /// Free space on the disk of the data directory, in MiB.
    pub free_mib: u64,
    /// What makes the store grow is refused when less is free, in MiB.
    pub reserve_mib: u64,
    /// How much room that is.
    pub room: RoomState,
}

impl Figures {
    /// The tiers that are paused.
    pub fn paused_tiers(&self) -> impl Iterator<Item = &Tier> {
        self.queues.iter().filter(|queue| queue.paused_at.is_some()).map(|queue| &queue.tier)
    }

    /// Whether something is refused because the disk is nearly full.
    #[must_use]
    pub fn is_disk_low(&self) -> bool {
        self.room != RoomState::Enough
    }
}
