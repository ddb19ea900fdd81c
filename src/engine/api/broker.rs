//! Between the engine and a message broker: events to publish, and the work
//! queues of the tiers as the broker counts them.

use super::settings::RequireConsumer;
use crate::task::{Moment, Seq, TaskId, Tier};

/// Position of an event in the log, and the task that it is about, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventPosition {
    /// Position in the log.
    pub seq: Seq,
    /// The task.
    pub task: Option<TaskId>,
}

/// An attempt that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dispatch {
    /// Position of its `task.ready`.
    pub position: EventPosition,
    /// Its tier.
    pub tier: Tier,
    /// Time of its dispatch.
    pub at: Moment,
}

/// The broker's count of a work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueCount {
    /// Messages that no worker has taken.
    pub ready: usize,
    /// Consumers of the queue.
    pub consumers: u32,
}

/// A count of the work queue of a tier, with the times that its messages are held against.
#[derive(Debug, Clone)]
pub struct QueueReport {
    /// The tier.
    pub tier: Tier,
    /// The count; `None`: the broker can't count the queue.
    pub counted: Option<QueueCount>,
    /// Everything that was dispatched before this time was at the broker when
    /// it counted the queue.
    pub published_before: Option<Moment>,
    /// Everything that was dispatched before this time has been at the broker
    /// for as long as a task may wait unobserved.
    pub unobserved_before: Option<Moment>,
    /// The rule for dispatches to a queue without consumers.
    pub rule: RequireConsumer,
}
