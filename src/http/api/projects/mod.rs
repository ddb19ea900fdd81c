//! Projects: settings, pauses and status.

pub(in crate::http) mod describe;
pub(in crate::http) mod project;

use crate::http::api::row::Row;
use crate::http::server::endpoint::Endpoint;

/// The endpoints of this topic.
pub(in crate::http) static ROWS: [Row; 9] = [
    Row::new(Endpoint::get("/projects", |call| Box::pin(project::list(call))).on_read_pool(), describe::list),
    Row::new(Endpoint::post("/projects", |call| Box::pin(project::create(call))), describe::create),
    Row::new(Endpoint::get("/projects/{id}", |call| Box::pin(project::get(call))), describe::get),
    Row::new(Endpoint::patch("/projects/{id}", |call| Box::pin(project::update(call))), describe::update),
    Row::new(Endpoint::delete("/projects/{id}", |call| Box::pin(project::delete(call))), describe::delete),
    Row::new(Endpoint::get("/projects/{id}/status", |call| Box::pin(project::status(call))), describe::status),
    Row::new(
        Endpoint::get("/projects/{id}/consistency", |call| Box::pin(project::consistency(call))),
        describe::consistency,
    ),
    Row::new(Endpoint::post("/projects/{id}/pause", |call| Box::pin(project::pause(call))), describe::pause),
    Row::new(Endpoint::post("/projects/{id}/resume", |call| Box::pin(project::resume(call))), describe::resume),
];
