//! A day of work against a private server or a running one, with a ledger of all
//! acknowledgements outside of the service.
//!
//! The plan comes from the seed ([`Day`]). Actors carry it out: clients (`submit`), workers
//! (`work`, `broker`), QA (`qa`), readers (`read`, `streams`) and users of provenance
//! (`lineage`). A private server is killed (SIGKILL) and restarted meanwhile. Each finding
//! is reported at once and again at the end: a request without an answer, an answer that
//! contradicts the `ledger`, a server error that the contract does not allow, a task that
//! does not end, a resource that grows without work.
//!
//! All actors run on one thread, which leaves the other core of a two-core machine to the
//! service.

mod broker;
mod check;
mod conductor;
mod context;
mod delivery;
mod findings;
mod followed;
mod ledger;
mod lineage;
mod observe;
mod plan;
mod qa;
mod read;
mod report;
mod resources;
mod streams;
mod submit;
mod verdicts;
mod work;

pub use broker::broker_environment;
pub use conductor::{Settings, run};
pub use findings::{Finding, RequestCounts};
pub use plan::{Day, Hour, Project, TIER_WITHOUT_WORKERS, TIERS, Task, WorkerBehaviour};
pub use report::Report;
pub use resources::Resources;
