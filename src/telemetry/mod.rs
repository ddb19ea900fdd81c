//! The log on stderr ([`start_log`]) and traces (OpenTelemetry): a [`Tracer`] makes
//! spans, which are sent to a collector after the answers.
//!
//! Without a collector there is no [`Tracer`], and a request only checks for one. With
//! a collector, an ended span goes to a bounded queue. A thread of the library takes
//! batches from the queue, which are encoded and sent on the background runtime. No
//! request waits for either: spans without space in the queue, and batches that the
//! collector does not accept, are counted and dropped.
//!
//! May know `task`, `clock`, `tls` and `address`.

mod client;
mod export;
mod figures;
mod log;
mod metrics;
mod trace_parent;
mod tracer;

pub use export::{Export, ExportError, Settings};
pub use log::{Format, Log, LogFigures, log_figures, start_log};
pub use metrics::{LogMetrics, Metrics};
pub use trace_parent::{InvalidTraceParent, TraceParent};
pub use tracer::{ClientCall, Request, Span, Tracer};
