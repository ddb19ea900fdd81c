//! Checks the API key of a request.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::problem::Problem;
use super::settings::ApiKey;

/// Refuses a caller without the key, in `X-API-Key` or as a bearer token. Without a
/// configured key every caller is let in.
pub(in crate::http) fn check(key: Option<&ApiKey>, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(key) = key else { return Ok(()) };
    let plain = headers.get("x-api-key").map(hyper::header::HeaderValue::as_bytes);
    let given = plain.or_else(|| bearer(headers));
    match given {
        Some(given) if key.admits(given) => Ok(()),
        Some(_) => Err(Problem::unauthorized("the API key is not the configured one")),
        None => Err(Problem::unauthorized("an API key is needed, in X-API-Key or as a bearer token")),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(name: &'static str, value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        check(Some(&ApiKey::new("k")), &headers).is_ok()
    }

    #[test]
    fn both_headers_are_accepted() {
        assert!(admits("x-api-key", "k"));
        assert!(admits("authorization", "bearer k"));
        assert!(!admits("authorization", "Basic k"));
        assert!(!admits("authorization", "x"));
        assert!(!admits("x-api-key", "K"));
        assert!(check(Some(&ApiKey::new("k")), &HeaderMap::new()).is_err());
        assert!(check(None, &HeaderMap::new()).is_ok());
    }
}
