//! The engine: one writer thread that orders and commits everything, and a
//! read side that never waits for it.
//!
//! [`Engine`] is the handle; [`Engine::start`] recovers the state and starts the thread.
//!
//! | module | what it is |
//! |---|---|
//! | `api` | requests, answers and errors |
//! | `shared` | what the writer and the read side both use |
//! | `state` | the state that the writer owns, and how commands change it |
//! | `read` | the read side: it serves readers from publications and views of the store |
//! | `writer` | the thread: it groups commands into commits |
//! | `handle` | the handle and its topics: they send commands and read |
//!
//! `handle` knows `writer`, that knows `state` and `read`, and these know `shared` and `api`.

mod api;
mod handle;
mod read;
mod shared;
mod state;
mod writer;

pub use api::{
    Advice, Answer, AuditEntry, AuditFilter, AuditPage, AuditPlace, Begun, Cascade, CascadeRequest, CascadeStep,
    CascadeSummary, CascadeUndo, ChangePage, CheckpointRules, DeadLetterCounts, DeadLetterFilter, DeadLetterHead,
    DeadLetterPage, Dispatch, Error, Estimates, EventContent, EventCounts, EventOutcome, EventPosition, Figures,
    GrantedLease, Hold, IMPORT_CASCADE, IdempotencyKey, Import, ImportOutcome, ImportRefusal, ImportResult,
    IncomingEvent, LeaseRequest, LogPage, LoggedEvent, ManualMark, NewCheckpoint, NewProject, PageStart, PreparedEvent,
    ProjectPatch, ProjectStatus, QueueCount, QueueReport, ReaderLag, RecordCounts, RecordFilter, RecordPage, Refusal,
    RequireConsumer, Revision, Rollback, RollbackRequest, RoutingJob, Settings, Subject, Submissions, Submitted,
    TaskFilter, TaskPage, TreeNode, UndoRequest, UnknownDependency, WorkQueue,
};
pub use handle::{
    BrokerHandle, CheckpointsHandle, DeadLettersHandle, Engine, EventsHandle, LogHandle, LogReader, ProjectsHandle,
    ProvenanceHandle, ReplicationHandle, RoutingHandle, TasksHandle, TransferHandle, WorkHandle, WriterThread,
    on_reading_thread,
};
pub use read::signals::TaskChanged;
pub use state::{begin_again, prune};
