//! The address of a collector, checked once.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use crate::tls;

/// Where a collector takes traces, such as `http://collector:4318`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Without a slash at the end.
    base: String,
    is_encrypted: bool,
}

/// Why a text is no address of a collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It can't be read as a URL.
    #[error("must be a URL such as http://collector:4318")]
    NotUrl,
    /// Another scheme, or none.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// Encrypted, to a host that no certificate can name.
    #[error("must name a host that a certificate can be for")]
    Host,
    /// A name and password before the host: they would be shown in logs.
    #[error("must not hold a user name or password")]
    Credentials,
    /// A query, to which no path can be added.
    #[error("must not have a query")]
    Query,
}

impl Endpoint {
    /// Whether it is spoken to over TLS.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Where traces are posted: below the base, as the specification of
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` says.
    pub(super) fn traces(&self) -> String {
        format!("{}/v1/traces", self.base)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        // First of all: what holds a password is refused for that, whatever
        // else is wrong with it.
        if text.contains('@') {
            return Err(InvalidEndpoint::Credentials);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint::NotUrl)?;
        let (scheme, is_encrypted) = match uri.scheme_str() {
            Some("http") => ("http", false),
            Some("https") => ("https", true),
            _ => return Err(InvalidEndpoint::Scheme),
        };
        let authority = uri.authority().ok_or(InvalidEndpoint::NotUrl)?;
        if uri.query().is_some() {
            return Err(InvalidEndpoint::Query);
        }
        if is_encrypted && !tls::can_be_named(authority.host()) {
            return Err(InvalidEndpoint::Host);
        }
        Ok(Self { base: format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')), is_encrypted })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_is_added() {
        for (text, traces) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("http://[::1]:4318/otlp/", "http://[::1]:4318/otlp/v1/traces"),
            ("HTTPS://collector.example/otlp", "https://collector.example/otlp/v1/traces"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.traces().as_str(), endpoint.is_encrypted()), (traces, traces.starts_with("https")));
        }
    }

    #[test]
    fn what_can_not_be_reached_is_refused() {
        for (text, error) in [
            ("https://-collector:4318", InvalidEndpoint::Host),
            ("collector:4318", InvalidEndpoint::Scheme),
            ("grpc://collector", InvalidEndpoint::Scheme),
            ("http://", InvalidEndpoint::NotUrl),
            ("", InvalidEndpoint::NotUrl),
            ("http://a b/", InvalidEndpoint::NotUrl),
            ("http://me:secret@collector/", InvalidEndpoint::Credentials),
            ("https://me:sec/ret@collector", InvalidEndpoint::Credentials),
            ("http://collector/?x=1", InvalidEndpoint::Query),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }
}
