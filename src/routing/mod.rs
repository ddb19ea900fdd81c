//! Where a task belongs, as other services see it: the Agent analyses it,
//! splits it and picks its tier, RAG finds context for it.
//!
//! [`Agent`] and [`Rag`] are clients with deadlines, retries and a circuit
//! breaker each. They answer in the core's types or with the reason why not;
//! nothing a service says or fails to say harms more than the question.

mod address;
mod agent;
mod answers;
mod breaker;
mod caller;
mod error;
mod exchange;
mod figures;
mod rag;
mod retry;
mod settings;

pub use address::{Address, InvalidAddress};
pub use agent::Agent;
pub use answers::MAX_CONTEXT_BYTES;
pub use breaker::BreakerState;
pub use caller::Failed;
pub use error::{Error, InvalidAnswer};
pub use figures::{CallOutcome, Figures, LATENCIES, Latency, ServiceFigures};
pub use rag::Rag;
pub use settings::{Breaker, Fallback, Service, Settings};
