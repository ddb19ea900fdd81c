//! The checked settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;
use crate::address::Address;
use crate::amqp;
use crate::replica;
use crate::routing::{self, Service};
use crate::task::{Bus, Policy, Priority, QaProfile, Router, Tier};

/// The checked settings, by section.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The HTTP interface.
    pub server: Server,
    /// The writer and its store.
    pub engine: Engine,
    /// Admission, retries and escalation of tasks.
    pub task_management: TaskManagement,
    /// Tiers, domains and the built-in rules.
    pub routing: Routing,
    /// The copy in Postgres.
    pub storage: Storage,
    /// The event log and bus.
    pub events: Events,
    /// Access to the interface.
    pub security: Security,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Variables of the environment that were ignored, each with the reason, for the log.
    pub notices: Vec<String>,
}

impl Config {
    /// Returns the settings for the transitions of tasks.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let tasks = &self.task_management;
        Policy {
            backoff_initial: tasks.backoff_initial,
            backoff_max: tasks.backoff_max,
            escalate_to: tasks.escalate_to.clone(),
            park: self.events.park,
            validation_timeout: tasks.validation_timeout,
            review_timeout: tasks.review_timeout,
            bus: if self.events.rabbitmq.is_some() { Bus::Broker } else { Bus::Embedded },
            max_lost_leases: tasks.max_lost_leases,
            agent: self.routing.agent.is_some(),
            rag: self.routing.rag.is_some(),
            max_depth: self.routing.max_depth,
            max_subtasks: self.routing.max_subtasks,
        }
    }
}

impl Telemetry {
    /// Returns the address to which traces are posted, and the path below it; `None` without a
    /// collector.
    #[must_use]
    pub fn traces(&self) -> Option<(&Address, &'static str)> {
        let whole = self.traces_url.as_ref().map(|url| (url, ""));
        whole.or_else(|| self.collector.as_ref().map(|collector| (collector, "/v1/traces")))
    }
}

impl Routing {
    /// Returns the settings for the requests to Agent and RAG.
    #[must_use]
    pub fn settings(&self) -> routing::Settings {
        let (concurrency, ca_file) = (self.max_concurrent_calls, &self.ca_file);
        let agent = |address| {
            let twice = self.agent_timeout.saturating_mul(2);
            // A request must not take longer than the time after which its task falls back.
            let call_timeout = match self.fallback {
                Fallback::Wait => twice,
                Fallback::Builtin => twice.min(self.fallback_after.max(Duration::from_secs(1))),
            };
            let try_timeout = self.agent_timeout.min(call_timeout);
            Service { ca_file: ca_file.clone(), try_timeout, call_timeout, concurrency, ..Service::agent(address) }
        };
        let rag = |address| {
            let (try_timeout, call_timeout) = (self.rag_timeout, self.rag_timeout);
            Service { ca_file: ca_file.clone(), try_timeout, call_timeout, concurrency, ..Service::rag(address) }
        };
        routing::Settings {
            agent: self.agent.clone().map(agent),
            rag: self.rag.clone().map(rag),
            fallback: match self.fallback {
                Fallback::Wait => routing::Fallback::Wait,
                Fallback::Builtin => routing::Fallback::Builtin { after: self.fallback_after },
            },
            context_max_tokens: self.context_max_tokens,
            ..routing::Settings::new(self.tiers.clone())
        }
    }
}

/// The HTTP interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Address and port; port 0 selects a free one.
    pub listen: SocketAddr,
    /// Threads that serve HTTP.
    pub worker_threads: usize,
    /// Accepted host names besides those that are always accepted.
    pub allowed_hosts: Vec<String>,
    /// Most connections open at once.
    pub max_connections: usize,
    /// Most connections open at once from one address.
    pub max_connections_per_address: usize,
    /// Most event streams open at once.
    pub max_streams: usize,
    /// Longest time for the head of a request.
    pub header_timeout: Duration,
    /// Longest time for the body of a request.
    pub body_timeout: Duration,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Longest time for a provenance query.
    pub walk_timeout: Duration,
    /// Longest time for requests under way after a stop was requested.
    pub drain_timeout: Duration,
}

/// The writer and its store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Engine {
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// Whether every page of the store is checked at start.
    pub verify_at_start: bool,
    /// Most requests that wait for the writer.
    pub queue_capacity: usize,
    /// Most requests in one fsync.
    pub group_commit_max: usize,
    /// Memory for the page cache of the store.
    pub store_cache_bytes: u64,
    /// Memory for the status answers of finished tasks.
    pub hot_tasks_bytes: u64,
    /// How long finished tasks are kept; `None` for no limit.
    pub retention: Option<Duration>,
    /// Completed tasks after which an automatic checkpoint is created.
    pub checkpoint_tasks: u64,
    /// Time after the first of fewer tasks at which it is created.
    pub checkpoint_every: Duration,
    /// Most automatic checkpoints kept for a project; 0 turns them off.
    pub checkpoints_kept: usize,
    /// How long an idempotency key is stored.
    pub idempotency: Duration,
    /// Most idempotency keys that are stored.
    pub idempotency_max_keys: u64,
    /// Most projects, deleted ones included.
    pub max_projects: u64,
    /// Free disk space below which submissions are refused.
    pub min_free_disk_bytes: u64,
}

