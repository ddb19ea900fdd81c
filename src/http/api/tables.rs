//! All tables of endpoints. Routing, `405`, the labels of metrics and the `OpenAPI` document are made from them.

use crate::http::api::app::App;
use crate::http::api::row::Row;
use crate::http::api::{checkpoints, events, projects, provenance, service, tasks, work};
use crate::http::server::endpoint::Endpoint;

static TABLES: [&[Row]; 7] =
    [&tasks::ROWS, &projects::ROWS, &checkpoints::ROWS, &work::ROWS, &events::ROWS, &provenance::ROWS, &service::ROWS];

/// Returns the rows of all tables, in the order of their numbers.
pub(in crate::http) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.into_iter().flatten()
}

/// Returns all endpoints, in the order of their numbers.
pub(in crate::http) fn endpoints() -> Vec<&'static Endpoint<App>> {
    rows().map(|row| &row.endpoint).collect()
}

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
    fn other_methods_and_paths_are_distinguished() {
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
