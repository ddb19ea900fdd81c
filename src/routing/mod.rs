//! Routing of tasks by other services: the Agent analyses a task, splits it and
//! chooses its tier; RAG finds context for it.
//!
//! [`Agent`] and [`Rag`] are clients, each with deadlines, retries and a circuit
//! breaker. They return the core's types or an error. A wrong or missing answer
//! affects only the task of the call. [`Driver`] takes jobs from the engine, makes the
//! calls, and returns the findings to the engine. It keeps no state that a restart
//! would lose.

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
pub use caller::CallError;
pub use driver::Driver;
pub use error::{Error, InvalidAnswer};
pub use figures::{CallOutcome, Figures, LATENCIES, Latency, ServiceFigures};
pub use metrics::Metrics;
pub use rag::Rag;
pub use services::Services;
pub use settings::{Breaker, Fallback, Service, Settings};
