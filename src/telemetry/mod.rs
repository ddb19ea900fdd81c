//! The log on stderr ([`start_log`]), and traces by OpenTelemetry: spans are made
//! by a [`Tracer`] and sent to a collector behind the answers.
//!
//! Without a collector there is no [`Tracer`], and a request asks for one and
//! nothing more. With one, a span that ends goes into a bounded queue. A thread
//! of the library takes batches from it, which are encoded and sent on the
//! runtime of the background. Nobody waits for either: what finds no place, and
//! what the collector does not take, is counted and gone.
//!
//! May know `task`, `clock`, `tls` and `address`.

mod client;
mod export;
mod figures;
mod log;
mod metrics;
mod trace_parent;
mod tracer;

pub use export::{Export, NotStarted, Settings};
pub use log::{Format, Log, LogFigures, log_figures, start_log};
pub use metrics::{LogMetrics, Metrics};
pub use trace_parent::{InvalidTraceParent, TraceParent};
pub use tracer::{Asked, Request, Span, Tracer};
