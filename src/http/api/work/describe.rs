//! Descriptions of the endpoints of work queues and leases for the `OpenAPI` document.

use serde_json::json;

use crate::http::api::work::leases::{self, MAX_LEASES, MAX_WAIT};
use crate::http::openapi::limits;
use crate::http::openapi::operation::{Described, operation};
use crate::http::openapi::words::NoFields;
use crate::task::{LeaseId, Tier};

const TAG: &str = "Work queues";

/// Starts the description of an endpoint whose path names a tier.
fn tier_operation(id: &str, summary: &str) -> Described {
    operation(id, TAG, summary).id::<Tier>("The name of the tier.").problem(404, &["tier_not_found"])
}

/// Starts the description of an endpoint whose path names a lease.
fn lease_operation(id: &str, summary: &str) -> Described {
    operation(id, TAG, summary).id::<LeaseId>("The id of the lease.").problem(409, &["lease_lost"])
}

pub(in crate::http) fn queues() -> Described {
    operation("listQueues", TAG, "Read how many tasks wait for workers, by tier")
        .answer::<leases::QueuesWire<'static>>(200, "All work queues.")
        .reads()
}

fn switch(id: &str, summary: &str) -> Described {
    tier_operation(id, summary)
        .body::<NoFields>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .answer::<leases::QueueWire<'static>>(200, "The work queue.")
        .writes()
}

pub(in crate::http) fn pause() -> Described {
    switch("pauseTier", "Stop giving tasks to the workers of a tier")
        .says("Tasks that workers hold already are not affected.")
}

pub(in crate::http) fn resume() -> Described {
    switch("resumeTier", "Give tasks to the workers of a paused tier again")
}

pub(in crate::http) fn lease() -> Described {
    let limits = [
        limits::whole("LeaseRequest", "max", 1, MAX_LEASES),
        limits::at_least("LeaseRequest", "lease_seconds", 1),
        limits::whole("LeaseRequest", "wait_seconds", 0, MAX_WAIT),
    ];
    let worker = json!({"worker_id": "worker-1", "max": 1, "lease_seconds": 60, "wait_seconds": 0});
    tier_operation("leaseTasks", "Lease tasks to a worker")
        .says(
            "This endpoint is not available when a broker is configured: workers then take tasks from its queues. A \
             response has at most about 1 MiB, but at least one task if one waits. The next request gets the tasks \
             that did not fit.",
        )
        .body::<leases::LeaseWire>(true, &limits, &[("worker", worker)])
        .reads_json()
        .answer::<leases::LeasesWire<'static>>(200, "The leased tasks.")
        .problem(409, &["leasing_not_available"])
        .writes()
}

pub(in crate::http) fn renew() -> Described {
    let limits = [limits::at_least("Renewal", "lease_seconds", 1)];
    lease_operation("renewLease", "Extend a lease")
        .body::<leases::RenewWire>(false, &limits, &[("minute", json!({"lease_seconds": 60}))])
        .reads_json()
        .answer::<leases::RenewedWire>(200, "The lease.")
        .writes()
}

pub(in crate::http) fn release() -> Described {
    lease_operation("releaseLease", "Return a leased task to its queue")
        .body::<NoFields>(false, &[], &[("empty", json!({}))])
        .reads_json()
        .empty(204, "The task is back in its queue.")
        .writes()
}
