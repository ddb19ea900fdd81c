//! Text that must never be shown.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// What stands in place of a secret wherever it would be printed.
pub const REDACTED: &str = "***";

/// A secret: printing it in any way gives [`REDACTED`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// `text` as it may be shown: the user part of an URL is replaced, and a text that
/// names a password in another way, as `host=... password=...` does, as a whole.
pub(super) fn without_credentials(text: &str) -> String {
    if text.contains('=') && text.to_ascii_lowercase().contains("password") {
        return REDACTED.to_owned();
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // Up to the last @: a password may hold @ and / unescaped.
    match rest.rfind('@') {
        Some(at) => format!("{scheme}://{REDACTED}@{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_a_secret_shows_nothing_of_it() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn credentials_in_urls_are_replaced() {
        let url = "postgresql://dats:se/cr@et@postgres:5432/dats";
        assert_eq!(without_credentials(url), "postgresql://***@postgres:5432/dats");
        assert_eq!(without_credentials("http://host:1/x"), "http://host:1/x");
        assert_eq!(without_credentials("plain"), "plain");
        assert_eq!(without_credentials("host=h user=dats password = 'hunter2'"), REDACTED);
        assert_eq!(without_credentials("postgresql://h/d?user=dats&Password=hunter2"), REDACTED);
    }
}
