//! The state that the writer owns, and how commands change it.
//!
//! Each owner of state has its own file and private fields; [`Machine`] lends every command
//! the owners that it may change. There is no channel, no runtime and no clock in here: calls
//! are told the time, and what follows from them is a [`Batch`](crate::store::Batch) and a
//! publication, for the writer to commit and to publish.

// Owners of state.
mod checkpoints;
mod dead_letters;
mod event_log;
mod failure;
mod group;
mod idempotency;
mod ids;
mod inbox;
mod lines;
mod open_tasks;
mod parking;
mod predictions;
mod projects;
mod provenance;
mod recent_users;
mod storage;
mod taken_events;
mod tasks;
mod transitions;

// Families of commands.
mod accept;
mod cascade;
mod checkpoint;
mod grants;
mod housekeeping;
mod import;
mod project;
mod restore;
mod rollback;
mod routing;
mod submit;
mod tier;
mod undo;

// Plans, which are made beside the writer.
mod affected;
mod event_plan;
mod families;
mod made_after;
mod replaced_verdicts;
mod rerun;
mod rollback_plan;
mod snapshot;
mod undo_plan;

mod machine;
mod offline;

pub(crate) use affected::running_users_in;
pub(crate) use cascade::CascadePlan;
pub(crate) use event_plan::EventPlan;
pub(crate) use failure::{Failure, Stored, answer, unless_refused};
pub(crate) use machine::Machine;
#[cfg(test)]
pub(crate) use machine::testing;
pub(crate) use offline::change_bus;
pub use offline::{begin_again, prune};
pub(crate) use provenance::Validity;
pub(crate) use rerun::rerun;
pub(crate) use rollback::preview as preview_rollback;
pub(crate) use rollback_plan::RollbackPlan;
pub(crate) use snapshot::{Attempt, Snapshot};
pub(crate) use submit::Routed;
pub(crate) use undo::preview as preview_undo;
pub(crate) use undo_plan::UndoPlan;
