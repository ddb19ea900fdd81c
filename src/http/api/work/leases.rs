//! Work queues and leases, with which workers get tasks without a broker.

use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::engine::{GrantedLease, LeaseRequest, WorkQueue};
use crate::http::api::app::Call;
use crate::http::server::body::Body;
use crate::http::server::body_reader::MemoryShare;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply, Time};
use crate::json::{FieldError, Findings};
use crate::task::{LeaseId, Now, Tier, WorkerId};
use crate::wire::LeasedTask;

/// The largest number of leases in one response.
pub(in crate::http) const MAX_LEASES: i64 = 100;
/// The longest wait for a task, in seconds.
pub(in crate::http) const MAX_WAIT: i64 = 60;

/// The work queue of a tier.
#[derive(Serialize, ToSchema)]
#[schema(as = Queue)]
pub(in crate::http) struct QueueWire<'a> {
    /// The name of the tier.
    tier: &'a Tier,
    /// The number of tasks that wait for a worker.
    depth: usize,
    /// The number of tasks that workers hold.
    leased: usize,
    /// When the longest waiting task began to wait.
    oldest_ready_at: Option<Time>,
    /// How long that task has waited, in seconds.
    oldest_age_seconds: Option<f64>,
    /// Whether the queue is paused, so that it gives no tasks to workers.
    paused: bool,
    /// When the queue was paused; null if it is not.
    paused_at: Option<Time>,
}

impl<'a> QueueWire<'a> {
    fn new(queue: &'a WorkQueue, now: Now) -> Self {
        Self {
            tier: &queue.tier,
            depth: queue.depth,
            leased: queue.leased,
            oldest_ready_at: queue.oldest_ready.map(|since| Time(now.calendar(since))),
            oldest_age_seconds: queue.oldest_ready.map(|since| now.since(since).as_secs_f64()),
            paused: queue.paused_at.is_some(),
            paused_at: queue.paused_at.map(Time),
        }
    }
}

/// All work queues.
#[derive(Serialize, ToSchema)]
#[schema(as = QueueList)]
pub(in crate::http) struct QueuesWire<'a> {
    /// The work queues, one for each tier.
    queues: Vec<QueueWire<'a>>,
}

/// Handles `GET /queues`.
pub(in crate::http) fn queues(call: &Call) -> Reply {
    call.require_no_query()?;
    let queues = call.app.engine.work().queues();
    let now = call.app.clock.now();
    let queues = queues.iter().map(|queue| QueueWire::new(queue, now)).collect();
    Ok(reply::json(StatusCode::OK, &QueuesWire { queues }))
}

/// Handles `POST /queues/{tier}/pause`.
pub(in crate::http) async fn pause(mut call: Call) -> Reply {
    let tier = only_tier(&mut call).await?;
    Ok(queue_response(&call, &call.app.engine.work().pause_tier(tier).await?))
}

/// Handles `POST /queues/{tier}/resume`.
pub(in crate::http) async fn resume(mut call: Call) -> Reply {
    let tier = only_tier(&mut call).await?;
    Ok(queue_response(&call, &call.app.engine.work().resume_tier(tier).await?))
}

/// Returns the tier in the path of a request without a query and without a body.
async fn only_tier(call: &mut Call) -> Result<Tier, Problem> {
    call.require_no_query()?;
    // The engine checks the name, because a tier that is no longer configured can still be resumed.
    let name = call.id();
    let tier = Tier::new(&name).map_err(|_| tier_not_found(&name))?;
    call.require_no_fields().await?;
    Ok(tier)
}

fn tier_not_found(name: &str) -> Problem {
    Problem::not_found("tier_not_found", "tier", name)
}

fn queue_response(call: &Call, queue: &WorkQueue) -> Response<Body> {
    reply::json(StatusCode::OK, &QueueWire::new(queue, call.app.clock.now()))
}

/// A request of a worker for tasks.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LeaseRequest)]
pub(in crate::http) struct LeaseWire {
    /// The id of the worker.
    #[schema(value_type = WorkerId, required)]
    worker_id: Option<String>,
    /// The largest number of tasks. The default is 1.
    max: Option<i64>,
    /// The duration of the leases, up to the limit in the `task_management` settings. The default is the
    /// configured one.
    lease_seconds: Option<i64>,
    /// How long to wait for a first task. The default is 0.
    wait_seconds: Option<i64>,
}

/// A task that is leased to a worker.
#[derive(Serialize, ToSchema)]
#[schema(as = Lease)]
pub(in crate::http) struct GrantedWire<'a> {
    /// The id of the lease, for its renewal and release. Only the holder knows it.
    lease_id: LeaseId,
    /// When the lease expires.
    expires_at: Time,
    /// The task, as in the data of `task.ready`.
    #[schema(value_type = Option<LeasedTask<'static>>)]
    task: Option<&'a RawValue>,
}

/// The leased tasks.
#[derive(Serialize, ToSchema)]
#[schema(as = LeaseList)]
pub(in crate::http) struct LeasesWire<'a> {
    /// The leases, one for each task. The list is empty if no task was ready in time.
    leases: Vec<GrantedWire<'a>>,
}

/// The default and the largest duration of a lease.
struct LeaseDurations {
    default: Duration,
    most: Duration,
}

impl LeaseDurations {
    fn of(call: &Call) -> Self {
        Self { default: call.app.settings.lease_default, most: call.app.settings.lease_max }
    }

