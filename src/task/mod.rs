//! The pure core: what a task is and how its state changes.
//!
//! A transition takes a task, an input and the time, and returns the new task and the effects to
//! carry out. Nothing in this module reads a clock, does I/O or names another module of the crate.
//!
//! * [`submit`] creates a task, [`apply`] makes every later transition.
//! * [`Admission`] decides which waiting task gets the next free slot of its project.
//! * [`Estimator`] predicts when a task completes.
//! * [`Router`] chooses a domain and a tier where a request names none.
//!
//! ```
//! use dats::task::{Domain, Keyword, Router, Rule, Tier};
//!
//! let (domain, tier) = (Domain::new("code-general").unwrap(), Tier::new("small").unwrap());
//! let (keywords, docs) = (vec![Keyword::new("readme").unwrap()], Domain::new("documentation").unwrap());
//! let rule = Rule { keywords, min_length: None, max_length: None, domain: Some(docs), tier: None };
//! let router = Router::new(vec![rule], domain, tier).unwrap();
//! assert_eq!(router.route("Write a README").0.as_str(), "documentation");
//! ```

mod admission;
mod analysis;
mod attempt;
mod change;
mod children;
mod content;
mod course;
mod draft;
mod error;
mod estimate;
mod estimator;
mod event;
mod finding;
mod holder;
mod id;
mod lease;
mod line;
mod micros;
mod moment;
mod output;
mod parking;
mod policy;
mod request;
mod router;
mod routing;
mod split;
mod state;
mod status;
mod submit;
mod time;
mod timeline;
mod transition;
mod verdict;

pub use admission::Admission;
pub use analysis::{Analysis, Context, Decomposition, Estimate, MAX_DEPTH, MAX_SUBTASKS, Subtask};
pub use attempt::{Attempt, ClosedAttempt, ForeignOutput, Lease, Product, Progress};
pub use change::{Change, Effect, NewRecord, Outcome, RecordStatus, RoutedBy, Stale};
pub use children::{Child, Children, End};
pub use content::{Content, hex};
pub use course::Course;
pub use draft::{MAX_INPUTS, Refusal, Step};
pub use error::{ErrorCode, TaskError};
pub use estimate::{Cohort, Estimated};
pub use estimator::{Estimator, Statistics};
pub use event::{
    Correlation, Decision, Failure, Holder, MAX_OUTPUT_ARTIFACTS, Output, OutputArtifact, Report, Review,
    ReviewDecision, ReviewRequest, Started, Verdict,
};
pub use id::{
    ArtifactId, CheckpointId, Domain, EventHash, InvalidId, LeaseId, MAX_ID_BYTES, Mode, ProjectId, QaProfile,
    RecordId, ReviewId, Seq, TaskId, Tier, WorkerId,
};
pub use line::{FairLine, Line, Place};
pub use moment::{Moment, Now};
pub use parking::{MAX_PARKED, MAX_PARKED_BYTES, give_up_oldest_parked};
pub use policy::{Bus, Policy};
pub use request::{
    ExecutionMode, MAX_ATTEMPTS, MAX_DESCRIPTION_BYTES, MAX_METADATA_BYTES, MAX_REFERENCES, MAX_TIMEOUT,
    OnChildFailure, Options, Priority, Submission,
};
pub use router::{Keyword, Router, Rule};
pub use routing::{Chosen, Finding, Findings, Routing, RoutingStep};
pub use split::spawn;
pub use state::{Completion, Parked, Pending, Queued, State, Task};
pub use status::{Phase, Status};
pub use submit::{Dependency, Resolved, submit};
pub use time::{InvalidTime, Timestamp};
pub use transition::{Input, apply};
