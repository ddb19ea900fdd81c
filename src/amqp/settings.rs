//! Where the broker is and what is declared there.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::RequireConsumer;
use crate::task::Tier;

/// Where the broker is and what is declared there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name or address of its machine.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who connects.
    pub credentials: Credentials,
    /// The virtual host.
    pub vhost: String,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Certificates of authorities that are believed besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Where events go and come from.
    pub exchanges: Exchanges,
    /// The queue of this service. What can't be taken goes to an exchange and
    /// a queue that are called like it, with `.dead-letters` behind.
    pub queue: String,
    /// Where workers take tasks from.
    pub work_queues: WorkQueues,
    /// The type of every queue that is declared.
    pub queue_type: QueueType,
    /// Deliveries that may be under way at once.
    pub prefetch: u16,
    /// Messages that may wait for their confirms at once.
    pub window: usize,
    /// How long a confirm may take.
    pub confirm_timeout: Duration,
    /// How long a task may be at the broker, where nothing tells whether a
    /// worker has it, before its deadline begins.
    pub unobserved_wait: Duration,
    /// The tiers there are.
    pub tiers: Vec<Tier>,
}

/// Who connects. Printing it does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The topic exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanges {
    /// Events of tasks.
    pub task: String,
    /// Events of the Cascade service.
    pub cascade: String,
    /// Events of the QA service.
    pub qa: String,
}

/// The queues that workers take tasks from, one a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkQueues {
    /// Whether this service declares them; otherwise workers do.
    pub declare: bool,
    /// Their name, in which `{tier}` stands for the tier.
    pub name: String,
    /// What a queue without consumers means for the next dispatches.
    pub require_consumer: RequireConsumer,
}

impl WorkQueues {
    /// The queue of a tier.
    #[must_use]
    pub fn of(&self, tier: &Tier) -> String {
        self.name.replace("{tier}", tier.as_str())
    }
}

/// How a queue is kept by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueType {
    /// On several nodes, where there are several.
    Quorum,
    /// On one node.
    Classic,
}

impl QueueType {
    /// The word that the broker knows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

impl Settings {
    /// The exchange, and the queue, for what can't be taken.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.queue)
    }

    /// The exchange that an event of this name belongs to.
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
