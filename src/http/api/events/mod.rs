//! Events: the event log, reported events and dead letters.

pub(in crate::http) mod dead_letters;
pub(in crate::http) mod describe;
pub(in crate::http) mod feed;
pub(in crate::http) mod filter;
pub(in crate::http) mod follow;
pub(in crate::http) mod intake;

use crate::http::api::row::Row;
use crate::http::server::endpoint::Endpoint;

/// The endpoints of this topic.
pub(in crate::http) static ROWS: [Row; 8] = [
    Row::new(Endpoint::get("/events", |call| Box::pin(follow::follow(call))), describe::follow),
    Row::new(Endpoint::post("/events", |call| Box::pin(intake::accept(call))), describe::take),
    Row::new(
        Endpoint::get("/dead-letters", |call| Box::pin(dead_letters::list(call))).on_read_pool(),
        describe::letters,
    ),
    Row::new(
        Endpoint::delete("/dead-letters", |call| Box::pin(dead_letters::discard_matching(call))),
        describe::discard_matching,
    ),
    Row::new(
        Endpoint::get("/dead-letters/removals", |call| Box::pin(dead_letters::removals(call))).on_read_pool(),
        describe::letter_removals,
    ),
    Row::new(
        Endpoint::get("/dead-letters/{id}", |call| Box::pin(dead_letters::show(call))).on_read_pool(),
        describe::letter,
    ),
    Row::new(Endpoint::delete("/dead-letters/{id}", |call| Box::pin(dead_letters::discard(call))), describe::discard),
    Row::new(
        Endpoint::post("/dead-letters/{id}/requeue", |call| Box::pin(dead_letters::requeue(call))),
        describe::requeue,
    ),
];
