//! The address of a service: scheme, server and base path, checked once.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// Where a service is, such as `http://agent-service:8000/api/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Without a slash at the end.
    text: String,
}

/// Why a text is no address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// It can't be read as a URL.
    #[error("must be a URL such as http://agent-service:8000/api/v1")]
    NotUrl,
    /// Encryption is not there yet.
    #[error("must begin with http://: https:// is not supported yet")]
    Https,
    /// Another scheme, or none.
    #[error("must begin with http://")]
    Scheme,
    /// A name and password before the host: they would be shown in logs.
    #[error("must not hold a user name or password")]
    Credentials,
    /// A query, to which no path can be added.
    #[error("must not have a query")]
    Query,
}

impl Address {
    /// The address of an endpoint below the base path.
    pub(super) fn endpoint(&self, path: &str) -> Result<Uri, http::uri::InvalidUri> {
        format!("{}{path}", self.text).parse()
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let uri: Uri = text.parse().map_err(|_| InvalidAddress::NotUrl)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(InvalidAddress::Https),
            _ => return Err(InvalidAddress::Scheme),
        }
        let authority = uri.authority().ok_or(InvalidAddress::NotUrl)?;
        if authority.as_str().contains('@') {
            return Err(InvalidAddress::Credentials);
        }
        if uri.query().is_some() {
            return Err(InvalidAddress::Query);
        }
        Ok(Self { text: format!("http://{authority}{}", uri.path().trim_end_matches('/')) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_added_to_the_base_path() {
        for base in ["http://agent:8000/api/v1", "http://agent:8000/api/v1/", "http://agent:8000/api/v1//"] {
            let address: Address = base.parse().unwrap();
            assert_eq!(address.endpoint("/analyze").unwrap(), "http://agent:8000/api/v1/analyze");
        }
        let bare: Address = "http://127.0.0.1:9".parse().unwrap();
        assert_eq!(bare.endpoint("/query").unwrap(), "http://127.0.0.1:9/query");
    }

    #[test]
    fn what_can_not_be_called_is_refused() {
        for (text, error) in [
            ("https://agent/api/v1", InvalidAddress::Https),
            ("agent:8000", InvalidAddress::Scheme),
            ("ftp://agent/", InvalidAddress::Scheme),
            ("http://", InvalidAddress::NotUrl),
            ("", InvalidAddress::NotUrl),
            ("http://a b/", InvalidAddress::NotUrl),
            ("http://me:secret@agent/", InvalidAddress::Credentials),
            ("http://agent/?x=1", InvalidAddress::Query),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }
}
