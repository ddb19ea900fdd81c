//! Refuses requests that a browser sends on behalf of a page of another site. Every
//! page that a developer opens can reach a service on the developer's machine, which
//! usually has no API key.
//!
//! * A page can send a form or plain text to any host without a preflight request.
//!   So a body must name its media type (`content_type.rs`), and a request that
//!   changes something must not come from another origin.
//! * A page can let the name of its own site resolve to this machine, and its
//!   browser then takes both for the same site (DNS rebinding). So the name in
//!   `Host` must be one that cannot be registered, or one of
//!   `server.allowed_hosts`.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use hyper::{HeaderMap, Method, Request, Version};

use super::problem::Problem;
use crate::json;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Checks the host and the origin of requests.
#[derive(Debug)]
pub(in crate::http) struct Guard {
    allowed_hosts: Vec<String>,
    checks_host: bool,
}

impl Guard {
    /// `allowed_hosts` are names without ports. Hosts are checked if there are any,
    /// or if only this machine can connect.
    pub(in crate::http) const fn new(allowed_hosts: Vec<String>, is_loopback: bool) -> Self {
        let checks_host = is_loopback || !allowed_hosts.is_empty();
        Self { allowed_hosts, checks_host }
    }

    /// Refuses a request with an ambiguous host (400), for another host (421), or
    /// from a page of another site (403).
    pub(in crate::http) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let host = single_host(request)?;
        // A target that is a whole URL names the host, too.
        let target_host = request.uri().authority().map(hyper::http::uri::Authority::as_str).or(host);
        if self.checks_host
            && let Some(foreign) = [host, target_host].into_iter().flatten().find(|host| !self.is_known(host))
        {
            return Err(Problem::unknown_host(&json::quoted(foreign)));
        }
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) {
            return Ok(());
        }
        self.check_origin(request.headers(), target_host)
    }

    /// Whether no page of another site can have this host.
    fn is_known(&self, host: &str) -> bool {
        let name = host_name(host);
        // A name without a dot cannot be registered.
        if !name.contains('.') {
            return true;
        }
        let is_local = name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
        is_local || is_address(name) || self.allows(name)
    }

    fn allows(&self, name: &str) -> bool {
        self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }

    /// Refuses a request from another origin. Browsers send `Origin` with every request
    /// that can change something.
    fn check_origin(&self, headers: &HeaderMap, host: Option<&str>) -> Result<(), Problem> {
        let mut is_listed = false;
        for origin in headers.get_all(ORIGIN) {
            let authority = authority(origin);
            is_listed = authority.is_some_and(|authority| self.allows(host_name(authority)));
            let is_own = authority.zip(host).is_some_and(|(origin, host)| is_same_host(origin, host));
            if !is_own && !is_listed {
                return Err(Problem::foreign_origin(&quoted_value(origin)));
            }
        }
        let site = headers.get(SEC_FETCH_SITE).filter(|_| !is_listed);
        match site.filter(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")) {
            Some(site) => {
                Err(Problem::foreign_origin(&format!("another site (Sec-Fetch-Site: {})", quoted_value(site))))
            }
            None => Ok(()),
        }
    }
}

fn quoted_value(value: &HeaderValue) -> String {
    json::quoted(&String::from_utf8_lossy(value.as_bytes()))
}

/// Returns the only `Host` of a request; `None` for HTTP/1.0 without one.
fn single_host<B>(request: &Request<B>) -> Result<Option<&str>, Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    match (first, second) {
        (Some(host), None) => {
            let text = host.to_str().ok().filter(|text| text.bytes().all(is_host_byte));
            text.map(Some).ok_or_else(|| Problem::invalid_host(&format!("was {}", quoted_value(host))))
        }
        (None, _) if request.version() < Version::HTTP_11 => Ok(None),
        (None, _) => Err(Problem::invalid_host("was missing")),
        (Some(_), Some(_)) => Err(Problem::invalid_host("was given more than once")),
    }
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'[' | b']')
}

/// Strips the port and the dot of the root zone.
fn host_name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn is_address(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    bare.map_or_else(|| name.parse::<Ipv4Addr>().is_ok(), |name| name.parse::<Ipv6Addr>().is_ok())
}

/// Returns the host and port of an origin. `null` and origins of other schemes than
/// HTTP have none.
fn authority(origin: &HeaderValue) -> Option<&str> {
    let text = origin.to_str().ok()?;
    text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))
}

