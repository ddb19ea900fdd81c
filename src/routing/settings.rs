//! Settings of routing.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::Address;
use crate::task::Tier;

/// The routing of tasks while the Agent does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Tasks wait for the Agent without a limit.
    Wait,
    /// The built-in rules route a task after a time.
    Builtin {
        /// How long a task waits for the Agent before.
        after: Duration,
    },
}

/// Settings of routing.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The Agent service. Without it the built-in rules route all tasks.
    pub agent: Option<Service>,
    /// The RAG service. Without it tasks have no context.
    pub rag: Option<Service>,
    /// The routing of tasks while the Agent does not answer.
    pub fallback: Fallback,
    /// The tiers that exist. An answer with another tier is refused.
    pub tiers: Vec<Tier>,
    /// Size of the context that RAG is asked for, in tokens.
    pub context_max_tokens: u32,
    /// First wait of a task whose call failed. Doubles with each further failure.
    pub return_initial: Duration,
    /// Longest such wait.
    pub return_max: Duration,
}

/// Settings of the calls to one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// The address of the service.
    pub address: Address,
    /// File of certificate authorities that are trusted besides the system's, if the
    /// service uses TLS.
    pub ca_file: Option<PathBuf>,
    /// Time limit of one attempt: connection, head and body.
    pub try_timeout: Duration,
    /// Time limit of a call with all its attempts and the waits between them.
    pub call_timeout: Duration,
    /// Attempts after the first one.
    pub retries: u32,
    /// Wait before the second attempt. Doubles with each further attempt.
    pub retry_initial: Duration,
    /// Longest wait between attempts, even if the service asks for a longer one.
    pub retry_max: Duration,
    /// Concurrent calls.
    pub concurrency: usize,
    /// Largest answer, in bytes.
    pub max_answer_bytes: usize,
    /// Settings of the circuit breaker.
    pub breaker: Breaker,
}

/// Settings of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open the breaker.
    pub failures: u32,
    /// First time for which the breaker stays open. Doubles with each failed probe.
    pub cool_down_initial: Duration,
    /// Longest time for which the breaker stays open.
    pub cool_down_max: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, cool_down_initial: Duration::from_secs(1), cool_down_max: Duration::from_secs(30) }
    }
}

/// Largest answer, in bytes: the limit of our own requests.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Concurrent calls of one service.
const CONCURRENCY: usize = 16;

impl Service {
    /// The defaults for the Agent. It promises 95 % of its answers within 20 s, and an
    /// attempt gets three times as long.
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

    /// The defaults for RAG. Its answer is worth only a short wait, for all attempts
    /// together.
    #[must_use]
    pub fn rag(address: Address) -> Self {
        let timeout = Duration::from_secs(5);
        Self { try_timeout: timeout, call_timeout: timeout, retries: 1, ..Self::agent(address) }
    }
}

impl Settings {
    /// The defaults, without Agent and RAG.
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
