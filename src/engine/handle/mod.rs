//! The engine's handle: cheap to clone, safe to use from any task.
//!
//! [`Engine`] starts the writer and hands out a handle for each topic:
//! [`Engine::tasks`], [`Engine::work`], [`Engine::log`] and so on. A handle sends
//! commands to the writer and reads from the read side. It decides nothing.

mod broker;
mod checkpoints;
mod client;
mod contents;
mod dead_letters;
mod engine;
mod events;
mod granted;
mod log;
mod plans;
mod projects;
mod provenance;
mod reading;
mod replication;
mod routing;
mod tasks;
mod transfer;
mod unclaimed;
mod work;

pub use broker::BrokerHandle;
pub use checkpoints::CheckpointsHandle;
pub use dead_letters::DeadLettersHandle;
pub use engine::{Engine, WriterThread};
pub use events::EventsHandle;
pub use log::{LogHandle, LogReader};
pub use projects::ProjectsHandle;
pub use provenance::ProvenanceHandle;
pub use reading::on_reading_thread;
pub use replication::ReplicationHandle;
pub use routing::RoutingHandle;
pub use tasks::TasksHandle;
pub use transfer::TransferHandle;
pub use work::WorkHandle;
