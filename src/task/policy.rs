//! The configured choices that transitions need, and the retry schedule.

use std::collections::BTreeMap;
use std::time::Duration;

use super::analysis::{MAX_DEPTH, MAX_SUBTASKS};
use super::id::{TaskId, Tier};
use super::moment::Moment;

/// How tasks reach their workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// Workers lease tasks from this service.
    Embedded,
    /// Workers take tasks from a broker that carries `task.ready`.
    Broker,
}

/// The configured choices that transitions need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Wait before the second attempt. It doubles with each further attempt.
    pub backoff_initial: Duration,
    /// Longest wait between attempts.
    pub backoff_max: Duration,
    /// The next tier after a rejection, by the rejected tier.
    pub escalate_to: BTreeMap<Tier, Tier>,
    /// How long a report waits for its output.
    pub park: Duration,
    /// Longest validation; `None` sets no limit.
    pub validation_timeout: Option<Duration>,
    /// Longest review; `None` sets no limit.
    pub review_timeout: Option<Duration>,
    /// How tasks reach their workers.
    pub bus: Bus,
    /// Number of expired leases that fails an attempt, from 1.
    pub max_lost_leases: u32,
    /// Whether an Agent service is configured.
    pub agent: bool,
    /// Whether a RAG service is configured.
    pub rag: bool,
    /// Largest number of levels of subtasks below a submitted task.
    pub max_depth: u32,
    /// Largest number of subtasks of one task.
    pub max_subtasks: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_mins(5),
            escalate_to: BTreeMap::new(),
            park: Duration::from_mins(10),
            validation_timeout: None,
            review_timeout: None,
            bus: Bus::Embedded,
            max_lost_leases: 3,
            agent: false,
            rag: false,
            max_depth: MAX_DEPTH,
            max_subtasks: MAX_SUBTASKS,
        }
    }
}

impl Policy {
    /// Whether an attempt is announced when its task joins the line, and not only when it gets a
    /// slot.
    pub(super) fn announces_early(&self) -> bool {
        self.bus == Bus::Embedded
    }

    /// The tier after a rejection on `tier`: one up, or the same at the top.
    #[must_use]
    pub fn escalated(&self, tier: &Tier) -> Tier {
        self.escalate_to.get(tier).unwrap_or(tier).clone()
    }

    /// When the attempt after `closed_attempt` may start.
    ///
    /// The wait grows exponentially, with a jitter between one half and the whole of the step. The
    /// jitter is derived from the task's id, so that a replay gives the same times.
    #[must_use]
    pub fn next_attempt_at(&self, task: TaskId, closed_attempt: u32, now: Moment) -> Moment {
        let doublings = closed_attempt.saturating_sub(1).min(30);
        let step = self.backoff_initial.saturating_mul(1 << doublings).min(self.backoff_max);
        let half = step / 2;
        let fraction = jitter(task, closed_attempt);
        let jittered = half.saturating_mul(fraction).checked_div(1024).unwrap_or(half);
        now.after(half.saturating_add(jittered))
    }
}

/// How long a task waits before its next lease after `releases` releases: from 0.1 s, doubling up
/// to 10 s.
#[must_use]
pub(super) fn release_pause(releases: u32) -> Duration {
    let doublings = releases.saturating_sub(1).min(16);
    RELEASE_PAUSE.0.saturating_mul(1 << doublings).min(RELEASE_PAUSE.1)
}

/// First and longest wait after a release.
const RELEASE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A number from 0 to 1023 that depends only on the task and the attempt: FNV-1a over both.
fn jitter(task: TaskId, attempt: u32) -> u32 {
    let bytes = task.to_bytes().into_iter().chain(attempt.to_be_bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)) & 1023
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn backoff_grows_stays_capped_and_repeats() {
        let policy = Policy { backoff_max: Duration::from_secs(8), ..Policy::default() };
        let now = Moment::from_micros(1_000_000);
        let task = TaskId::new(Uuid::from_u128(7));
        let mut steps = Vec::new();
        for attempt in 1..40 {
            let at = policy.next_attempt_at(task, attempt, now);
            assert_eq!(at, policy.next_attempt_at(task, attempt, now));
            let step = Duration::from_secs(1).saturating_mul(1 << (attempt - 1).min(20)).min(Duration::from_secs(8));
            let wait = at.since(now);
            assert!(wait >= step / 2 && wait <= step, "attempt {attempt} waits {wait:?} of {step:?}");
            steps.push(wait);
        }
        let other = TaskId::new(Uuid::from_u128(8));
        assert!((1..40).any(|n| policy.next_attempt_at(other, n, now) != policy.next_attempt_at(task, n, now)));
    }

    #[test]
    fn escalation_stops_at_the_top() {
        let tier = |name: &str| Tier::new(name).unwrap();
        let policy = Policy { escalate_to: [(tier("tiny"), tier("small"))].into(), ..Policy::default() };
        assert_eq!(policy.escalated(&tier("tiny")), tier("small"));
        assert_eq!(policy.escalated(&tier("small")), tier("small"));
    }
}