    fn check(&self, found: &mut Findings, seconds: Option<i64>) -> Duration {
        let most = i64::try_from(self.most.as_secs()).unwrap_or(i64::MAX);
        let seconds = check_number(found, "/lease_seconds", seconds, 1..=most);
        seconds.map_or(self.default, Duration::from_secs)
    }
}

fn check_number(found: &mut Findings, pointer: &str, number: Option<i64>, allowed: RangeInclusive<i64>) -> Option<u64> {
    let number = number?;
    if !allowed.contains(&number) {
        found.add(pointer, format!("must be from {} to {}, was {number}", allowed.start(), allowed.end()));
    }
    u64::try_from(number).ok()
}

/// Checks the request of a worker.
fn check_request(
    tier: Tier,
    wire: &LeaseWire,
    errors: Vec<FieldError>,
    durations: &LeaseDurations,
) -> Result<LeaseRequest, Problem> {
    let mut found = Findings::from_errors(errors);
    let worker = found.required("/worker_id", wire.worker_id.as_deref());
    let worker: Option<WorkerId> = worker.and_then(|id| found.parse("/worker_id", id));
    let max = check_number(&mut found, "/max", wire.max, 1..=MAX_LEASES).unwrap_or(1);
    let lease = durations.check(&mut found, wire.lease_seconds);
    let wait = check_number(&mut found, "/wait_seconds", wire.wait_seconds, 0..=MAX_WAIT).unwrap_or(0);
    match worker {
        Some(worker) if found.is_empty() => Ok(LeaseRequest {
            tier,
            worker,
            max: usize::try_from(max).unwrap_or(1),
            lease,
            wait: Duration::from_secs(wait),
        }),
        _ => Err(Problem::invalid(found.into_errors())),
    }
}

/// Handles `POST /queues/{tier}/lease`.
pub(in crate::http) async fn lease(mut call: Call) -> Reply {
    call.require_no_query()?;
    let name = call.id();
    let tier = call.app.settings.tiers.iter().find(|tier| tier.as_str() == name).cloned();
    let tier = tier.ok_or_else(|| tier_not_found(&name))?;
    if call.app.broker.is_some() {
        return Err(Problem::no_leases());
    }
    let (wire, errors) = call.json().await?;
    let request = check_request(tier, &wire, errors, &LeaseDurations::of(&call))?;
    // The request may wait for a long time and no longer needs its body.
    call.memory_share = MemoryShare::default();
    let granted = tokio::select! {
        granted = call.app.engine.work().lease(request) => granted?,
        () = call.ending().cancelled() => Vec::new(),
    };
    Ok(reply::json(StatusCode::OK, &LeasesWire { leases: granted.iter().map(granted_wire).collect() }))
}

fn granted_wire(granted: &GrantedLease) -> GrantedWire<'_> {
    GrantedWire {
        lease_id: granted.lease,
        expires_at: Time(granted.until),
        task: serde_json::from_slice(&granted.task).ok(),
    }
}

/// Returns the id in the path. A text that is not a valid id names a lost lease.
fn lease_id(call: &Call) -> Result<LeaseId, Problem> {
    let id = call.id();
    id.parse().map_err(|_| Problem::lease_lost(&id))
}

/// The new duration of a lease.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Renewal)]
pub(in crate::http) struct RenewWire {
    /// The duration from now. The default is the configured one.
    lease_seconds: Option<i64>,
}

/// A renewed lease.
#[derive(Serialize, ToSchema)]
#[schema(as = RenewedLease)]
pub(in crate::http) struct RenewedWire {
    /// The id of the lease.
    lease_id: LeaseId,
    /// When the lease expires now.
    expires_at: Time,
}

/// Handles `POST /leases/{id}/renew`.
pub(in crate::http) async fn renew(mut call: Call) -> Reply {
    call.require_no_query()?;
    let lease_id = lease_id(&call)?;
    let (wire, errors): (RenewWire, _) = call.optional_json().await?;
    let mut found = Findings::from_errors(errors);
    let duration = LeaseDurations::of(&call).check(&mut found, wire.lease_seconds);
    if !found.is_empty() {
        return Err(Problem::invalid(found.into_errors()));
    }
    let expires_at = Time(call.app.engine.work().renew(lease_id, duration).await?);
    Ok(reply::json(StatusCode::OK, &RenewedWire { lease_id, expires_at }))
}

/// Handles `POST /leases/{id}/release`.
pub(in crate::http) async fn release(mut call: Call) -> Reply {
    call.require_no_query()?;
    let lease_id = lease_id(&call)?;
    call.require_no_fields().await?;
    call.app.engine.work().release(lease_id).await?;
    Ok(reply::no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wire: &LeaseWire) -> Result<LeaseRequest, Problem> {
        let durations = LeaseDurations { default: Duration::from_mins(1), most: Duration::from_mins(10) };
        check_request(Tier::new("small").unwrap(), wire, Vec::new(), &durations)
    }

    #[test]
    fn defaults_and_bounds_hold() {
        let worker = || Some("w".to_owned());
        let least = check(&LeaseWire { worker_id: worker(), ..LeaseWire::default() }).unwrap();
        assert_eq!((least.max, least.lease, least.wait), (1, Duration::from_mins(1), Duration::ZERO));
        let bad = LeaseWire { worker_id: None, max: Some(0), lease_seconds: Some(601), wait_seconds: Some(-1) };
        let text = serde_json::to_string(&check(&bad).unwrap_err().wire("")).unwrap();
        for pointer in ["/worker_id", "/max", "/lease_seconds", "/wait_seconds"] {
            assert!(text.contains(pointer), "{pointer} in {text}");
        }
    }
}
