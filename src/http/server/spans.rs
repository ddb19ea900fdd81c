//! The span of a request, where traces are exported.

use std::borrow::Cow;
use std::sync::LazyLock;

use hyper::{Method, Request, Version};

use super::headers;
use crate::http::api::app::App;
use crate::http::api::routes;
use crate::telemetry::{self, Span, Tracer};

/// What is said of a method that is not one of HTTP's: nobody's text becomes
/// the name of a span.
const OTHER: &str = "_OTHER";

/// What spans of an endpoint are called.
struct Named {
    method: &'static str,
    route: String,
    name: String,
}

/// In the order of the table of routes; made when the first span is.
static NAMED: LazyLock<Vec<Named>> = LazyLock::new(|| {
    let named = |(method, path)| {
        let route = format!("{}{path}", routes::BASE);
        Named { method, name: format!("{method} {route}"), route }
    };
    routes::labels().map(named).collect()
});

/// Begins the span of a request. Without a collector there is none, and there
/// is none for what asks how the service is. `endpoint` is its number in the
/// table of routes, where it has one.
#[inline]
pub(in crate::http) fn begin<B>(app: &App, request: &Request<B>, endpoint: Option<usize>) -> Option<Box<Span>> {
    app.tracer.as_ref().and_then(|tracer| of(tracer, request, endpoint))
}

fn of<B>(tracer: &Tracer, request: &Request<B>, endpoint: Option<usize>) -> Option<Box<Span>> {
    if endpoint.is_some_and(routes::is_operational) {
        return None;
    }
    let named = endpoint.and_then(|number| NAMED.get(number));
    let method = method(request.method());
    let name = match named {
        Some(named) if named.method == method => Cow::Borrowed(named.name.as_str()),
        // A `HEAD` that is answered as a `GET`.
        Some(named) => Cow::Owned(format!("{method} {}", named.route)),
        None if method == OTHER => Cow::Borrowed("HTTP"),
        None => Cow::Borrowed(method),
    };
    let route = named.map(|named| named.route.as_str());
    let version = if request.version() == Version::HTTP_10 { "1.0" } else { "1.1" };
    let begun = telemetry::Request { name, method, route, version };
    Some(Box::new(tracer.request(begun, headers::trace_parent(request.headers()))))
}

/// The method as it may be told.
fn method(method: &Method) -> &'static str {
    let known = ["GET", "POST", "HEAD", "PATCH", "DELETE", "PUT", "OPTIONS", "TRACE", "CONNECT"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_routes() {
        assert!(NAMED.iter().any(|named| named.name == "GET /api/v1/tasks/{id}" && named.method == "GET"));
        assert_eq!(NAMED.len(), routes::labels().count());
    }

    #[test]
    fn no_text_of_a_client_is_a_method() {
        assert_eq!(method(&Method::PATCH), "PATCH");
        assert_eq!(method(&"BREW".parse().unwrap()), "_OTHER");
    }
}
