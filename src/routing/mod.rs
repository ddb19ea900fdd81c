//! Where a task belongs, as other services see it: the Agent analyses it,
//! splits it and picks its tier, RAG finds context for it.
//!
//! [`Agent`] and [`Rag`] are clients with deadlines, retries and a circuit
//! breaker each. They answer in the core's types or with the reason why not;
//! nothing a service says or fails to say harms more than the question.
//! [`Driver`] takes tasks from the engine, asks about them, and brings back
//! what was found; it keeps nothing that a restart would miss.

mod agent;
mod answers;
mod breaker;
mod caller;
mod connector;
mod driver;
mod error;
mod exchange;
mod failures;
mod figures;
mod job;
mod metrics;
mod rag;
mod retry;
mod services;
mod settings;
mod spans;

pub use agent::Agent;
pub use answers::MAX_CONTEXT_BYTES;
pub use breaker::BreakerState;
pub use caller::Failed;
pub use driver::Driver;
pub use error::{Error, InvalidAnswer};
pub use figures::{CallOutcome, Figures, LATENCIES, Latency, ServiceFigures};
pub use metrics::Metrics;
pub use rag::Rag;
pub use services::Services;
pub use settings::{Breaker, Fallback, Service, Settings};
