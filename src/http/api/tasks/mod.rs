//! Tasks: submission, state, history and trees.

pub(in crate::http) mod describe;
pub(in crate::http) mod history;
pub(in crate::http) mod list;
pub(in crate::http) mod status;
pub(in crate::http) mod submission;
pub(in crate::http) mod submit;
pub(in crate::http) mod tree;

use crate::http::api::row::Row;
use crate::http::server::endpoint::Endpoint;

/// The endpoints of this topic.
pub(in crate::http) static ROWS: [Row; 9] = [
    Row::new(Endpoint::get("/tasks", |call| Box::pin(list::list(call))).on_read_pool(), describe::list),
    Row::new(Endpoint::post("/tasks", |call| Box::pin(submit::submit(call))), describe::submit),
    Row::new(Endpoint::post("/tasks/batch", |call| Box::pin(submit::submit_batch(call))), describe::submit_batch),
    Row::new(
        Endpoint::get("/tasks/{id}", |call| Box::pin(status::get(call))).immediate(status::get_now).may_wait(),
        describe::get,
    ),
    Row::new(Endpoint::post("/tasks/{id}/cancel", |call| Box::pin(status::cancel(call))), describe::cancel),
    Row::new(Endpoint::post("/tasks/{id}/rerun", |call| Box::pin(submit::rerun(call))), describe::rerun),
    Row::new(
        Endpoint::get("/tasks/{id}/events", |call| Box::pin(history::list(call))).on_read_pool(),
        describe::history,
    ),
    Row::new(Endpoint::get("/tasks/{id}/stream", |call| Box::pin(history::stream(call))), describe::stream),
    Row::new(Endpoint::get("/tasks/{id}/tree", |call| Box::pin(tree::get(call))).on_read_pool(), describe::tree),
];
