//! The success criteria of the service, measured against a private server or a running one,
//! through its HTTP interface alone.
//!
//! Submissions, status queries and events are measured at the same time, the first two
//! each at a fixed pace. Then a private server is killed under load and restarted, every
//! acknowledged task is looked up, and provenance queries are measured.

mod cleanup;
mod events;
mod provenance;
mod report;
mod run;
mod tasks;

pub use events::EventFigures;
pub use provenance::{ProvenanceFigures, Query};
pub use report::{Criterion, Report, ServerInfo, Settings, Verdict, format_ms};
pub use run::{Bench, Options};
pub use tasks::{KillReport, TaskCounts};
