//! Settings, from their sources to one checked [`Config`].
//!
//! `default.yaml` is the only source of defaults and of the keys there are.
//! Over it lie the `--config` file, the environment and the flags. What comes
//! out is checked as a whole: a [`Config`] can only be had by loading one, and
//! an unknown key or a bad value stops the start with its place, its key, its
//! value and what is allowed. Nothing that was set is ever ignored in silence.

mod check;
mod error;
mod rabbitmq;
mod reader;
mod rules;
mod secret;
mod show;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use error::{Error, Problem};
pub use secret::{REDACTED, Secret};
pub use show::{show_json, show_yaml};
pub use sources::{Flag, Sources};

use crate::address::Address;
use crate::amqp;
use crate::replica;
use crate::routing::{self, Service};
use crate::task::{Bus, Policy, Priority, QaProfile, Router, Tier};
use tree::{Node, Origin};

/// The defaults, with a comment on every key.
pub const DEFAULTS: &str = include_str!("default.yaml");

/// The checked settings, section by section.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The HTTP interface.
    pub server: Server,
    /// The writer and its store.
    pub engine: Engine,
    /// How tasks are admitted, retried and escalated.
    pub task_management: TaskManagement,
    /// Tiers, domains and the built-in rules.
    pub routing: Routing,
    /// The copy in Postgres.
    pub storage: Storage,
    /// The event log and bus.
    pub events: Events,
    /// Who may call.
    pub security: Security,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Variables of the environment that were passed over, with the reason:
    /// for the log.
    pub notices: Vec<String>,
}

impl Config {
    /// Reads, merges and checks all sources.
    ///
    /// # Errors
    /// Every problem found, not only the first.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let mut notices = Vec::new();
        let (tree, mut problems) = merge(sources, &mut notices);
        match check::check(&tree) {
            Ok(config) if problems.is_empty() => Ok(Self { notices, ..config }),
            Ok(_) => Err(Error::new(problems)),
            Err(more) => {
                problems.extend(more);
                Err(Error::new(problems))
            }
        }
    }

    /// The defaults alone.
    ///
    /// # Panics
    /// If the compiled-in defaults are not sound, which a test rules out.
    #[must_use]
    pub fn builtin() -> Self {
        match Self::load(&Sources::default()) {
            Ok(config) => config,
            Err(error) => unreachable!("default.yaml is not sound: {error}"),
        }
    }
}

impl Config {
    /// The broker, for a description of what goes through it: that of the
    /// defaults, at a host called `rabbitmq`, where there is none.
    ///
    /// # Panics
    /// If the compiled-in defaults are not sound, which a test rules out.
    #[must_use]
    pub fn described_broker(&self) -> amqp::Settings {
        self.events.rabbitmq.clone().unwrap_or_else(|| {
            let environment = vec![("RABBITMQ_HOST".to_owned(), "rabbitmq".to_owned())];
            let config = Self::load(&Sources { environment, ..Sources::default() });
            match config.map(|config| config.events.rabbitmq) {
                Ok(Some(settings)) => settings,
                other => unreachable!("default.yaml is not sound: {other:?}"),
            }
        })
    }

    /// The choices that a task's transitions need.
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
    /// Where traces go, if they go anywhere: an address, and the path below it.
    #[must_use]
    pub fn traces(&self) -> Option<(&Address, &'static str)> {
        let whole = self.traces_url.as_ref().map(|url| (url, ""));
        whole.or_else(|| self.collector.as_ref().map(|collector| (collector, "/v1/traces")))
    }
}

