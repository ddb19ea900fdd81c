//! The table of endpoints. Routing, `405`, the labels of the metrics and the
//! `OpenAPI` document are made from it.

use std::future::ready;

use crate::http::api::app::App;
use crate::http::api::checkpoints::describe as describe_checkpoints;
use crate::http::api::checkpoints::{resource as checkpoints, rollbacks};
use crate::http::api::events::describe as describe_events;
use crate::http::api::events::{dead_letters, follow as events_out, intake as events_in};
use crate::http::api::projects::describe as describe_projects;
use crate::http::api::projects::resource as projects;
use crate::http::api::provenance::describe as describe_provenance;
use crate::http::api::provenance::{
    artifacts, cascades as undo, export, flags as cascades, path, record as provenance, records, taint_events,
    transfer, walks as lineage,
};
use crate::http::api::service::describe as describe_service;
use crate::http::api::service::{asyncapi, docs, health};
use crate::http::api::tasks::describe as describe_tasks;
use crate::http::api::tasks::{history, list as task_list, submit as tasks, tree};
use crate::http::api::work::describe as describe_work;
use crate::http::api::work::leases;
use crate::http::openapi;
use crate::http::openapi::operation::Described;
use crate::http::server::endpoint::Endpoint;

/// An endpoint and its description.
pub(in crate::http) struct Row {
    pub(in crate::http) endpoint: Endpoint<App>,
    /// `None` for the files of the API reference, which are not described.
    pub(in crate::http) describe: Option<fn() -> Described>,
}

/// The endpoints, in the order of their numbers.
pub(in crate::http) fn endpoints() -> Vec<&'static Endpoint<App>> {
    ROWS.iter().map(|row| &row.endpoint).collect()
}

