//! Provenance: records, artifacts, queries, taints and cascades.

pub(in crate::http) mod artifacts;
pub(in crate::http) mod cascades;
pub(in crate::http) mod describe;
pub(in crate::http) mod export;
pub(in crate::http) mod flags;
pub(in crate::http) mod graph;
pub(in crate::http) mod import_limiter;
pub(in crate::http) mod media_type;
pub(in crate::http) mod path;
pub(in crate::http) mod record;
pub(in crate::http) mod records;
pub(in crate::http) mod results;
pub(in crate::http) mod taint_events;
pub(in crate::http) mod transfer;
pub(in crate::http) mod walks;

use std::future::ready;

use crate::http::api::row::Row;
use crate::http::server::endpoint::Endpoint;

/// The endpoints of this topic.
pub(in crate::http) static ROWS: [Row; 20] = [
    Row::new(Endpoint::get("/provenance", |call| Box::pin(records::list(call))).on_timed_read_pool(), describe::list),
    Row::new(Endpoint::get("/provenance/path", |call| Box::pin(path::path(call))).on_timed_read_pool(), describe::path),
    Row::new(Endpoint::post("/provenance/import", |call| Box::pin(ready(transfer::import(call)))), describe::import),
    Row::new(
        Endpoint::get("/provenance/export", |call| Box::pin(ready(transfer::export(&call)))),
        describe::export_lines,
    ),
    Row::new(Endpoint::get("/provenance/{id}", |call| Box::pin(record::get(call))).on_read_pool(), describe::get),
    Row::new(
        Endpoint::get("/provenance/{id}/dependents", |call| Box::pin(walks::dependents(call))).on_timed_read_pool(),
        describe::dependents,
    ),
    Row::new(
        Endpoint::get("/provenance/{id}/dependencies", |call| Box::pin(walks::dependencies(call))).on_timed_read_pool(),
        describe::dependencies,
    ),
    Row::new(
        Endpoint::get("/provenance/{id}/impact", |call| Box::pin(walks::impact(call))).on_timed_read_pool(),
        describe::impact,
    ),
    Row::new(
        Endpoint::get("/provenance/{id}/affected", |call| Box::pin(ready(flags::affected(&call)))).on_read_pool(),
        describe::affected,
    ),
    Row::new(
        Endpoint::get("/provenance/{id}/root-cause", |call| Box::pin(walks::root_cause(call))).on_timed_read_pool(),
        describe::root_cause,
    ),
    Row::new(
        Endpoint::get("/provenance/{id}/export", |call| Box::pin(export::export(call))).on_timed_read_pool(),
        describe::export,
    ),
    Row::new(Endpoint::post("/provenance/{id}/taint", |call| Box::pin(flags::taint(call))), describe::taint),
    Row::new(Endpoint::post("/provenance/{id}/suspect", |call| Box::pin(flags::suspect(call))), describe::suspect),
    Row::new(Endpoint::post("/provenance/{id}/clear", |call| Box::pin(flags::clear(call))), describe::clear),
    Row::new(
        Endpoint::get("/taint-events", |call| Box::pin(taint_events::list(call))).on_timed_read_pool(),
        describe::taints,
    ),
    Row::new(Endpoint::get("/cascades/{id}", |call| Box::pin(cascades::get(call))).on_read_pool(), describe::cascade),
    Row::new(Endpoint::post("/cascades/{id}/clear", |call| Box::pin(cascades::clear(call))), describe::clear_cascade),
    Row::new(
        Endpoint::get("/cascades/{id}/affected", |call| Box::pin(ready(cascades::affected(&call)))).on_read_pool(),
        describe::taken_back,
    ),
    Row::new(
        Endpoint::get("/artifacts/{id}", |call| Box::pin(artifacts::get(call))).on_timed_read_pool(),
        describe::artifact,
    ),
    Row::new(Endpoint::get("/artifacts/{id}/content", |call| Box::pin(artifacts::content(call))), describe::content),
];