impl Routing {
    /// The choices that asking the Agent and RAG needs.
    #[must_use]
    pub fn settings(&self) -> routing::Settings {
        let (concurrency, ca_file) = (self.max_concurrent_calls, &self.ca_file);
        let agent = |address| {
            let twice = self.agent_timeout.saturating_mul(2);
            // A question may not last beyond the time after which its task
            // falls back.
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

/// All layers in one tree, with what did not fit.
/// `notices` gets what was passed over, and why.
fn merge(sources: &Sources, notices: &mut Vec<String>) -> (Node, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut tree = defaults();
    sources.apply(&mut tree, &mut problems, notices);
    (tree, problems)
}

fn defaults() -> Node {
    match Node::parse(DEFAULTS, &|_| Origin::Default) {
        Ok(tree) => tree,
        Err(error) => unreachable!("default.yaml is not valid YAML: {error}"),
    }
}

/// The HTTP interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads that serve HTTP.
    pub worker_threads: usize,
    /// Names under which the service is reached, beside those always taken.
    pub allowed_hosts: Vec<String>,
    /// Connections open at once.
    pub max_connections: usize,
    /// Connections open at once from one address.
    pub max_connections_per_address: usize,
    /// Event streams open at once.
    pub max_streams: usize,
    /// Time for the head of a request.
    pub header_timeout: Duration,
    /// Time for the body of a request.
    pub body_timeout: Duration,
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Time for the answer to a question about provenance.
    pub walk_timeout: Duration,
    /// Time for requests under way once a stop was asked.
    pub drain_timeout: Duration,
}

/// The writer and its store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Engine {
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// Whether every page is checked before the service starts.
    pub verify_at_start: bool,
    /// Requests that may wait for the writer.
    pub queue_capacity: usize,
    /// Most requests in one fsync.
    pub group_commit_max: usize,
    /// Memory of the store's page cache.
    pub store_cache_bytes: u64,
    /// Memory for finished tasks.
    pub hot_tasks_bytes: u64,
    /// How long finished tasks are kept; `None` for ever.
    pub retention: Option<Duration>,
    /// Completed tasks after which a checkpoint is made by itself.
    pub checkpoint_tasks: u64,
    /// How long after the first of fewer it is made.
    pub checkpoint_every: Duration,
    /// How many of these are kept for a project; with 0 none are made.
    pub checkpoints_kept: usize,
    /// How long an idempotency key is remembered.
    pub idempotency: Duration,
    /// Most idempotency keys that are remembered.
    pub idempotency_max_keys: u64,
    /// Most projects there may be.
    pub max_projects: u64,
    /// Free disk below which submissions are refused.
    pub min_free_disk_bytes: u64,
}

/// How tasks are admitted, retried and escalated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskManagement {
    /// Priority of a submission that names none.
    pub default_priority: Priority,
    /// Tasks of a project at work at once.
    pub max_concurrent_per_project: u32,
    /// What one attempt may take.
    pub timeout_default: Duration,
    /// Attempts before a task fails for good.
    pub max_attempts_default: u32,
    /// Wait after which a task rises one priority class.
    pub aging: Duration,
    /// Wait before the second attempt.
    pub backoff_initial: Duration,
    /// Longest wait between attempts.
    pub backoff_max: Duration,
    /// Where a rejected task tries next; free of circles, all of it in
    /// `routing.tiers`.
    pub escalate_to: BTreeMap<Tier, Tier>,
    /// QA profile where nothing names one.
    pub qa_profile_default: QaProfile,
    /// Time for a verdict; `None` for as long as it takes.
    pub validation_timeout: Option<Duration>,
    /// Time for a human review; `None` for as long as it takes.
    pub review_timeout: Option<Duration>,
    /// Lease of a worker that asks for no other time.
    pub lease_default: Duration,
    /// Longest lease.
    pub lease_max: Duration,
    /// Leases of one attempt that may run out before it fails.
    pub max_lost_leases: u32,
}

/// Tiers, domains and the built-in rules.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Routing {
    /// The Agent service, if there is one.
    pub agent: Option<Address>,
    /// The RAG service, if there is one.
    pub rag: Option<Address>,
    /// Certificates of authorities that are believed besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest time of one question to the Agent.
    pub agent_timeout: Duration,
    /// Longest time of one question to RAG.
    pub rag_timeout: Duration,
    /// Questions to each of them at once.
    pub max_concurrent_calls: usize,
    /// Context asked for one task, in tokens.
    pub context_max_tokens: u32,
    /// Most levels of subtasks below a task.
    pub max_depth: u32,
    /// Most subtasks of one task.
    pub max_subtasks: usize,
    /// What to do while the Agent is away.
    pub fallback: Fallback,
    /// How long to wait for it first.
    pub fallback_after: Duration,
    /// The tiers there are, each once, at least one.
    pub tiers: Vec<Tier>,
    /// The built-in rules; every tier in it is one of `tiers`.
    pub router: Router,
}

/// What to do while the Agent is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Wait for it, however long.
    Wait,
    /// Use the built-in rules after a while.
    Builtin,
}

/// The copy in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Storage {
    /// Where it is; `None`: there is none.
    pub database: Option<replica::Address>,
    /// Name of the table of provenance records there.
    pub provenance_table: String,
    /// Most rows in one transaction.
    pub batch_rows: usize,
    /// Whether the contents of artifacts are copied too.
    pub copy_contents: bool,
    /// Longest time of one statement.
    pub statement_timeout: Duration,
    /// Longest pause between two tries to reach the database.
    pub retry_max: Duration,
}

impl Storage {
    /// What the copy is told; `None`: there is none. `adopt`: whether to take
    /// over the copy of another data directory.
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
    /// How long an event's id is remembered.
    pub dedup_window: Duration,
    /// How many ids are remembered.
    pub dedup_max_ids: u64,
    /// How long the log keeps what every reader has taken.
    pub retention: Duration,
    /// Pause between the comments on an idle stream.
    pub heartbeat: Duration,
    /// The broker that carries events; `None`: workers lease tasks here.
    pub rabbitmq: Option<amqp::Settings>,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Security {
    /// The key every call but health needs; `None` lets everyone in.
    pub api_key: Option<Secret>,
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Telemetry {
    /// Least severe level that is logged.
    pub log_level: LogLevel,
    /// Form of the log.
    pub log_format: LogFormat,
    /// The collector that traces go to, if there is one.
    pub collector: Option<Address>,
    /// The whole URL that traces are posted to, in place of one below `collector`.
    pub traces_url: Option<Address>,
    /// Certificates of authorities that are believed besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Name of this service in metrics and traces.
    pub service_name: String,
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed that needs a person.
    Error,
    /// Something is off and was coped with.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// `warning` is what the other services' `LOG_LEVEL` says.
    const WORDS: [(&str, Self); 6] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
        ("warning", Self::Warn),
    ];
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}
