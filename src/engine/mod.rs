//! The engine: one writer thread that orders and commits everything, and a
//! read side that never waits for it.
//!
//! [`Engine`] is the handle; [`Engine::start`] recovers the state and starts
//! the thread. Inside, `machine` holds the state and carries out what the
//! pure core decides, `writer` groups commands into commits, `read` serves
//! readers.

mod after;
mod api;
mod attempts;
mod audit;
mod broker;
mod cascade;
mod checkpoint;
mod command;
mod contents;
mod copying;
mod dead_letters;
mod entry;
mod estimates;
mod families;
mod figures;
mod group;
mod handle;
mod housekeeping;
#[cfg(test)]
mod housekeeping_tests;
mod import;
mod incoming;
mod lines;
mod list;
mod machine;
mod memory;
mod open;
mod outgoing;
mod parking;
mod pause;
mod plan;
#[cfg(test)]
mod plan_tests;
mod progress;
mod project;
mod provenance;
mod queue;
mod read;
mod readers;
mod reading;
mod records;
mod rerun;
mod restore;
mod rollback;
mod rollback_plan;
mod room;
mod routing;
mod settings;
mod shared;
mod shown;
mod signals;
mod statements;
mod submit;
mod supply;
mod tables;
mod taint;
mod tree;
mod turns;
mod unclaimed;
mod undo;
mod undo_plan;
mod users;
mod word;
mod workers;
mod writer;

pub use api::{
    Answer, Error, Granted, Hold, IdempotencyKey, LeaseRequest, LogPage, Logged, NewProject, PageStart, ProjectPatch,
    ProjectStatus, Queue, Refusal, Revision, RoutingJob, Submissions, Submitted, TaskFilter, TaskPage,
    UnknownDependency,
};
pub use audit::{AuditEntry, AuditFilter, AuditPage, AuditPlace};
pub use broker::{Dispatch, Position, QueueReport};
pub use cascade::{Cascade, CascadeRequest, Subject};
pub use checkpoint::NewCheckpoint;
pub use contents::Prepared;
pub use dead_letters::{LetterCounts, LetterFilter, LetterHead, LetterPage};
pub use figures::{Estimates, Figures};
pub use handle::{Engine, WriterThread};
pub use housekeeping::prune;
pub use import::{IMPORT_CASCADE, Import, ImportOutcome, ImportRefusal, ImportResult};
pub use incoming::{EventOutcome, Incoming, Message};
pub use readers::{Behind, ChangePage, LogReader};
pub use reading::on_reading_thread;
pub use records::{Advice, RecordCounts, RecordFilter, RecordPage};
pub use restore::{Begun, begin_again};
pub use rollback::{Rollback, RollbackRequest};
pub use settings::{CheckpointRules, RequireConsumer, Settings};
pub use signals::Changed;
pub use supply::Counted;
pub use tree::TreeNode;
pub use undo::{CascadeStep, CascadeSummary, UndoRequest, Undone};
pub use word::Word;
