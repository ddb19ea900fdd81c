//! Settings of the engine, fixed at its start.

use std::time::Duration;

use crate::task::{Policy, Priority, QaProfile, Router, Tier};

/// Settings of the engine, fixed at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Rules for state transitions of tasks.
    pub policy: Policy,
    /// Built-in rules that find a domain and a tier for a description.
    pub router: Router,
    /// The configured tiers.
    pub tiers: Vec<Tier>,
    /// Priority of submissions that name none.
    pub default_priority: Priority,
    /// QA profile of submissions that name none, in projects that have none.
    pub default_qa_profile: QaProfile,
    /// Execution timeout of an attempt, in seconds, for submissions that name none.
    pub default_timeout_seconds: u32,
    /// Most attempts of a task, for submissions that name no number.
    pub default_max_attempts: u32,
    /// Slots of a project that sets no number.
    pub max_concurrent: u32,
    /// Waiting time after which a task rises by one class of priority, repeatedly.
    pub aging: Duration,
    /// Most commands that wait for the writer.
    pub queue_capacity: usize,
    /// Most commands in one commit.
    pub group_max: usize,
    /// Memory for the status answers of finished tasks, in bytes.
    pub hot_bytes: usize,
    /// Age at which finished tasks are removed, counted from their end; `None`: never.
    pub retention: Option<Duration>,
    /// Lifetime of an idempotency key.
    pub idempotency: Duration,
    /// Most idempotency keys in use. Beyond it, requests with new keys are refused.
    pub idempotency_max_keys: usize,
    /// Most projects, deleted ones included. Beyond it, requests that would create one are refused.
    pub max_projects: usize,
    /// Window in which a repeated event is recognised as a duplicate.
    pub dedup_window: Duration,
    /// Most accepted events that are remembered for that.
    pub dedup_max_ids: usize,
    /// Age at which entries of the log are removed.
    pub log_retention: Duration,
    /// Names of the readers that keep a place in the log.
    pub log_readers: Vec<String>,
    /// Free disk space below which commands that make the store grow are refused, in MiB.
    pub min_free_mib: u64,
    /// Rules for automatic checkpoints.
    pub checkpoints: CheckpointRules,
}

/// Rule for dispatches to a tier whose work queue at the broker has no consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequireConsumer {
    /// One task at a time if the queue once had a consumer, unless reports show that
    /// its workers use queues of their own; otherwise no restriction.
    #[default]
    Auto,
    /// One task at a time.
    Always,
    /// No restriction.
    Never,
}

/// Rules for automatic checkpoints of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointRules {
    /// Number of tasks that complete between two checkpoints.
    pub every_tasks: u64,
    /// Longest time from the first of these tasks to the checkpoint, however few complete.
    pub every: Duration,
    /// Number of automatic checkpoints to keep; 0 disables them.
    pub kept: usize,
}

impl Default for CheckpointRules {
    fn default() -> Self {
        Self { every_tasks: 100, every: Duration::from_hours(24), kept: 10 }
    }
}
