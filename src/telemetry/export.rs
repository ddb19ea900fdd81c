//! From a span that has ended to the collector: a bounded queue, batches, and
//! what is said of a collector that does not take them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;

use super::client::{Poster, TIMEOUT};
use super::figures::Figures;
use super::tracer::Tracer;
use crate::address::Address;
use crate::clock::Clock;
use crate::tls;

/// Most spans that wait or are under way; more are dropped. One is about a
/// kilobyte.
const MAX_WAITING: usize = 2048;
/// Most spans in one batch.
const BATCH: usize = 512;
/// Longest time for what still waits at the end.
const FLUSH: Duration = Duration::from_secs(3);

/// Where spans go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collector.
    pub endpoint: Address,
    /// Where it takes traces, below its address; empty where that is all of it.
    pub path: &'static str,
    /// Certificates of authorities that are believed besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What the service calls itself.
    pub service_name: String,
    /// Its version.
    pub version: &'static str,
}

/// Sends spans; without one there are none.
#[derive(Debug)]
pub struct Export {
    provider: SdkTracerProvider,
    tracer: Tracer,
    figures: Arc<Figures>,
}

/// Why there can be no export.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The library's own settings, from `OTEL_…` variables, do not fit.
    #[error("telemetry.otlp_endpoint can't be used: {0}")]
    Library(String),
    /// There is nobody to believe, and the collector is to be spoken to over TLS.
    #[error(transparent)]
    Encryption(#[from] tls::Error),
}

impl Settings {
    /// How the collector is spoken to over TLS, if it is. The authorities are
    /// read now.
    pub fn encryption(&self) -> Result<ClientConfig, tls::Error> {
        if self.endpoint.is_encrypted() {
            tls::http_client(self.ca_file.as_deref())
        } else {
            Ok(tls::client_builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
    }
}

impl Export {
    /// Starts the thread that makes batches. They are sent on `runtime`, which
    /// is not the one that answers requests.
    pub fn start(settings: Settings, runtime: Handle, clock: Clock) -> Result<Self, NotStarted> {
        let (figures, poster) = (Arc::new(Figures::default()), Arc::new(Poster::new(settings.encryption()?)));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.endpoint.join(settings.path))
            .with_timeout(TIMEOUT)
            .with_shared_http_client(poster.clone())
            .build()
            .map_err(|error| NotStarted::Library(error.to_string()))?;
        let resource = Resource::builder()
            .with_service_name(settings.service_name)
            .with_attribute(KeyValue::new("service.version", settings.version))
            .build();
        let sender = Sender {
            exporter: Arc::new(exporter),
            runtime,
            figures: figures.clone(),
            poster,
            endpoint: settings.endpoint,
            is_failing: AtomicBool::new(false),
        };
        let config = BatchConfigBuilder::default().with_max_queue_size(MAX_WAITING).with_max_export_batch_size(BATCH);
        let batches = BatchSpanProcessor::builder(sender).with_batch_config(config.build()).build();
        let bounded = Bounded { batches, figures: figures.clone() };
        let provider = SdkTracerProvider::builder().with_resource(resource).with_span_processor(bounded).build();
        let scope = InstrumentationScope::builder("dats").with_version(settings.version).build();
        let tracer = Tracer::new(provider.tracer_with_scope(scope), clock, figures.clone());
        Ok(Self { provider, tracer, figures })
    }

    /// Makes spans.
    #[must_use]
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Sends what still waits, within a few seconds; blocks. From here on no
    /// spans are made.
    pub fn stop(&self) {
        // A result of the last batch, which was told of where it failed.
        let _ = self.provider.shutdown_with_timeout(FLUSH);
        let waiting = self.figures.counts().waiting;
        if waiting > 0 {
            tracing::warn!(spans = waiting, "traces that were not sent before the end are lost");
        }
    }
}

/// Gives places to spans before the library queues them: it would drop what is
/// too much without telling how many.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    figures: Arc<Figures>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.figures.take_place(count(MAX_WAITING)) {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Sends batches, one after the other, and tells of a collector that begins to
/// refuse them and of one that takes them again.
#[derive(Debug)]
struct Sender {
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: Handle,
    figures: Arc<Figures>,
    poster: Arc<Poster>,
    endpoint: Address,
    is_failing: AtomicBool,
}

impl SpanExporter for Sender {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = count(batch.len());
        let exporter = self.exporter.clone();
        // There encoding takes no time from requests, and the client finds
        // its timers.
        let sending = self.runtime.spawn(async move { exporter.export(batch).await });
        let Ok(sent) = sending.await else {
            // The background has ended: so does the service.
            self.figures.ended(spans, false);
            return Err(OTelSdkError::AlreadyShutdown);
        };
        self.figures.ended(spans, sent.is_ok());
        self.tell(&sent);
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Before the first batch nobody else has it.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

impl Sender {
    fn tell(&self, sent: &OTelSdkResult) {
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        let collector = &self.endpoint;
        if sent.is_ok() && was_failing {
            tracing::info!(%collector, "the collector takes traces again");
        } else if sent.is_err() && !was_failing {
            let reason = self.poster.reason();
            tracing::warn!(%collector, reason, "the collector takes no traces; they are dropped until it does");
        }
    }
}

fn count(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}
