//! The spans of requests, if traces are exported to a collector.

use std::borrow::Cow;

use hyper::{Method, Request, Version};

use super::endpoint::{BASE, Endpoint, Verb};
use super::trace_context;
use crate::telemetry::{self, Span, Tracer};

/// Stands for a method that HTTP does not define: no text of a client becomes
/// the name of a span.
const OTHER: &str = "_OTHER";

/// Starts the spans of requests.
#[derive(Debug)]
pub(in crate::http) struct RequestSpans {
    tracer: Tracer,
    /// By the number of the endpoint. Leaked, since the tracing library takes names of
    /// static lifetime, and a process builds one server.
    names: &'static [SpanName],
}

/// The name of the spans of an endpoint.
#[derive(Debug)]
struct SpanName {
    method: &'static str,
    route: String,
    text: String,
    is_operational: bool,
}

impl SpanName {
    fn new(verb: Verb, path: &str, is_operational: bool) -> Self {
        let (method, route) = (verb.as_str(), format!("{BASE}{path}"));
        Self { method, text: format!("{method} {route}"), route, is_operational }
    }
}

impl RequestSpans {
    pub(in crate::http) fn new<A>(tracer: Tracer, table: &[&'static Endpoint<A>]) -> Self {
        let names = table.iter().map(|endpoint| SpanName::new(endpoint.verb, endpoint.path, endpoint.is_operational));
        Self { tracer, names: names.collect::<Vec<_>>().leak() }
    }

    /// Starts the span of a request to the endpoint with this number, if it has
    /// one. Requests to operational endpoints have no span.
    pub(in crate::http) fn start<B>(&self, request: &Request<B>, endpoint: Option<usize>) -> Option<Box<Span>> {
        let name = endpoint.and_then(|number| self.names.get(number));
        if name.is_some_and(|name| name.is_operational) {
            return None;
        }
        let begun = telemetry::Request {
            name: span_name(request.method(), name),
            method: known_method(request.method()),
            route: name.map(|name| name.route.as_str()),
            version: if request.version() == Version::HTTP_10 { "1.0" } else { "1.1" },
        };
        Some(Box::new(self.tracer.start_request(begun, trace_context::parent(request.headers()))))
    }
}

fn span_name(method: &Method, name: Option<&'static SpanName>) -> Cow<'static, str> {
    match (known_method(method), name) {
        (method, Some(name)) if name.method == method => Cow::Borrowed(name.text.as_str()),
        // A `HEAD` that is answered as a `GET`.
        (method, Some(name)) => Cow::Owned(format!("{method} {}", name.route)),
        (OTHER, None) => Cow::Borrowed("HTTP"),
        (method, None) => Cow::Borrowed(method),
    }
}

fn known_method(method: &Method) -> &'static str {
    let known = ["GET", "POST", "HEAD", "PATCH", "DELETE", "PUT", "OPTIONS", "TRACE", "CONNECT"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_named_by_method_and_route() {
        let name: &'static SpanName = Box::leak(Box::new(SpanName::new(Verb::Get, "/tasks/{id}", false)));
        assert_eq!(span_name(&Method::GET, Some(name)), "GET /api/v1/tasks/{id}");
        assert_eq!(span_name(&Method::HEAD, Some(name)), "HEAD /api/v1/tasks/{id}");
        assert_eq!(span_name(&Method::PATCH, None), "PATCH");
    }

    #[test]
    fn no_text_of_a_client_becomes_a_name() {
        let made_up: Method = "BREW".parse().unwrap();
        assert_eq!(known_method(&Method::PATCH), "PATCH");
        assert_eq!((known_method(&made_up), span_name(&made_up, None)), ("_OTHER", Cow::Borrowed("HTTP")));
    }
}
