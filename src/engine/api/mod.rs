//! Requests to the engine and its answers, by topic.
//!
//! These types know tasks, provenance and stored rows only: no channel, no
//! thread and nothing of the writer's state. The handles in `handle` take and
//! return them, and `mod.rs` of the engine re-exports them.

mod audit;
mod broker;
mod cascades;
mod checkpoints;
mod dead_letters;
mod error;
mod events;
mod figures;
mod import;
mod log;
mod projects;
mod publication;
mod records;
mod restore;
mod routing;
mod settings;
mod tasks;
mod work;

pub use audit::{AuditEntry, AuditFilter, AuditPage, AuditPlace};
pub use broker::{Dispatch, EventPosition, QueueCount, QueueReport};
pub use cascades::{Cascade, CascadeRequest, CascadeStep, CascadeSummary, CascadeUndo, Subject, UndoRequest};
pub use checkpoints::{NewCheckpoint, Rollback, RollbackRequest};
pub use dead_letters::{DeadLetterCounts, DeadLetterFilter, DeadLetterHead, DeadLetterPage};
pub use error::{Error, Refusal};
pub use events::{EventContent, EventOutcome, IncomingEvent, PreparedEvent};
pub(super) use figures::Backlog;
pub use figures::{Estimates, EventCounts, Figures};
pub use import::{IMPORT_CASCADE, Import, ImportOutcome, ImportRefusal, ImportResult, ManualMark};
pub use log::{ChangePage, LogPage, LoggedEvent, ReaderLag};
pub use projects::{NewProject, ProjectPatch, ProjectStatus};
pub(super) use publication::{
    ChangedAnswer, PauseChange, ProjectChange, ProjectFigures, Publication, TaskEnd, Totals, Version,
};
pub use records::{Advice, RecordCounts, RecordFilter, RecordPage};
pub use restore::Begun;
pub use routing::RoutingJob;
pub(super) use routing::TakenRouting;
pub use settings::{CheckpointRules, RequireConsumer, Settings};
pub use tasks::{IdempotencyKey, PageStart, Submissions, Submitted, TaskFilter, TaskPage, TreeNode, UnknownDependency};
pub(super) use work::Grant;
pub use work::{GrantedLease, LeaseRequest, WorkQueue};

pub use crate::wire::{Answer, Hold, Revision};