/// All rows.
pub(in crate::http) static ROWS: [Row; 66] = [
    Row {
        endpoint: Endpoint::get("/tasks", |call| Box::pin(task_list::list(call))).on_read_pool(),
        describe: Some(describe_tasks::list),
    },
    Row {
        endpoint: Endpoint::post("/tasks", |call| Box::pin(tasks::submit(call))),
        describe: Some(describe_tasks::submit),
    },
    Row {
        endpoint: Endpoint::post("/tasks/batch", |call| Box::pin(tasks::submit_batch(call))),
        describe: Some(describe_tasks::submit_batch),
    },
    Row {
        endpoint: Endpoint::get("/tasks/{id}", |call| Box::pin(tasks::get(call))).immediate(tasks::read).may_wait(),
        describe: Some(describe_tasks::get),
    },
    Row {
        endpoint: Endpoint::post("/tasks/{id}/cancel", |call| Box::pin(tasks::cancel(call))),
        describe: Some(describe_tasks::cancel),
    },
    Row {
        endpoint: Endpoint::post("/tasks/{id}/rerun", |call| Box::pin(tasks::rerun(call))),
        describe: Some(describe_tasks::rerun),
    },
    Row {
        endpoint: Endpoint::get("/tasks/{id}/events", |call| Box::pin(history::list(call))).on_read_pool(),
        describe: Some(describe_tasks::history),
    },
    Row {
        endpoint: Endpoint::get("/tasks/{id}/stream", |call| Box::pin(history::stream(call))),
        describe: Some(describe_tasks::stream),
    },
    Row {
        endpoint: Endpoint::get("/tasks/{id}/tree", |call| Box::pin(tree::get(call))).on_read_pool(),
        describe: Some(describe_tasks::tree),
    },
    Row {
        endpoint: Endpoint::get("/projects", |call| Box::pin(projects::list(call))).on_read_pool(),
        describe: Some(describe_projects::list),
    },
    Row {
        endpoint: Endpoint::post("/projects", |call| Box::pin(projects::create(call))),
        describe: Some(describe_projects::create),
    },
    Row {
        endpoint: Endpoint::get("/projects/{id}", |call| Box::pin(projects::get(call))),
        describe: Some(describe_projects::get),
    },
    Row {
        endpoint: Endpoint::patch("/projects/{id}", |call| Box::pin(projects::update(call))),
        describe: Some(describe_projects::update),
    },
    Row {
        endpoint: Endpoint::delete("/projects/{id}", |call| Box::pin(projects::delete(call))),
        describe: Some(describe_projects::delete),
    },
    Row {
        endpoint: Endpoint::get("/projects/{id}/status", |call| Box::pin(projects::status(call))),
        describe: Some(describe_projects::status),
    },
    Row {
        endpoint: Endpoint::get("/projects/{id}/consistency", |call| Box::pin(projects::consistency(call))),
        describe: Some(describe_projects::consistency),
    },
    Row {
        endpoint: Endpoint::get("/projects/{id}/checkpoints", |call| Box::pin(checkpoints::list(call))).on_read_pool(),
        describe: Some(describe_checkpoints::list),
    },
    Row {
        endpoint: Endpoint::post("/projects/{id}/checkpoints", |call| Box::pin(checkpoints::create(call))),
        describe: Some(describe_checkpoints::create),
    },
    Row {
        endpoint: Endpoint::get("/checkpoints/{id}", |call| Box::pin(checkpoints::get(call))),
        describe: Some(describe_checkpoints::get),
    },
    Row {
        endpoint: Endpoint::post("/checkpoints/{id}/rollback", |call| Box::pin(rollbacks::rollback(call))),
        describe: Some(describe_checkpoints::rollback),
    },
    Row {
        endpoint: Endpoint::get("/checkpoints/{id}/affected", |call| Box::pin(ready(rollbacks::affected(&call))))
            .on_read_pool(),
        describe: Some(describe_checkpoints::rolled_back),
    },
    Row {
        endpoint: Endpoint::post("/projects/{id}/pause", |call| Box::pin(projects::pause(call))),
        describe: Some(describe_projects::pause),
    },
    Row {
        endpoint: Endpoint::post("/projects/{id}/resume", |call| Box::pin(projects::resume(call))),
        describe: Some(describe_projects::resume),
    },
    Row {
        endpoint: Endpoint::get("/queues", |call| Box::pin(ready(leases::queues(&call)))),
        describe: Some(describe_work::queues),
    },
    Row {
        endpoint: Endpoint::post("/queues/{id}/pause", |call| Box::pin(leases::pause(call))),
        describe: Some(describe_work::pause),
    },
    Row {
        endpoint: Endpoint::post("/queues/{id}/resume", |call| Box::pin(leases::resume(call))),
        describe: Some(describe_work::resume),
    },
    Row {
        endpoint: Endpoint::post("/queues/{id}/lease", |call| Box::pin(leases::lease(call))).may_wait(),
        describe: Some(describe_work::lease),
    },
    Row {
        endpoint: Endpoint::post("/leases/{id}/renew", |call| Box::pin(leases::renew(call))),
        describe: Some(describe_work::renew),
    },
    Row {
        endpoint: Endpoint::post("/leases/{id}/release", |call| Box::pin(leases::release(call))),
        describe: Some(describe_work::release),
    },
    Row {
        endpoint: Endpoint::get("/events", |call| Box::pin(events_out::follow(call))),
        describe: Some(describe_events::follow),
    },
    Row {
        endpoint: Endpoint::post("/events", |call| Box::pin(events_in::take(call))),
        describe: Some(describe_events::take),
    },
    Row {
        endpoint: Endpoint::get("/provenance", |call| Box::pin(records::list(call))).on_timed_read_pool(),
        describe: Some(describe_provenance::list),
    },
    Row {
        endpoint: Endpoint::get("/provenance/path", |call| Box::pin(path::path(call))).on_timed_read_pool(),
        describe: Some(describe_provenance::path),
    },
    Row {
        endpoint: Endpoint::post("/provenance/import", |call| Box::pin(ready(transfer::import(call)))),
        describe: Some(describe_provenance::import),
    },
    Row {
        endpoint: Endpoint::get("/provenance/export", |call| Box::pin(ready(transfer::export(&call)))),
        describe: Some(describe_provenance::export_lines),
    },
    Row {
        endpoint: Endpoint::get("/provenance/{id}", |call| Box::pin(provenance::get(call))).on_read_pool(),
        describe: Some(describe_provenance::get),
    },
    Row {
        endpoint: Endpoint::get("/provenance/{id}/dependents", |call| Box::pin(lineage::dependents(call)))
            .on_timed_read_pool(),
        describe: Some(describe_provenance::dependents),
    },
    Row {
        endpoint: Endpoint::get("/provenance/{id}/dependencies", |call| Box::pin(lineage::dependencies(call)))
            .on_timed_read_pool(),
        describe: Some(describe_provenance::dependencies),
    },
    Row {
        endpoint: Endpoint::get("/provenance/{id}/impact", |call| Box::pin(lineage::impact(call))).on_timed_read_pool(),
        describe: Some(describe_provenance::impact),
    },
    Row {
        endpoint: Endpoint::get("/provenance/{id}/affected", |call| Box::pin(ready(cascades::affected(&call))))
            .on_read_pool(),
        describe: Some(describe_provenance::affected),
    },
    Row {
        endpoint: Endpoint::get("/provenance/{id}/root-cause", |call| Box::pin(lineage::root_cause(call)))
            .on_timed_read_pool(),
        describe: Some(describe_provenance::root_cause),
    },
    Row {
        endpoint: Endpoint::get("/provenance/{id}/export", |call| Box::pin(export::export(call))).on_timed_read_pool(),
        describe: Some(describe_provenance::export),
    },
    Row {
        endpoint: Endpoint::post("/provenance/{id}/taint", |call| Box::pin(cascades::taint(call))),
        describe: Some(describe_provenance::taint),
    },
    Row {
        endpoint: Endpoint::post("/provenance/{id}/suspect", |call| Box::pin(cascades::suspect(call))),
        describe: Some(describe_provenance::suspect),
    },
    Row {
        endpoint: Endpoint::post("/provenance/{id}/clear", |call| Box::pin(cascades::clear(call))),
        describe: Some(describe_provenance::clear),
    },
    Row {
        endpoint: Endpoint::get("/taint-events", |call| Box::pin(taint_events::list(call))).on_timed_read_pool(),
        describe: Some(describe_provenance::taints),
    },
    Row {
        endpoint: Endpoint::get("/cascades/{id}", |call| Box::pin(undo::get(call))).on_read_pool(),
        describe: Some(describe_provenance::cascade),
    },
    Row {
        endpoint: Endpoint::post("/cascades/{id}/clear", |call| Box::pin(undo::clear(call))),
        describe: Some(describe_provenance::clear_cascade),
    },
    Row {
        endpoint: Endpoint::get("/cascades/{id}/affected", |call| Box::pin(ready(undo::affected(&call))))
            .on_read_pool(),
        describe: Some(describe_provenance::taken_back),
    },
    Row {
        endpoint: Endpoint::get("/artifacts/{id}", |call| Box::pin(artifacts::get(call))).on_timed_read_pool(),
        describe: Some(describe_provenance::artifact),
    },
    Row {
        endpoint: Endpoint::get("/artifacts/{id}/content", |call| Box::pin(artifacts::content(call))),
        describe: Some(describe_provenance::content),
    },
    Row {
        endpoint: Endpoint::get("/dead-letters", |call| Box::pin(dead_letters::list(call))).on_read_pool(),
        describe: Some(describe_events::letters),
    },
    Row {
        endpoint: Endpoint::delete("/dead-letters", |call| Box::pin(dead_letters::discard_matching(call))),
        describe: Some(describe_events::discard_matching),
    },
    Row {
        endpoint: Endpoint::get("/dead-letters/removals", |call| Box::pin(dead_letters::removals(call))).on_read_pool(),
        describe: Some(describe_events::letter_removals),
    },
    Row {
        endpoint: Endpoint::get("/dead-letters/{id}", |call| Box::pin(dead_letters::show(call))).on_read_pool(),
        describe: Some(describe_events::letter),
    },
    Row {
        endpoint: Endpoint::delete("/dead-letters/{id}", |call| Box::pin(dead_letters::discard(call))),
        describe: Some(describe_events::discard),
    },
    Row {
        endpoint: Endpoint::post("/dead-letters/{id}/requeue", |call| Box::pin(dead_letters::requeue(call))),
        describe: Some(describe_events::requeue),
    },
    Row {
        endpoint: Endpoint::get("/health", |call| Box::pin(ready(health::health(&call)))).probe(),
        describe: Some(describe_service::health),
    },
    Row {
        endpoint: Endpoint::get("/health/detailed", |call| Box::pin(ready(health::detailed(&call)))).operational(),
        describe: Some(describe_service::detailed),
    },
    Row {
        endpoint: Endpoint::get("/livez", |call| Box::pin(ready(health::live(&call)))).probe(),
        describe: Some(describe_service::live),
    },
    Row {
        endpoint: Endpoint::get("/readyz", |call| Box::pin(ready(health::ready(&call)))).probe(),
        describe: Some(describe_service::ready),
    },
    Row {
        endpoint: Endpoint::get("/metrics", |call| Box::pin(ready(health::metrics(&call)))).operational(),
        describe: Some(describe_service::metrics),
    },
    Row {
        endpoint: Endpoint::get("/openapi.json", |call| Box::pin(ready(openapi::get(&call)))).operational(),
        describe: Some(describe_service::document),
    },
    Row {
        endpoint: Endpoint::get("/asyncapi.json", |call| Box::pin(ready(asyncapi::get(&call)))).operational(),
        describe: Some(describe_service::messages),
    },
    Row {
        endpoint: Endpoint::get("/docs", |call| Box::pin(ready(docs::page(&call)))).operational(),
        describe: Some(describe_service::page),
    },
    Row {
        endpoint: Endpoint::get("/docs/{id}", |call| Box::pin(ready(docs::file(&call)))).operational(),
        describe: None,
    },
];

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::*;
    use crate::http::server::endpoint::BASE;
    use crate::http::server::router::{Router, probe_paths};

    #[test]
    fn every_endpoint_is_found() {
        let router = Router::new(&endpoints());
        for (number, endpoint) in endpoints().into_iter().enumerate() {
            let path = format!("{BASE}{}", endpoint.path.replace("{id}", "a%2Fb"));
            let (route, id) = router.find(&path).unwrap();
            let method: Method = endpoint.verb.as_str().parse().unwrap();
            assert_eq!(route.endpoint(&method).unwrap().number, number, "{path}");
            assert_eq!(id, if path.contains('%') { "a%2Fb" } else { "" });
        }
    }

    #[test]
    fn other_methods_and_paths_are_told_apart() {
        let router = Router::new(&endpoints());
        let (route, _) = router.find("/api/v1/projects/p").unwrap();
        assert!(route.endpoint(&Method::PUT).is_none());
        assert_eq!(route.allow(), "GET, HEAD, PATCH, DELETE");
        assert!(router.find("/tasks").is_none());
        assert!(router.find("/api/v1/tasks/").is_none());
        assert!(router.find("/api/v1/tasks/x/trees").is_none());
        let live = router.find("/livez").unwrap().0.endpoint(&Method::HEAD).unwrap();
        assert_eq!(live.endpoint.path, "/livez");
        let probes = ["/api/v1/health", "/health", "/api/v1/livez", "/livez", "/api/v1/readyz", "/readyz"];
        assert_eq!(probe_paths(&endpoints()), probes);
    }
}
