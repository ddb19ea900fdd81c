//! The choices that the engine is given at start.

use std::time::Duration;

use crate::task::{Policy, Priority, QaProfile, Router, Tier};

/// The choices that the engine is given at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What transitions need.
    pub policy: Policy,
    /// The built-in rule table.
    pub router: Router,
    /// The tiers there are.
    pub tiers: Vec<Tier>,
    /// For submissions that name none.
    pub default_priority: Priority,
    /// For submissions and projects that name none.
    pub default_qa_profile: QaProfile,
    /// Deadline of one attempt's execution, in seconds, for submissions that name none.
    pub default_timeout_seconds: u32,
    /// For submissions that name none.
    pub default_max_attempts: u32,
    /// Slots of a project that names no number.
    pub max_concurrent: u32,
    /// A waiting task rises one class each time it has waited this long.
    pub aging: Duration,
    /// Commands that may wait for the writer.
    pub queue_capacity: usize,
    /// Most commands in one commit.
    pub group_max: usize,
    /// Memory for the answers of finished tasks, in bytes.
    pub hot_bytes: usize,
    /// Finished tasks are removed so long after their end; `None`: never.
    pub retention: Option<Duration>,
    /// How long an idempotency key is remembered.
    pub idempotency: Duration,
    /// Most idempotency keys that are remembered: a request with another one is refused.
    pub idempotency_max_keys: usize,
    /// Most projects there may be, deleted ones included: what makes another one is refused.
    pub max_projects: usize,
    /// How long a taken event is known as a duplicate.
    pub dedup_window: Duration,
    /// Most taken events that are remembered.
    pub dedup_max_ids: usize,
    /// How long the log keeps its entries.
    pub log_retention: Duration,
    /// Readers of the log that keep a place in it, by name.
    pub log_readers: Vec<String>,
    /// What makes the store grow is refused when less disk is free, in MiB.
    pub min_free_mib: u64,
    /// When the service makes checkpoints by itself.
    pub checkpoints: CheckpointRules,
}

/// When tasks are dispatched to a tier whose work queue has no consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequireConsumer {
    /// One at a time where there was a consumer once, unless its workers show
    /// that they use queues of their own.
    #[default]
    Auto,
    /// One at a time.
    Always,
    /// As if there were consumers.
    Never,
}

/// When the service makes checkpoints of a project by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointRules {
    /// After so many tasks have completed since the checkpoint before.
    pub every_tasks: u64,
    /// So long after the first of them, however few they are.
    pub every: Duration,
    /// How many of them are kept; with 0 none are made.
    pub kept: usize,
}

impl Default for CheckpointRules {
    fn default() -> Self {
        Self { every_tasks: 100, every: Duration::from_hours(24), kept: 10 }
    }
}
