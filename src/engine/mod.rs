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
mod broker;
mod checkpoint;
mod command;
mod dead_letters;
mod entry;
mod estimates;
mod families;
mod group;
mod handle;
mod housekeeping;
#[cfg(test)]
mod housekeeping_tests;
mod import;
mod incoming;
mod lines;
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
mod records;
mod rerun;
mod restore;
mod rollback;
mod rollback_plan;
mod room;
mod routing;
mod shared;
mod shown;
mod statements;
mod submit;
mod supply;
mod tables;
mod taint;
mod turns;
mod undo;
mod undo_plan;
mod users;
mod word;
mod workers;
mod writer;

pub use api::{
    Advice, Answer, AuditEntry, AuditFilter, AuditPage, AuditPlace, Behind, Cascade, CascadeRequest, CascadeStep,
    CascadeSummary, ChangePage, CheckpointRules, Counted, Dispatch, Error, Estimates, EventOutcome, Figures, Granted,
    Hold, IMPORT_CASCADE, IdempotencyKey, Import, ImportOutcome, ImportRefusal, ImportResult, Incoming, LeaseRequest,
    LetterCounts, LetterFilter, LetterHead, LetterPage, LogPage, Logged, Message, NewCheckpoint, NewProject, PageStart,
    Position, Prepared, ProjectPatch, ProjectStatus, Queue, QueueReport, RecordCounts, RecordFilter, RecordPage,
    Refusal, RequireConsumer, Revision, Rollback, RollbackRequest, RoutingJob, Settings, Subject, Submissions,
    Submitted, TaskFilter, TaskPage, TreeNode, UndoRequest, Undone, UnknownDependency, Word,
};
pub use handle::{
    BrokerHandle, CheckpointsHandle, DeadLettersHandle, Engine, EventsHandle, LogHandle, LogReader, ProjectsHandle,
    ProvenanceHandle, ReplicationHandle, RoutingHandle, TasksHandle, TransferHandle, WorkHandle, WriterThread,
    on_reading_thread,
};
pub use housekeeping::prune;
pub use read::signals::Changed;
pub use restore::{Begun, begin_again};
