//! Makes the spans of requests, calls and events, with the attributes of the semantic
//! conventions of OpenTelemetry.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use super::figures::Figures;
use super::metrics::Metrics;
use super::trace_parent::TraceParent;
use crate::clock::Clock;

/// Makes spans. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Tracer {
    library: SdkTracer,
    clock: Clock,
    figures: Arc<Figures>,
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method and the route, or only the method if no route matches.
    pub name: Cow<'static, str>,
    /// A method of HTTP, or `_OTHER`.
    pub method: &'static str,
    /// The template of the route; not the path, which contains ids.
    pub route: Option<&'static str>,
    /// `1.1` or `1.0`.
    pub version: &'static str,
}

/// One attempt to call another service.
#[derive(Debug, Clone)]
pub struct ClientCall<'a> {
    /// The method and the path.
    pub name: String,
    /// The HTTP method.
    pub method: &'static str,
    /// The complete URL.
    pub url: String,
    /// The host of the URL.
    pub host: &'a str,
    /// The port of the URL.
    pub port: u16,
    /// The number of earlier attempts.
    pub previous_attempts: u32,
}

/// A running span. It ends when it is dropped at the latest.
#[derive(Debug)]
pub struct Span {
    library: opentelemetry_sdk::trace::Span,
    clock: Clock,
    /// The lowest HTTP status that is an error for this kind of span.
    error_from: u16,
}

impl Tracer {
    pub(super) const fn new(library: SdkTracer, clock: Clock, figures: Arc<Figures>) -> Self {
        Self { library, clock, figures }
    }

    /// Returns a collector of the counts of spans.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::new(self.figures.clone())
    }

    /// Starts the span of a request that was received.
    #[must_use]
    pub fn start_request(&self, request: Request, parent: Option<TraceParent>) -> Span {
        let mut attributes = Vec::with_capacity(6);
        attributes.push(KeyValue::new("http.request.method", request.method));
        attributes.push(KeyValue::new("url.scheme", "http"));
        attributes.push(KeyValue::new("network.protocol.version", request.version));
        attributes.extend(request.route.map(|route| KeyValue::new("http.route", route)));
        // An error of the client is not an error of the service.
        self.start(SpanKind::Server, request.name, attributes, parent, 500)
    }

    /// Starts the span of a call to another service.
    #[must_use]
    pub fn start_client_call(&self, call: ClientCall<'_>, parent: Option<TraceParent>) -> Span {
        let mut attributes = vec![
            KeyValue::new("http.request.method", call.method),
            KeyValue::new("url.full", call.url),
            KeyValue::new("server.address", call.host.to_owned()),
            KeyValue::new("server.port", i64::from(call.port)),
        ];
        if call.previous_attempts > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(call.previous_attempts)));
        }
        self.start(SpanKind::Client, call.name.into(), attributes, parent, 400)
    }

    /// Starts the span of an event from a queue of the broker, which lasts until the event
    /// has its effect. `parent` is the event's `traceparent`.
    #[must_use]
    pub fn start_event(&self, queue: &str, parent: Option<&str>) -> Span {
        let attributes = vec![
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.destination.name", queue.to_owned()),
        ];
        let name = format!("process {queue}").into();
        self.start(SpanKind::Consumer, name, attributes, parent.and_then(|text| text.parse().ok()), u16::MAX)
    }

    fn start(
        &self,
        kind: SpanKind,
        name: Cow<'static, str>,
        attributes: Vec<KeyValue>,
        parent: Option<TraceParent>,
        error_from: u16,
    ) -> Span {
        let builder =
            SpanBuilder::from_name(name).with_kind(kind).with_start_time(now(&self.clock)).with_attributes(attributes);
        let mut context = Context::new();
        if let Some(parent) = parent {
            context = context.with_remote_span_context(parent.to_context());
        }
        let library = self.library.build_with_context(builder, &context);
        Span { library, clock: self.clock.clone(), error_from }
    }
}

impl Span {
    /// Returns this span as the parent of others. `None` only after the export has
    /// stopped.
    #[must_use]
    pub fn trace_parent(&self) -> Option<TraceParent> {
        TraceParent::from_context(self.library.span_context())
    }

    /// Ends the span with the status of an HTTP answer.
    pub fn end_with_status(mut self, status: u16) {
        self.library.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= self.error_from {
            self.set_error(status.to_string());
        }
    }

    /// Ends the span with an error that has no status.
    pub fn end_with_error(mut self, error: &'static str) {
        self.set_error(error);
    }

    fn set_error(&mut self, error: impl Into<Cow<'static, str>>) {
        let error: Cow<'static, str> = error.into();
        self.library.set_attribute(KeyValue::new("error.type", error));
        self.library.set_status(Status::error(""));
    }
}

impl Drop for Span {
    /// Ends the span at the time of the service's clock, like all its times.
    fn drop(&mut self) {
        if self.library.is_recording() {
            self.library.end_with_timestamp(now(&self.clock));
        }
    }
}

fn now(clock: &Clock) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(clock.wall().as_micros().unsigned_abs())
}
