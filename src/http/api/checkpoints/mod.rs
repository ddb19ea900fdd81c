//! Checkpoints of projects, and rollbacks to them.

pub(in crate::http) mod checkpoint;
pub(in crate::http) mod describe;
pub(in crate::http) mod rollback;

use std::future::ready;

use crate::http::api::row::Row;
use crate::http::server::endpoint::Endpoint;

/// The endpoints of this topic.
pub(in crate::http) static ROWS: [Row; 5] = [
    Row::new(
        Endpoint::get("/projects/{id}/checkpoints", |call| Box::pin(checkpoint::list(call))).on_read_pool(),
        describe::list,
    ),
    Row::new(Endpoint::post("/projects/{id}/checkpoints", |call| Box::pin(checkpoint::create(call))), describe::create),
    Row::new(Endpoint::get("/checkpoints/{id}", |call| Box::pin(checkpoint::get(call))), describe::get),
    Row::new(
        Endpoint::post("/checkpoints/{id}/rollback", |call| Box::pin(rollback::rollback(call))),
        describe::rollback,
    ),
    Row::new(
        Endpoint::get("/checkpoints/{id}/affected", |call| Box::pin(ready(rollback::affected(&call)))).on_read_pool(),
        describe::rolled_back,
    ),
];