/// Admission, retries and escalation of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskManagement {
    /// Priority of a submission without one.
    pub default_priority: Priority,
    /// Most tasks of a project under way at once.
    pub max_concurrent_per_project: u32,
    /// Longest time of an attempt.
    pub timeout_default: Duration,
    /// Most attempts of a task.
    pub max_attempts_default: u32,
    /// Wait after which a task rises one priority class.
    pub aging: Duration,
    /// Wait before the second attempt.
    pub backoff_initial: Duration,
    /// Longest wait between attempts.
    pub backoff_max: Duration,
    /// Tier of the next attempt after a rejection. Without cycles, and every tier is in
    /// `routing.tiers`.
    pub escalate_to: BTreeMap<Tier, Tier>,
    /// QA profile if neither request nor project has one.
    pub qa_profile_default: QaProfile,
    /// Longest time for a verdict; `None` for no limit.
    pub validation_timeout: Option<Duration>,
    /// Longest time for a human review; `None` for no limit.
    pub review_timeout: Option<Duration>,
    /// Length of a lease if the worker requests no other.
    pub lease_default: Duration,
    /// Longest lease.
    pub lease_max: Duration,
    /// Expired leases after which an attempt fails.
    pub max_lost_leases: u32,
}

/// Tiers, domains and the built-in rules.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Routing {
    /// Address of the Agent; `None` without one.
    pub agent: Option<Address>,
    /// Address of RAG; `None` without one.
    pub rag: Option<Address>,
    /// File with CA certificates that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Longest time of one request to the Agent.
    pub agent_timeout: Duration,
    /// Longest time of one request to RAG.
    pub rag_timeout: Duration,
    /// Most requests to each of them at once.
    pub max_concurrent_calls: usize,
    /// Context requested for one task, in tokens.
    pub context_max_tokens: u32,
    /// Most levels of subtasks below a task.
    pub max_depth: u32,
    /// Most subtasks of one task.
    pub max_subtasks: usize,
    /// Behaviour while the Agent is unreachable.
    pub fallback: Fallback,
    /// How long a task waits for the Agent before the built-in rules apply.
    pub fallback_after: Duration,
    /// The tiers: at least one, without duplicates.
    pub tiers: Vec<Tier>,
    /// The built-in rules, whose tiers are all in `tiers`.
    pub router: Router,
}

/// Behaviour while the Agent is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Wait without a limit.
    Wait,
    /// Use the built-in rules after a time.
    Builtin,
}

/// The copy in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Storage {
    /// Address of the database; `None` without one.
    pub database: Option<replica::Address>,
    /// Name of the table of provenance records.
    pub provenance_table: String,
    /// Most rows in one transaction.
    pub batch_rows: usize,
    /// Whether the contents of artifacts are copied, too.
    pub copy_contents: bool,
    /// Longest time of one statement.
    pub statement_timeout: Duration,
    /// Longest pause between two tries to reach the database.
    pub retry_max: Duration,
}

impl Storage {
    /// Returns the settings of the copy; `None` without a database. With `adopt`, the copy of
    /// another data directory is replaced.
    #[must_use]
    pub fn replica(&self, adopt: bool) -> Option<replica::Settings> {
        Some(replica::Settings {
            address: self.database.clone()?,
            provenance_table: self.provenance_table.clone(),
            batch_rows: self.batch_rows,
            contents: self.copy_contents,
            statement_timeout: self.statement_timeout,
            retry_max: self.retry_max,
            adopt,
        })
    }
}

/// The event log and bus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Events {
    /// How long an early verdict waits for its output.
    pub park: Duration,
    /// How long the id of an event is stored.
    pub dedup_window: Duration,
    /// Most ids that are stored.
    pub dedup_max_ids: u64,
    /// How long the log keeps events that every reader has read.
    pub retention: Duration,
    /// Pause between the comments on an idle stream.
    pub heartbeat: Duration,
    /// The broker; `None` if workers lease their tasks over HTTP.
    pub rabbitmq: Option<amqp::Settings>,
}

/// Access to the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Security {
    /// Key of every request except health checks; `None` for no restriction.
    pub api_key: Option<Secret>,
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Telemetry {
    /// Level of the log.
    pub log_level: LogLevel,
    /// Format of the log.
    pub log_format: LogFormat,
    /// Address of the collector of traces; `None` without one.
    pub collector: Option<Address>,
    /// Complete URL to which traces are posted; overrides `collector`.
    pub traces_url: Option<Address>,
    /// File with CA certificates that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Name of this service in metrics and traces.
    pub service_name: String,
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures that need an operator.
    Error,
    /// Problems that the service has handled.
    Warn,
    /// Events for operators.
    Info,
    /// Details for developers.
    Debug,
    /// All details.
    Trace,
}

impl LogLevel {
    /// Words of the setting. `warning` is used in the `LOG_LEVEL` of other services.
    pub(super) const WORDS: [(&str, Self); 6] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
        ("warning", Self::Warn),
    ];
}

/// Formats of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}
