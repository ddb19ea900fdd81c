//! Exports ended spans to the collector: a bounded queue, batches, and log lines about
//! a collector that fails.

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

/// Spans that may wait or be on their way. Further spans are dropped. A span takes about
/// a kilobyte.
const MAX_WAITING: usize = 2048;
/// Spans in one batch.
const MAX_BATCH: usize = 512;
/// Time limit for sending the waiting spans at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Settings of the export.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address of the collector.
    pub endpoint: Address,
    /// The path for traces below the address; empty if the address is complete.
    pub path: &'static str,
    /// File of certificate authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The name of the service in traces.
    pub service_name: String,
    /// The version of the service.
    pub version: &'static str,
}

/// The running export of spans.
#[derive(Debug)]
pub struct Export {
    provider: SdkTracerProvider,
    tracer: Tracer,
    figures: Arc<Figures>,
}

/// Why the export cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The library refuses its settings, which may come from `OTEL_…` variables.
    #[error("telemetry.otlp_endpoint can't be used: {0}")]
    Library(String),
    /// The collector is reached over TLS, and there is no trust anchor.
    #[error(transparent)]
    Encryption(#[from] tls::Error),
}

impl Settings {
    /// Returns the settings of TLS for the collector. Reads the certificate authorities, if
    /// the address uses TLS.
    pub fn tls_config(&self) -> Result<ClientConfig, tls::Error> {
        if self.endpoint.is_encrypted() {
            tls::http_client(self.ca_file.as_deref())
        } else {
            Ok(tls::client_builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
    }
}

impl Export {
    /// Starts the thread that makes batches. They are sent on `runtime`, which is not the
    /// runtime that answers requests.
    pub fn start(settings: Settings, runtime: Handle, clock: Clock) -> Result<Self, ExportError> {
        let (figures, poster) = (Arc::new(Figures::default()), Arc::new(Poster::new(settings.tls_config()?)));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.endpoint.join(settings.path))
            .with_timeout(TIMEOUT)
            .with_shared_http_client(poster.clone())
            .build()
            .map_err(|error| ExportError::Library(error.to_string()))?;
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
        let config =
            BatchConfigBuilder::default().with_max_queue_size(MAX_WAITING).with_max_export_batch_size(MAX_BATCH);
        let batches = BatchSpanProcessor::builder(sender).with_batch_config(config.build()).build();
        let bounded = BoundedProcessor { batches, figures: figures.clone() };
        let provider = SdkTracerProvider::builder().with_resource(resource).with_span_processor(bounded).build();
        let scope = InstrumentationScope::builder("dats").with_version(settings.version).build();
        let tracer = Tracer::new(provider.tracer_with_scope(scope), clock, figures.clone());
        Ok(Self { provider, tracer, figures })
    }

    /// Returns the tracer, which makes spans.
    #[must_use]
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Sends the waiting spans. Blocks for a few seconds at most. No spans are made after
    /// this.
    pub fn stop(&self) {
        // A failure of the last batch has been logged where it happened.
        let _ = self.provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        let waiting = self.figures.counts().waiting;
        if waiting > 0 {
            tracing::warn!(spans = waiting, "spans lost that were not sent before the stop");
        }
    }
}

/// Limits the spans in the queue of the library, which would drop spans without counting
/// them.
#[derive(Debug)]
struct BoundedProcessor {
    batches: BatchSpanProcessor,
    figures: Arc<Figures>,
}

impl SpanProcessor for BoundedProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.figures.try_reserve(count(MAX_WAITING)) {
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

/// Sends batches, one after the other, and logs when the collector begins to fail and
/// when it accepts spans again.
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
        // On that runtime encoding takes no time from requests, and the timers of the
        // client work.
        let sending = self.runtime.spawn(async move { exporter.export(batch).await });
        let Ok(sent) = sending.await else {
            // The background runtime has ended, because the service stops.
            self.figures.release(spans, false);
            return Err(OTelSdkError::AlreadyShutdown);
        };
        self.figures.release(spans, sent.is_ok());
        self.log_change(&sent);
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Before the first batch there is no other reference.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

impl Sender {
    fn log_change(&self, sent: &OTelSdkResult) {
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        let collector = &self.endpoint;
        if sent.is_ok() && was_failing {
            tracing::info!(%collector, "collector accepts traces again");
        } else if sent.is_err() && !was_failing {
            let reason = self.poster.last_failure();
            tracing::warn!(%collector, reason, "collector does not accept traces, spans are dropped until it does");
        }
    }
}

fn count(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}