/// Whether two hosts are equal but for a default port. A proxy may end the
/// encryption, so the default port of the origin and of the host may differ.
fn is_same_host(one: &str, other: &str) -> bool {
    let without_default_port = |host: &str| {
        let host = host.to_ascii_lowercase();
        host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).map(str::to_owned).unwrap_or(host)
    };
    without_default_port(one) == without_default_port(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().method(method).uri("/api/v1/tasks");
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    fn guard(allowed: &[&str], is_loopback: bool) -> Guard {
        Guard::new(allowed.iter().map(|name| (*name).to_owned()).collect(), is_loopback)
    }

    fn code(guard: &Guard, method: &str, headers: &[(&str, &str)]) -> (u16, &'static str) {
        match guard.check(&request(method, headers)) {
            Ok(()) => (200, ""),
            Err(problem) => (problem.status().as_u16(), problem.code()),
        }
    }

    #[test]
    fn names_that_cannot_be_registered_are_accepted() {
        let guard = guard(&["dats.example.com"], true);
        for host in [
            "x",
            "",
            "localhost:8000",
            "LOCALHOST.",
            "app.localhost:1",
            "127.0.0.1:8000",
            "10.1.2.3",
            "[::1]:8000",
            "[::ffff:127.0.0.1]",
            "::1",
            "orchestrator_1:80",
            "dats.example.com",
            "DATS.example.com.:443",
        ] {
            assert_eq!(code(&guard, "GET", &[("host", host)]).0, 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "evil.example.",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "x.dats.example.com",
            "127.0.0.1.nip.io:8000",
            "1.2.3",
            "0x7f.0.0.1",
            "[::1.x]",
        ] {
            assert_eq!(code(&guard, "GET", &[("host", host)]), (421, "unknown_host"), "{host}");
        }
    }

    #[test]
    fn hosts_are_checked_if_configured_or_on_loopback() {
        let foreign = [("host", "evil.example")];
        assert_eq!(code(&guard(&[], false), "GET", &foreign).0, 200);
        assert_eq!(code(&guard(&["a.example"], false), "GET", &foreign).0, 421);
        assert_eq!(code(&guard(&[], true), "GET", &foreign).0, 421);
        let absolute = Request::builder().uri("http://evil.example/api/v1/tasks").header("host", "x").body(()).unwrap();
        assert_eq!(guard(&[], true).check(&absolute).unwrap_err().code(), "unknown_host");
    }

    #[test]
    fn a_request_has_one_host() {
        let guard = guard(&[], false);
        for headers in [&[][..], &[("host", "x"), ("host", "x")], &[("host", "a, b")], &[("host", "a@b")]] {
            assert_eq!(code(&guard, "GET", headers), (400, "invalid_host"), "{headers:?}");
        }
        let mut old = request("GET", &[]);
        *old.version_mut() = Version::HTTP_10;
        assert!(guard.check(&old).is_ok());
    }

    #[test]
    fn other_origins_cannot_change_anything() {
        let guard = guard(&["ui.example"], false);
        let host = ("host", "localhost:8000");
        let refused = (403, "foreign_origin");
        for origin in [
            "http://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "null",
            "",
            "file://",
            "http://localhost:8000.evil.example",
            "https://x.ui.example",
            "chrome-extension://x",
        ] {
            for method in ["POST", "PATCH", "DELETE", "PUT"] {
                assert_eq!(code(&guard, method, &[host, ("origin", origin)]), refused, "{method} {origin}");
            }
            assert_eq!(code(&guard, "GET", &[host, ("origin", origin)]).0, 200, "{origin}");
        }
        for origin in ["http://localhost:8000", "http://LOCALHOST:8000", "https://ui.example", "http://ui.example:3000"]
        {
            assert_eq!(code(&guard, "POST", &[host, ("origin", origin)]).0, 200, "{origin}");
        }
        let encrypted = [("host", "a.b"), ("origin", "https://a.b:443")];
        assert_eq!(code(&super::tests::guard(&[], false), "POST", &encrypted).0, 200);
        let two = [host, ("origin", "http://localhost:8000"), ("origin", "http://evil.example")];
        assert_eq!(code(&guard, "POST", &two), refused);
    }

    #[test]
    fn sec_fetch_site_is_checked() {
        let guard = guard(&["ui.example"], false);
        let host = ("host", "localhost:8000");
        for (site, expected) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
            assert_eq!(code(&guard, "POST", &[host, ("sec-fetch-site", site)]).0, expected, "{site}");
            assert_eq!(code(&guard, "GET", &[host, ("sec-fetch-site", site)]).0, 200, "{site}");
        }
        let listed = [host, ("origin", "https://ui.example"), ("sec-fetch-site", "cross-site")];
        assert_eq!(code(&guard, "POST", &listed).0, 200);
        assert_eq!(code(&guard, "POST", &[host]).0, 200, "no browser");
    }
}
