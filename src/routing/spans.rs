//! The spans of questions to a service, where traces are exported.

use http::Uri;

use super::error::Error;
use crate::address::Address;
use crate::telemetry::{Asked, Span, Tracer};

/// Makes the spans of questions to one service.
#[derive(Debug)]
pub(super) struct Spans {
    tracer: Tracer,
    base: String,
    host: String,
    port: u16,
}

impl Spans {
    pub(super) fn new(tracer: Tracer, address: &Address) -> Self {
        let base = address.to_string();
        // An address that was checked is one.
        let uri: Uri = base.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default().to_owned();
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        Self { tracer, base, host, port: uri.port_u16().unwrap_or(default_port) }
    }

    /// Begins the span of the `number`-th try of a question.
    pub(super) fn begin(&self, path: &str, number: u32, traceparent: Option<&str>) -> Span {
        let asked = Asked {
            name: format!("POST {path}"),
            method: "POST",
            url: format!("{}{path}", self.base),
            host: &self.host,
            port: self.port,
            before: number.saturating_sub(1),
        };
        self.tracer.question(asked, traceparent.and_then(|text| text.parse().ok()))
    }
}

/// Ends it with what came of the question.
pub(super) fn end(span: Span, error: Option<&Error>) {
    match error {
        // Which status of 2xx it was is not told.
        None => drop(span),
        Some(Error::Unavailable { status, .. } | Error::Refused { status, .. }) => span.answered(*status),
        Some(Error::Connection(_)) => span.failed("connection"),
        Some(Error::Timeout(_)) => span.failed("timeout"),
        Some(Error::TooLarge { .. }) => span.failed("too_large"),
        Some(Error::Invalid(_)) => span.failed("invalid_answer"),
        Some(Error::Away { .. }) => span.failed("away"),
    }
}
