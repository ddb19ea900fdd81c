//! The choices that routing needs.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::Address;
use crate::task::Tier;

/// What happens to tasks while the Agent can't tell where they belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// They wait for it, however long.
    Wait,
    /// The built-in rules decide after this time.
    Builtin {
        /// Since the Agent is away, or since the task's own first failure.
        after: Duration,
    },
}

/// The choices that routing needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The Agent service; `None`: the built-in rules decide.
    pub agent: Option<Service>,
    /// The RAG service; `None`: tasks go without context.
    pub rag: Option<Service>,
    /// What happens while the Agent is away.
    pub fallback: Fallback,
    /// The tiers that exist: an answer with another one is refused.
    pub tiers: Vec<Tier>,
    /// How much context is asked for, in tokens.
    pub context_max_tokens: u32,
    /// First wait of a task whose question failed; doubles with each further
    /// failure.
    pub return_initial: Duration,
    /// Longest such wait.
    pub return_max: Duration,
}

/// How one service is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Where it is.
    pub address: Address,
    /// Certificates of authorities that are believed besides the system's,
    /// where the address is encrypted.
    pub ca_file: Option<PathBuf>,
    /// Longest time for one try: connect, head and body.
    pub try_timeout: Duration,
    /// Longest time for a call with all its tries and the waits between them.
    pub call_timeout: Duration,
    /// Further tries of a call after the first one.
    pub retries: u32,
    /// Wait before the second try; doubles with each further one.
    pub retry_initial: Duration,
    /// Longest wait between tries, also where the service asks for a longer one.
    pub retry_max: Duration,
    /// Calls at once.
    pub concurrency: usize,
    /// Largest answer, in bytes.
    pub max_answer_bytes: usize,
    /// When to leave the service alone.
    pub breaker: Breaker,
}

/// When to leave a service alone that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open it.
    pub failures: u32,
    /// First time it stays open; doubles with each probe that fails.
    pub cool_down_initial: Duration,
    /// Longest time it stays open.
    pub cool_down_max: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, cool_down_initial: Duration::from_secs(1), cool_down_max: Duration::from_secs(30) }
    }
}

/// Largest answer: what our own requests may have at most.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Calls at once.
const CONCURRENCY: usize = 16;

impl Service {
    /// The Agent: it promises 95 % of its answers within 20 s, so a try gets
    /// three times that.
    #[must_use]
    pub fn agent(address: Address) -> Self {
        let timeout = Duration::from_mins(1);
        Self {
            address,
            ca_file: None,
            try_timeout: timeout,
            call_timeout: timeout.saturating_mul(2),
            retries: 2,
            retry_initial: Duration::from_millis(250),
            retry_max: Duration::from_secs(5),
            concurrency: CONCURRENCY,
            max_answer_bytes: MAX_ANSWER_BYTES,
            breaker: Breaker::default(),
        }
    }

    /// RAG: its answer is worth a short wait only, all tries together.
    #[must_use]
    pub fn rag(address: Address) -> Self {
        let timeout = Duration::from_secs(5);
        Self { try_timeout: timeout, call_timeout: timeout, retries: 1, ..Self::agent(address) }
    }
}

impl Settings {
    /// Everything at its default: neither service, and the given tiers.
    #[must_use]
    pub const fn new(tiers: Vec<Tier>) -> Self {
        Self {
            agent: None,
            rag: None,
            fallback: Fallback::Builtin { after: Duration::from_mins(1) },
            tiers,
            context_max_tokens: 4000,
            return_initial: Duration::from_secs(1),
            return_max: Duration::from_mins(1),
        }
    }
}
