//! Makes spans of requests, questions and events, with the names that the
//! semantic conventions give to what is known of them.

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

/// A request that came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method and route, or the method where no route fits.
    pub name: Cow<'static, str>,
    /// One of the known methods, or `_OTHER`.
    pub method: &'static str,
    /// The route's template; never the path, which has ids.
    pub route: Option<&'static str>,
    /// `1.1` or `1.0`.
    pub version: &'static str,
}

/// A question to another service.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Method and path.
    pub name: String,
    /// The method.
    pub method: &'static str,
    /// The whole address.
    pub url: String,
    /// Its host.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// How many tries came before.
    pub before: u32,
}

/// Something that takes time, until this is ended or dropped.
#[derive(Debug)]
pub struct Span {
    library: opentelemetry_sdk::trace::Span,
    clock: Clock,
    /// The lowest status that is an error of whose span it is.
    error_from: u16,
}

impl Tracer {
    pub(super) const fn new(library: SdkTracer, clock: Clock, figures: Arc<Figures>) -> Self {
        Self { library, clock, figures }
    }

    /// What became of spans.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::new(self.figures.clone())
    }

    /// The span of a request that came.
    #[must_use]
    pub fn request(&self, request: Request, parent: Option<TraceParent>) -> Span {
        let mut attributes = Vec::with_capacity(6);
        attributes.push(KeyValue::new("http.request.method", request.method));
        attributes.push(KeyValue::new("url.scheme", "http"));
        attributes.push(KeyValue::new("network.protocol.version", request.version));
        attributes.extend(request.route.map(|route| KeyValue::new("http.route", route)));
        // What the client did wrong is no error of ours.
        self.start(SpanKind::Server, request.name, attributes, parent, 500)
    }

    /// The span of a question to another service.
    #[must_use]
    pub fn question(&self, asked: Asked<'_>, parent: Option<TraceParent>) -> Span {
        let mut attributes = vec![
            KeyValue::new("http.request.method", asked.method),
            KeyValue::new("url.full", asked.url),
            KeyValue::new("server.address", asked.host.to_owned()),
            KeyValue::new("server.port", i64::from(asked.port)),
        ];
        if asked.before > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(asked.before)));
        }
        self.start(SpanKind::Client, asked.name.into(), attributes, parent, 400)
    }

    /// The span of an event that came over a queue of the broker, until its
    /// effect is there. `parent`: what it says of its trace.
    #[must_use]
    pub fn event(&self, queue: &str, parent: Option<&str>) -> Span {
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
            context = context.with_remote_span_context(parent.context());
        }
        let library = self.library.build_with_context(builder, &context);
        Span { library, clock: self.clock.clone(), error_from }
    }
}

impl Span {
    /// What makes others a part of the same trace, below this span. `None`
    /// only after the end of all tracing.
    #[must_use]
    pub fn trace_parent(&self) -> Option<TraceParent> {
        TraceParent::of(self.library.span_context())
    }

    /// Ends it with the status of an HTTP answer.
    pub fn answered(mut self, status: u16) {
        self.library.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= self.error_from {
            self.fail(status.to_string());
        }
    }

    /// Ends it with a failure that has no status.
    pub fn failed(mut self, error: &'static str) {
        self.fail(error);
    }

    fn fail(&mut self, error: impl Into<Cow<'static, str>>) {
        let error: Cow<'static, str> = error.into();
        self.library.set_attribute(KeyValue::new("error.type", error));
        self.library.set_status(Status::error(""));
    }
}

impl Drop for Span {
    /// By the service's own clock, like all its times.
    fn drop(&mut self) {
        if self.library.is_recording() {
            self.library.end_with_timestamp(now(&self.clock));
        }
    }
}

fn now(clock: &Clock) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(clock.wall().as_micros().unsigned_abs())
}
