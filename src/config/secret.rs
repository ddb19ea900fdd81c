//! Text that must not be shown.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// Printed in place of a secret.
pub const REDACTED: &str = "***";

/// A secret. `Display` and `Debug` print [`REDACTED`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the code that sends it.
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

/// Returns `text` without credentials: the user part of a URL is redacted. A text with a
/// password in another form, such as `host=... password=...`, is redacted completely.
pub(super) fn without_credentials(text: &str) -> String {
    if text.contains('=') && text.to_ascii_lowercase().contains("password") {
        return REDACTED.to_owned();
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // Up to the last @, because a password may contain @ and / unescaped.
    match rest.rfind('@') {
        Some(at) => format!("{scheme}://{REDACTED}@{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_a_secret_redacts_it() {
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
