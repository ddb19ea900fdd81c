//! The settings of the broker.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::RequireConsumer;
use crate::task::Tier;

/// The address of the broker, the objects that are declared there, and the limits of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The host name or IP address of the broker.
    pub host: String,
    /// The port of the broker.
    pub port: u16,
    /// The user of the connections.
    pub credentials: Credentials,
    /// The virtual host of the connections.
    pub vhost: String,
    /// Whether the connections use TLS.
    pub tls: bool,
    /// A PEM file of trust anchors in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// The exchanges of events.
    pub exchanges: Exchanges,
    /// The queue of this service. Rejected messages go to an exchange and a queue of this name with
    /// the suffix `.dead-letters`.
    pub queue: String,
    /// The queues from which workers consume tasks.
    pub work_queues: WorkQueues,
    /// The type of all declared queues.
    pub queue_type: QueueType,
    /// The most unacknowledged deliveries.
    pub prefetch: u16,
    /// The most messages of a wave, all of which wait for their confirms.
    pub window: usize,
    /// The longest time for the confirms of a wave.
    pub confirm_timeout: Duration,
    /// The longest time that a task may be at the broker before its deadline begins, while the
    /// counts of its queue do not show whether a worker has the task.
    pub unobserved_wait: Duration,
    /// The tiers of workers.
    pub tiers: Vec<Tier>,
}

/// The user of a connection. The `Debug` output has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The names of the topic exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanges {
    /// The exchange of the events of tasks.
    pub task: String,
    /// The exchange of the Cascade service.
    pub cascade: String,
    /// The exchange of the QA service.
    pub qa: String,
}

/// The queues from which workers consume tasks, one for each tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkQueues {
    /// Whether this service declares the queues; if not, the workers do.
    pub declare: bool,
    /// The name of the queues; `{tier}` in it is replaced by the tier.
    pub name: String,
    /// How dispatches continue while a queue has no consumers.
    pub require_consumer: RequireConsumer,
}

impl WorkQueues {
    /// Returns the name of the queue of a tier.
    #[must_use]
    pub fn queue_name(&self, tier: &Tier) -> String {
        self.name.replace("{tier}", tier.as_str())
    }
}

/// The type of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueType {
    /// Replicated to several nodes of the broker.
    Quorum,
    /// On one node of the broker.
    Classic,
}

impl QueueType {
    /// Returns the value of the argument `x-queue-type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

impl Settings {
    /// Returns the name of the exchange and the queue of rejected messages.
    #[must_use]
    pub fn dead_letter_name(&self) -> String {
        format!("{}.dead-letters", self.queue)
    }

    /// Returns the exchange of an event.
    #[must_use]
    pub fn exchange_of(&self, name: &str) -> &str {
        let area = name.split('.').next().unwrap_or_default();
        match area {
            "review" => &self.exchanges.qa,
            "rollback" | "artifact" => &self.exchanges.cascade,
            _ => &self.exchanges.task,
        }
    }
}
