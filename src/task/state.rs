//! A task and its states. Each state carries exactly its own data, so that an illegal state cannot
//! be written down. `status` and `phase` are derived here and nowhere else.

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

/// Everything about a task that changes, and the resolved choices that transitions need. The
/// client's request is kept in the [`Submission`](super::Submission).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Id assigned at submission.
    pub id: TaskId,
    /// The project that the task belongs to.
    pub project: ProjectId,
    /// Priority class among the waiting tasks of its project.
    pub priority: Priority,
    /// Tier of the next or current attempt.
    pub tier: Tier,
    /// The kind of work.
    pub domain: Domain,
    /// How outputs are validated.
    pub qa_profile: QaProfile,
    /// Execution limit of one attempt, in seconds.
    pub timeout_seconds: u32,
    /// Attempts after which the task fails.
    pub max_attempts: u32,
    /// When the task was submitted.
    pub created_at: Timestamp,
    /// When the task last changed.
    pub updated_at: Timestamp,
    /// Number of visible changes, from 1.
    pub version: u64,
    /// When a worker first had the task. For a parent: when the first subtask was started.
    pub started_at: Option<Timestamp>,
    /// The finished task that this one repeats.
    pub rerun_of: Option<TaskId>,
    /// The task that this one is a subtask of.
    pub parent: Option<TaskId>,
    /// Number of ancestors.
    pub depth: u32,
    /// Subtasks in the order of the decomposition.
    pub children: Vec<TaskId>,
    /// Tasks that must complete first, as submitted.
    pub depends_on: Vec<TaskId>,
    /// Artifacts of completed dependencies, which the task may consume.
    pub inputs: Vec<ArtifactId>,
    /// The kind of request as found by the Agent.
    pub mode: Option<Mode>,
    /// What routing still has to find out; `None` if nothing.
    pub routing: Option<Routing>,
    /// Whether findings of the Agent or the RAG service are stored for its workers.
    pub has_findings: bool,
    /// Prediction made at submission, if there was data for one.
    pub estimate: Option<Estimated>,
    /// Attempts that ended without completing the task, oldest first.
    pub closed: Vec<ClosedAttempt>,
    /// Reports that arrived before the output they are about.
    pub parked: Vec<Parked>,
    /// The current state with its data.
    pub state: State,
    /// Observed times. This field must stay the last one, because rows of the first versions of
    /// format 6 end before it.
    #[serde(default)]
    pub course: Course,
}

/// The state of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// No attempt is in execution.
    Pending(Pending),
    /// An attempt is in execution, or its output is judged.
    Running {
        /// The open attempt.
        attempt: Attempt,
        /// Where the attempt is between its start and its verdict.
        progress: Progress,
    },
    /// The subtasks run.
    Children(Children),
    /// The task completed.
    Completed {
        /// When it completed.
        at: Timestamp,
        /// An attempt, or the subtasks.
        by: Completion,
    },
    /// The task failed.
    Failed {
        /// When it failed.
        at: Timestamp,
        /// Why it failed.
        error: TaskError,
    },
    /// The task was cancelled.
    Cancelled {
        /// When it was cancelled.
        at: Timestamp,
        /// The reason the client gave.
        reason: Option<String>,
    },
}

/// What completed a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// An attempt of the task itself.
    Attempt {
        /// Number of the attempt, from 1.
        number: u32,
        /// Its output.
        product: Product,
    },
    /// The subtasks.
    Children {
        /// Artifacts of the subtasks, in the order of the subtasks.
        artifacts: Vec<OutputArtifact>,
    },
}

/// Why no attempt is in execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pending {
    /// The time `not_before` has not come.
    Scheduled {
        /// The time `not_before`.
        until: Timestamp,
        /// Dependencies that have not completed.
        waits_for: Vec<TaskId>,
    },
    /// Dependencies have not completed.
    Blocked {
        /// Those dependencies; never empty.
        waits_for: Vec<TaskId>,
    },
    /// Routing carries out [`Task::routing`].
    Analyzing {
        /// When the routing began.
        since: Moment,
    },
    /// The task waits for a worker and a slot of its project.
    Queued(Queued),
    /// The task waits for its next attempt.
    Backoff {
        /// When the next attempt may start.
        until: Moment,
    },
    /// The broker has the `task.ready` event, and no worker is known to have the task.
    Dispatched {
        /// The open attempt, which holds a slot.
        attempt: Attempt,
        /// When the task was handed to the broker.
        at: Moment,
    },
}

/// A task that waits for a worker and a slot of its project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Start of the wait, from which the task's place in its line follows.
    pub since: Moment,
    /// Whether the `task.ready` event of its attempt is in the log.
    pub announced: bool,
    /// Earliest time of the next lease, set by a release.
    pub not_before: Option<Moment>,
    /// The attempt that is still open after a lost or released lease.
    pub attempt: Option<Attempt>,
}

/// A report that arrived before the output it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parked {
    /// When the report becomes a dead letter.
    pub until: Moment,
    /// The parsed report.
    pub report: Report,
    /// The event as it was received, which a dead letter keeps.
    pub raw: String,
    /// Hash by which repeated deliveries are recognised; `None` if the event has no id.
    pub event: Option<EventHash>,
}

impl Task {
    /// The status that clients see first.
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

    /// The phase within the status.
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

    /// The open attempt, in whatever phase it is.
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

    /// Whether a task in this phase can continue on `bus`. Leases continue on every bus until they
    /// end.
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

    /// Whether the task counts against the limit of its project.
    #[must_use]
    pub fn holds_slot(&self) -> bool {
        self.open_attempt().is_some_and(|attempt| attempt.has_slot)
    }

    /// When the task ended; `None` if it has not.
    #[must_use]
    pub const fn ended_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Completed { at, .. } | State::Failed { at, .. } | State::Cancelled { at, .. } => Some(*at),
            State::Pending(_) | State::Running { .. } | State::Children(_) => None,
        }
    }

    /// Number of attempts opened so far.
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

    /// Number of the newest attempt known to workers: one that was opened, or one whose
    /// `task.ready` is in the log.
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

    /// The output of the current attempt.
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

    /// The review in progress.
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

    /// The record of the newest attempt that has an output.
    #[must_use]
    pub fn newest_record(&self) -> Option<RecordId> {
        let foreign = || Some(self.open_attempt()?.foreign.as_ref()?.record);
        let earlier = || self.closed.iter().rev().find_map(|closed| closed.product.as_ref().map(|(record, _)| *record));
        self.product().map(|product| product.record).or_else(foreign).or_else(earlier)
    }

    /// Dependencies that have not completed.
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

    /// Execution limit of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_seconds))
    }

    /// The next moment at which the task changes by itself. The engine keeps this one timer in
    /// observed time for each task.
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
