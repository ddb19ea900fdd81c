//! A task and the states it can be in. Each state carries exactly its own
//! data, so that an illegal one can't be written down; `status` and `phase`
//! are derived from it here and nowhere else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, ClosedAttempt, Product, Progress};
use super::children::Children;
use super::course::Course;
use super::error::TaskError;
use super::estimate::Estimated;
use super::event::{OutputArtifact, Report};
use super::id::{ArtifactId, Domain, EventHash, Mode, ProjectId, QaProfile, RecordId, ReviewId, TaskId, Tier};
use super::moment::Moment;
use super::policy::Bus;
use super::request::Priority;
use super::routing::Routing;
use super::status::{Phase, Status};
use super::time::Timestamp;

/// One task: everything about it that changes, and the few resolved choices
/// that its transitions need. What the client asked for stays in its
/// [`Submission`](super::Submission).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its project.
    pub project: ProjectId,
    /// Its class among the waiting tasks of its project.
    pub priority: Priority,
    /// The tier of the next or current attempt.
    pub tier: Tier,
    /// The kind of work.
    pub domain: Domain,
    /// How its outputs are validated.
    pub qa_profile: QaProfile,
    /// Deadline of one attempt's execution, in seconds.
    pub timeout_seconds: u32,
    /// Attempts before it fails for good.
    pub max_attempts: u32,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
    /// Counts its visible changes, from 1.
    pub version: u64,
    /// When a worker first took it; of a parent: when one was first known to
    /// have taken one of its subtasks.
    pub started_at: Option<Timestamp>,
    /// The finished task that it repeats.
    pub rerun_of: Option<TaskId>,
    /// The task that it is a part of.
    pub parent: Option<TaskId>,
    /// How many parents stand above it.
    pub depth: u32,
    /// The tasks that it was split into, in order.
    pub children: Vec<TaskId>,
    /// Tasks that must complete before it, as submitted.
    pub depends_on: Vec<TaskId>,
    /// What those that have completed produced: inputs of this one.
    pub inputs: Vec<ArtifactId>,
    /// What kind of request it is, once the Agent has said so.
    pub mode: Option<Mode>,
    /// What routing has still to find out; `None`: nothing.
    pub routing: Option<Routing>,
    /// Whether findings of the Agent or of RAG are kept for its workers.
    pub has_findings: bool,
    /// What was foretold when it was submitted, if there was anything to go by.
    pub estimate: Option<Estimated>,
    /// Attempts that ended without completing it, oldest first.
    pub closed: Vec<ClosedAttempt>,
    /// Reports that came before the output they are about.
    pub parked: Vec<Parked>,
    /// Where it is.
    pub state: State,
    /// When it began and ended in observed time. The last field: rows of the
    /// first versions of format 6 end before it.
    #[serde(default)]
    pub course: Course,
}

/// Where a task is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// No attempt is under way.
    Pending(Pending),
    /// An attempt is under way.
    Running {
        /// The attempt.
        attempt: Attempt,
        /// How far it is.
        progress: Progress,
    },
    /// Its subtasks run.
    Children(Children),
    /// It ended well.
    Completed {
        /// When.
        at: Timestamp,
        /// By what.
        by: Completion,
    },
    /// It ended badly.
    Failed {
        /// When.
        at: Timestamp,
        /// Why.
        error: TaskError,
    },
    /// Somebody ended it.
    Cancelled {
        /// When.
        at: Timestamp,
        /// Why, where it was said.
        reason: Option<String>,
    },
}

/// What completed a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// An attempt of its own.
    Attempt {
        /// Its number, from 1.
        number: u32,
        /// What it produced.
        product: Product,
    },
    /// Its subtasks.
    Children {
        /// What they produced, in their order.
        artifacts: Vec<OutputArtifact>,
    },
}

