//! Finds the endpoint of a request by its path and method.

use std::collections::BTreeMap;

use hyper::Method;
use hyper::header::HeaderValue;

use super::endpoint::{Access, BASE, Endpoint, Verb};

/// An endpoint and its number, by which metrics and spans know it.
#[derive(Debug)]
pub(in crate::http) struct Numbered<A: 'static> {
    pub(in crate::http) endpoint: &'static Endpoint<A>,
    pub(in crate::http) number: usize,
}

impl<A> Clone for Numbered<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Numbered<A> {}

/// The endpoints of one path.
#[derive(Debug)]
pub(in crate::http) struct Route<A: 'static> {
    endpoints: Vec<Numbered<A>>,
    allow: HeaderValue,
}

impl<A> Route<A> {
    fn new(mut endpoints: Vec<Numbered<A>>) -> Self {
        endpoints.sort_unstable_by_key(|each| each.endpoint.verb);
        let methods: Vec<&str> =
            endpoints.iter().flat_map(|each| each.endpoint.verb.allowed_methods()).copied().collect();
        let allow = HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static(""));
        Self { endpoints, allow }
    }

    /// The endpoint of a method, if the path has one.
    pub(in crate::http) fn endpoint(&self, method: &Method) -> Option<Numbered<A>> {
        let verb = Verb::of(method)?;
        self.endpoints.iter().find(|each| each.endpoint.verb == verb).copied()
    }

    /// The methods of the path, as the value of `Allow`.
    pub(in crate::http) const fn allow(&self) -> &HeaderValue {
        &self.allow
    }
}

/// All endpoints, by path.
#[derive(Debug)]
pub(in crate::http) struct Router<A: 'static> {
    routes: matchit::Router<Route<A>>,
}

impl<A> Router<A> {
    /// Numbers the endpoints in the order of the table.
    pub(in crate::http) fn new(table: &[&'static Endpoint<A>]) -> Self {
        let mut by_path: BTreeMap<String, Vec<Numbered<A>>> = BTreeMap::new();
        for (number, endpoint) in table.iter().copied().enumerate() {
            for path in paths(endpoint) {
                by_path.entry(path).or_default().push(Numbered { endpoint, number });
            }
        }
        let mut routes = matchit::Router::new();
        for (path, endpoints) in by_path {
            // The table is fixed, and a test looks each of its paths up.
            let _ = routes.insert(path, Route::new(endpoints));
        }
        Self { routes }
    }

    /// The endpoints of a path, and the raw id in the path (empty without one).
    pub(in crate::http) fn find<'a>(&self, path: &'a str) -> Option<(&Route<A>, &'a str)> {
        let found = self.routes.at(path).ok()?;
        Some((found.value, found.params.iter().next().map_or("", |(_, id)| id)))
    }
}

/// The paths of all probes in a table.
pub(in crate::http) fn probe_paths<A>(table: &[&'static Endpoint<A>]) -> Vec<String> {
    table.iter().filter(|endpoint| endpoint.access == Access::Probe).flat_map(|endpoint| paths(endpoint)).collect()
}

fn paths<A>(endpoint: &Endpoint<A>) -> impl Iterator<Item = String> {
    let bare = endpoint.is_operational.then(|| endpoint.path.to_owned());
    std::iter::once(format!("{BASE}{}", endpoint.path)).chain(bare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server::request::Call;
    use crate::http::server::{endpoint::ReplyFuture, reply};

    fn reply_nothing(_: Call<()>) -> ReplyFuture {
        Box::pin(std::future::ready(Ok(reply::no_content())))
    }

    static PROJECT: Endpoint<()> = Endpoint::get("/projects/{id}", reply_nothing);
    static DELETE_PROJECT: Endpoint<()> = Endpoint::delete("/projects/{id}", reply_nothing);
    static UPDATE_PROJECT: Endpoint<()> = Endpoint::patch("/projects/{id}", reply_nothing);
    static LIVE: Endpoint<()> = Endpoint::get("/livez", reply_nothing).probe();

    #[test]
    fn unknown_methods_and_unknown_paths_differ() {
        let router = Router::new(&[&DELETE_PROJECT, &UPDATE_PROJECT, &PROJECT, &LIVE]);
        let (route, id) = router.find("/api/v1/projects/a%2Fb").unwrap();
        assert_eq!(id, "a%2Fb");
        assert_eq!(route.endpoint(&Method::HEAD).unwrap().number, 2);
        assert!(route.endpoint(&Method::PUT).is_none());
        assert_eq!(route.allow(), "GET, HEAD, PATCH, DELETE");
        for unknown in ["/projects/a", "/api/v1/projects/", "/api/v1/projects/a/b", "/api/v1/project/a"] {
            assert!(router.find(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn operational_endpoints_also_answer_without_the_prefix() {
        let router = Router::new(&[&PROJECT, &LIVE]);
        for path in ["/livez", "/api/v1/livez"] {
            assert_eq!(router.find(path).unwrap().0.endpoint(&Method::HEAD).unwrap().number, 1, "{path}");
        }
        assert_eq!(probe_paths(&[&PROJECT, &LIVE]), ["/api/v1/livez", "/livez"]);
    }
}
