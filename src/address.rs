//! The address of a service with an HTTP interface: scheme, host and base path,
//! checked once.
//!
//! May know `tls`.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use crate::tls;

/// The address of a service, such as `http://agent-service:8000/api/v1`.
///
/// ```
/// use dats::address::Address;
///
/// let agent: Address = "http://agent-service:8000/api/v1/".parse()?;
/// assert_eq!(agent.join("/query"), "http://agent-service:8000/api/v1/query");
/// # Ok::<(), dats::address::InvalidAddress>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The URL without a trailing slash.
    base: String,
    is_encrypted: bool,
}

/// Why a text is not the address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// The text is not a URL.
    #[error("must be a URL such as http://agent-service:8000/api/v1")]
    NotUrl,
    /// The scheme is missing, or is another one.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// The scheme is `https`, and no certificate can be issued for the host.
    #[error("must have a host that a certificate can be issued for")]
    Host,
    /// There is a user name or password, which logs would show.
    #[error("must not contain a user name or password")]
    Credentials,
    /// There is a query, to which no path can be appended.
    #[error("must not have a query")]
    Query,
}

impl Address {
    /// Whether connections to the address use TLS.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Appends a path, which begins with a slash, to the base path.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        // This check comes first, so that no other error shows a password.
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
        if is_encrypted && !tls::is_server_name(authority.host()) {
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
    fn paths_are_appended_to_the_base_path() {
        for (text, joined) in [
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
            assert_eq!(
                (address.join("/query").as_str(), address.is_encrypted()),
                (joined, joined.starts_with("https"))
            );
        }
    }

    #[test]
    fn other_texts_are_refused() {
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
