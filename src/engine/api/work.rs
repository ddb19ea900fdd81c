//! Work: the work queues of the tiers, and leases for workers.

use std::time::Duration;

use bytes::Bytes;

use crate::task::{Lease, LeaseId, Moment, Task, Tier, Timestamp, WorkerId};

/// A worker's request for tasks.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The tier whose work queue the worker takes from.
    pub tier: Tier,
    /// The worker.
    pub worker: WorkerId,
    /// Most leases to grant.
    pub max: usize,
    /// Duration of each lease.
    pub lease: Duration,
    /// How long the request waits for the first task.
    pub wait: Duration,
}

/// A lease that was granted to a worker.
#[derive(Debug, Clone)]
pub struct GrantedLease {
    /// The lease.
    pub lease: LeaseId,
    /// End of the lease, unless the worker renews it.
    pub until: Timestamp,
    /// The data of the attempt's `task.ready` event, as a JSON object.
    pub task: Bytes,
}

/// The work queue of a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkQueue {
    /// The tier.
    pub tier: Tier,
    /// Number of tasks that wait for a worker.
    pub depth: usize,
    /// Number of tasks that workers hold.
    pub leased: usize,
    /// Time since which the oldest task waits.
    pub oldest_ready: Option<Moment>,
    /// Time of the pause; `None`: the tier is not paused.
    pub paused_at: Option<Timestamp>,
}

/// A lease with its task, on its way from the writer to the handle.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) lease: Lease,
    /// End of the lease by the wall clock, unless it is renewed.
    pub(crate) until: Timestamp,
    /// End of the attempt's execution timeout, by the wall clock.
    pub(crate) deadline: Timestamp,
    pub(crate) task: Task,
    /// Version of the project; `None`: the project has no constitution.
    pub(crate) constituted: Option<u64>,
}
