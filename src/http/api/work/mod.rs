//! Work queues and leases, with which workers get tasks without a broker.

pub(in crate::http) mod describe;
pub(in crate::http) mod leases;

use std::future::ready;

use crate::http::api::row::Row;
use crate::http::server::endpoint::Endpoint;

/// The endpoints of this topic.
pub(in crate::http) static ROWS: [Row; 6] = [
    Row::new(Endpoint::get("/queues", |call| Box::pin(ready(leases::queues(&call)))), describe::queues),
    Row::new(Endpoint::post("/queues/{id}/pause", |call| Box::pin(leases::pause(call))), describe::pause),
    Row::new(Endpoint::post("/queues/{id}/resume", |call| Box::pin(leases::resume(call))), describe::resume),
    Row::new(Endpoint::post("/queues/{id}/lease", |call| Box::pin(leases::lease(call))).may_wait(), describe::lease),
    Row::new(Endpoint::post("/leases/{id}/renew", |call| Box::pin(leases::renew(call))), describe::renew),
    Row::new(Endpoint::post("/leases/{id}/release", |call| Box::pin(leases::release(call))), describe::release),
];
