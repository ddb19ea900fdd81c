//! Stand-ins for the services around this one, for demos, drills and load. Workers and QA
//! use the public HTTP contract, Agent and RAG offer theirs: a server can't tell them from
//! the real services.

pub mod agent;
mod chance;
mod fault;
pub mod qa;
pub mod rag;
pub mod script;
mod server;
#[cfg(test)]
mod tests;
pub mod worker;

pub use fault::Fault;
pub use server::{Answers, Behaviour, Listening};
