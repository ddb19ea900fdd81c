//! The `traceparent` header (W3C Trace Context). A value that is not valid is
//! ignored, as the specification asks.

use hyper::HeaderMap;
use hyper::header::HeaderName;

use crate::telemetry::TraceParent;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Returns the caller's span.
pub(in crate::http) fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// Returns the caller's span as the text that the client sent.
pub(in crate::http) fn text(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    text.parse::<TraceParent>().is_ok().then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_contexts_are_returned() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, value.parse().unwrap());
            text(&headers)
        };
        assert_eq!(read(good).as_deref(), Some(good));
        assert!(read(&good.replace("00-0a", "cc-0a")).is_some());
        assert!(read(&good.replace("00-0a", "ff-0a")).is_none());
        assert!(read(&good.to_uppercase()).is_none());
        assert!(read("00-00000000000000000000000000000000-b7ad6b7169203331-01").is_none());
        assert!(read(&format!("{good}-x")).is_none());
        assert!(read("x").is_none());
    }
}