/// Why no attempt is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pending {
    /// Its `not_before` is ahead.
    Scheduled {
        /// The time it waits for.
        until: Timestamp,
        /// Tasks it then still waits for.
        waits_for: Vec<TaskId>,
    },
    /// Other tasks must complete first; never empty.
    Blocked {
        /// Those tasks.
        waits_for: Vec<TaskId>,
    },
    /// Its [`Task::routing`] is being found out.
    Analyzing {
        /// Since when.
        since: Moment,
    },
    /// It waits for a worker and a slot of its project.
    Queued(Queued),
    /// It waits for its next attempt.
    Backoff {
        /// The time of the next attempt.
        until: Moment,
    },
    /// Its `task.ready` is with the broker, and no worker is known to have it.
    Dispatched {
        /// The attempt, which is open and holds a slot.
        attempt: Attempt,
        /// When it was handed to the broker.
        at: Moment,
    },
}

/// A task that waits for a worker and a slot of its project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Since when: the age that its place in the line comes from.
    pub since: Moment,
    /// Whether the `task.ready` of its attempt is in the log.
    pub announced: bool,
    /// The time before which no worker gets it, after a release.
    pub not_before: Option<Moment>,
    /// The attempt that is still open, where a worker lost or released it.
    pub attempt: Option<Attempt>,
}

/// A report that came before the output it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parked {
    /// When it becomes a dead letter.
    pub until: Moment,
    /// The report.
    pub report: Report,
    /// The event it came in, as it came: what a dead letter keeps.
    pub raw: String,
    /// What that event is known by, if it has an id.
    pub event: Option<EventHash>,
}

impl Task {
    /// What the outside sees first.
    #[must_use]
    pub const fn status(&self) -> Status {
        match &self.state {
            State::Pending(_) => Status::Pending,
            State::Running { .. } | State::Children(_) => Status::Running,
            State::Completed { .. } => Status::Completed,
            State::Failed { .. } => Status::Failed,
            State::Cancelled { .. } => Status::Cancelled,
        }
    }

