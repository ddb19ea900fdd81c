//! The spans of calls to a service, if traces are exported.

use http::Uri;

use super::error::Error;
use crate::address::Address;
use crate::telemetry::{ClientCall, Span, Tracer};

/// Makes the spans of calls to one service.
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
        // The address has been checked, so it is a URI.
        let uri: Uri = base.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default().to_owned();
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        Self { tracer, base, host, port: uri.port_u16().unwrap_or(default_port) }
    }

    /// Starts the span of the `number`-th attempt of a call, counted from 1.
    pub(super) fn start(&self, path: &str, number: u32, traceparent: Option<&str>) -> Span {
        let call = ClientCall {
            name: format!("POST {path}"),
            method: "POST",
            url: format!("{}{path}", self.base),
            host: &self.host,
            port: self.port,
            previous_attempts: number.saturating_sub(1),
        };
        self.tracer.start_client_call(call, traceparent.and_then(|text| text.parse().ok()))
    }
}

/// Ends the span with the outcome of the attempt.
pub(super) fn end(span: Span, error: Option<&Error>) {
    match error {
        // The exact status in 2xx is not known here.
        None => drop(span),
        Some(Error::Unavailable { status, .. } | Error::Refused { status, .. }) => span.end_with_status(*status),
        Some(Error::Connection(_)) => span.end_with_error("connection"),
        Some(Error::Timeout(_)) => span.end_with_error("timeout"),
        Some(Error::TooLarge { .. }) => span.end_with_error("too_large"),
        Some(Error::Invalid(_)) => span.end_with_error("invalid_answer"),
        Some(Error::BreakerOpen { .. }) => span.end_with_error("away"),
    }
}
