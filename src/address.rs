//! The address of a service that is spoken to over HTTP: scheme, server and base
//! path, checked once.
//!
//! May know `tls`.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use crate::tls;

/// Where a service is, such as `http://agent-service:8000/api/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Without a slash at the end.
    base: String,
    is_encrypted: bool,
}

/// Why a text is no address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// It can't be read as a URL.
    #[error("must be a URL such as http://agent-service:8000/api/v1")]
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

impl Address {
    /// Whether it is spoken to over TLS.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The address of a path, which begins with a slash, below the base path.
    #[must_use]
    pub fn below(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        // First of all: what holds a password is refused for that, whatever
        // else is wrong with it.
        if text.contains('@') {
            return Err(InvalidAddress::Credentials);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidAddress::NotUrl)?;
        let (scheme, is_encrypted) = match uri.scheme_str() {
            Some("http") => ("http", false),
            Some("https") => ("https", true),
            _ => return Err(InvalidAddress::Scheme),
        };
        let authority = uri.authority().ok_or(InvalidAddress::NotUrl)?;
        if uri.query().is_some() {
            return Err(InvalidAddress::Query);
        }
        if is_encrypted && !tls::can_be_named(authority.host()) {
            return Err(InvalidAddress::Host);
        }
        Ok(Self { base: format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')), is_encrypted })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_added_to_the_base_path() {
        for (text, below) in [
            ("http://agent:8000/api/v1", "http://agent:8000/api/v1/query"),
            ("http://agent:8000/api/v1/", "http://agent:8000/api/v1/query"),
            ("http://agent:8000/api/v1//", "http://agent:8000/api/v1/query"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9/query"),
            ("http://[::1]:4318/otlp/", "http://[::1]:4318/otlp/query"),
            ("https://agent/api/v1/", "https://agent/api/v1/query"),
            ("HTTPS://agent.example:8443", "https://agent.example:8443/query"),
            ("https://127.0.0.1:9", "https://127.0.0.1:9/query"),
            ("https://[::1]:9/", "https://[::1]:9/query"),
            ("https://agent_service:8000", "https://agent_service:8000/query"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.below("/query").as_str(), address.is_encrypted()), (below, below.starts_with("https")));
        }
    }

    #[test]
    fn what_can_not_be_called_is_refused() {
        for (text, error) in [
            ("https://-agent/api/v1", InvalidAddress::Host),
            ("https://", InvalidAddress::NotUrl),
            ("agent:8000", InvalidAddress::Scheme),
            ("ftp://agent/", InvalidAddress::Scheme),
            ("http://", InvalidAddress::NotUrl),
            ("", InvalidAddress::NotUrl),
            ("http://a b/", InvalidAddress::NotUrl),
            ("http://me:secret@agent/", InvalidAddress::Credentials),
            ("https://me:secret@agent/", InvalidAddress::Credentials),
            ("https://me:sec/ret@agent", InvalidAddress::Credentials),
            ("http://agent/?x=1", InvalidAddress::Query),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }
}