    /// Where inside its status it is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match &self.state {
            State::Pending(Pending::Scheduled { .. }) => Phase::Scheduled,
            State::Pending(Pending::Blocked { .. }) => Phase::Blocked,
            State::Pending(Pending::Analyzing { .. }) => Phase::Analyzing,
            State::Pending(Pending::Queued(_)) => Phase::Queued,
            State::Pending(Pending::Backoff { .. }) => Phase::Backoff,
            State::Pending(Pending::Dispatched { .. }) => Phase::Dispatched,
            State::Running { progress, .. } => match progress {
                Progress::Started { .. } => Phase::Started,
                Progress::Leased { .. } => Phase::Leased,
                Progress::Validating { .. } => Phase::Validating,
                Progress::Reviewing { .. } => Phase::Reviewing,
            },
            State::Children(_) => Phase::Children,
            State::Completed { .. } => Phase::Completed,
            State::Failed { .. } => Phase::Failed,
            State::Cancelled { .. } => Phase::Cancelled,
        }
    }

    /// The attempt that is open, in whatever phase.
    #[must_use]
    pub const fn open_attempt(&self) -> Option<&Attempt> {
        match &self.state {
            State::Running { attempt, .. } | State::Pending(Pending::Dispatched { attempt, .. }) => Some(attempt),
            State::Pending(Pending::Queued(queued)) => queued.attempt.as_ref(),
            State::Pending(
                Pending::Scheduled { .. }
                | Pending::Blocked { .. }
                | Pending::Analyzing { .. }
                | Pending::Backoff { .. },
            )
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// Whether a task in this phase can go on where `bus` carries tasks to
    /// their workers. Leases go on everywhere until they end.
    #[must_use]
    pub fn fits(&self, bus: Bus) -> bool {
        match &self.state {
            State::Pending(Pending::Queued(queued)) => queued.announced || bus == Bus::Broker,
            State::Pending(Pending::Dispatched { .. }) | State::Running { progress: Progress::Started { .. }, .. } => {
                bus == Bus::Broker
            }
            State::Pending(
                Pending::Scheduled { .. }
                | Pending::Blocked { .. }
                | Pending::Analyzing { .. }
                | Pending::Backoff { .. },
            )
            | State::Running {
                progress: Progress::Leased { .. } | Progress::Validating { .. } | Progress::Reviewing { .. },
                ..
            }
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => true,
        }
    }

    /// Whether it counts against its project's limit.
    #[must_use]
    pub fn holds_slot(&self) -> bool {
        self.open_attempt().is_some_and(|attempt| attempt.has_slot)
    }

    /// When it ended, if it did.
    #[must_use]
    pub const fn ended_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Completed { at, .. } | State::Failed { at, .. } | State::Cancelled { at, .. } => Some(*at),
            State::Pending(_) | State::Running { .. } | State::Children(_) => None,
        }
    }

    /// How many attempts were opened.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        let closed = || self.closed.last().map_or(0, |closed| closed.number);
        match &self.state {
            State::Completed { by: Completion::Attempt { number, .. }, .. } => *number,
            State::Completed { by: Completion::Children { .. }, .. }
            | State::Pending(_)
            | State::Running { .. }
            | State::Children(_)
            | State::Failed { .. }
            | State::Cancelled { .. } => self.open_attempt().map_or_else(closed, |attempt| attempt.number),
        }
    }

    /// The newest attempt that workers know of: one that was opened, or one
    /// whose `task.ready` is out.
    #[must_use]
    pub fn newest_attempt(&self) -> u32 {
        match &self.state {
            State::Pending(Pending::Queued(Queued { announced: true, attempt: None, .. })) => self.attempts() + 1,
            State::Pending(_)
            | State::Running { .. }
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => self.attempts(),
        }
    }

    /// What the current attempt has produced.
    #[must_use]
    pub const fn product(&self) -> Option<&Product> {
        match &self.state {
            State::Running {
                progress: Progress::Validating { product, .. } | Progress::Reviewing { product, .. },
                ..
            }
            | State::Completed { by: Completion::Attempt { product, .. }, .. } => Some(product),
            State::Running { progress: Progress::Started { .. } | Progress::Leased { .. }, .. }
            | State::Completed { by: Completion::Children { .. }, .. }
            | State::Pending(_)
            | State::Children(_)
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// The review under way.
    #[must_use]
    pub const fn review(&self) -> Option<&ReviewId> {
        match &self.state {
            State::Running { progress: Progress::Reviewing { review, .. }, .. } => Some(review),
            State::Running {
                progress: Progress::Started { .. } | Progress::Leased { .. } | Progress::Validating { .. },
                ..
            }
            | State::Pending(_)
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        }
    }

    /// The record of the newest attempt that produced something.
    #[must_use]
    pub fn newest_record(&self) -> Option<RecordId> {
        let foreign = || Some(self.open_attempt()?.foreign.as_ref()?.record);
        let earlier = || self.closed.iter().rev().find_map(|closed| closed.product.as_ref().map(|(record, _)| *record));
        self.product().map(|product| product.record).or_else(foreign).or_else(earlier)
    }

    /// The tasks it still waits for.
    #[must_use]
    pub fn waits_for(&self) -> &[TaskId] {
        match &self.state {
            State::Pending(Pending::Scheduled { waits_for, .. } | Pending::Blocked { waits_for }) => waits_for,
            State::Pending(
                Pending::Analyzing { .. } | Pending::Queued(_) | Pending::Backoff { .. } | Pending::Dispatched { .. },
            )
            | State::Running { .. }
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => &[],
        }
    }

    /// The longest execution of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_seconds))
    }

    /// The next moment at which something happens by itself: the one timer in
    /// observed time that the engine keeps for it.
    #[must_use]
    pub fn next_timer(&self) -> Option<Moment> {
        let state = match &self.state {
            State::Pending(Pending::Backoff { until }) => Some(*until),
            State::Pending(Pending::Queued(queued)) => queued.not_before,
            State::Running { progress, .. } => match progress {
                Progress::Started { since, .. } => Some(since.after(self.timeout())),
                Progress::Leased { lease, deadline } => Some(lease.until.min(*deadline)),
                Progress::Validating { deadline, .. } | Progress::Reviewing { deadline, .. } => *deadline,
            },
            State::Pending(
                Pending::Scheduled { .. }
                | Pending::Blocked { .. }
                | Pending::Analyzing { .. }
                | Pending::Dispatched { .. },
            )
            | State::Children(_)
            | State::Completed { .. }
            | State::Failed { .. }
            | State::Cancelled { .. } => None,
        };
        let parked = self.parked.iter().map(|parked| parked.until).min();
        [state, parked].into_iter().flatten().min()
    }
}
