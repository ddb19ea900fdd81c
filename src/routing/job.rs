//! One task that is to be routed: what is asked, and what becomes of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::caller::Failed;
use super::error::Error;
use super::failures::Failures;
use super::retry::fraction;
use super::services::Services;
use super::settings::{Fallback, Settings};
use crate::clock::Clock;
use crate::engine::{self, Engine, RoutingJob};
use crate::task::{Finding, Moment, RoutingStep, TaskId};

/// Pause before the engine is asked again that was too busy, and that could
/// not read its store.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// When a task is asked about again that was not asked about, since the
/// service was left alone meanwhile.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

/// How a job is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// The Agent is asked.
    Ask,
    /// The Agent has no part in it.
    Context,
    /// The Agent should be asked, but there was no answer for too long.
    FallBack,
}

/// What is done after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    ReturnUntil(Moment),
    FallBack,
}

/// Carries out jobs.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) engine: Engine,
    pub(super) services: Arc<Services>,
    pub(super) clock: Clock,
    fallback: Fallback,
    failures: Mutex<Failures>,
}

impl Carrier {
    pub(super) fn new(engine: Engine, services: Arc<Services>, settings: &Settings, clock: Clock) -> Self {
        let failures = Mutex::new(Failures::new(settings.return_initial, settings.return_max));
        Self { engine, services, clock, fallback: settings.fallback, failures }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often questions about a task have failed.
    pub(super) fn failures_of(&self, task: TaskId) -> u32 {
        self.failures().of(task).map_or(0, |failure| failure.count)
    }

    /// When a job that has failed before looks for a place again that it has
    /// not found now.
    pub(super) fn next_place_at(&self, now: Moment) -> Moment {
        now.after(self.failures().wait_for_place(fraction()))
    }

    /// How a job is to be carried out now.
    pub(super) fn plan(&self, job: &RoutingJob, now: Moment) -> Plan {
        match job.step {
            RoutingStep::Context => Plan::Context,
            RoutingStep::Analyze | RoutingStep::Decompose { .. } | RoutingStep::Estimate => {
                if self.services.agent.is_none() {
                    Plan::Context
                } else if self.falls_back_at(job).is_some_and(|at| at <= now) {
                    Plan::FallBack
                } else {
                    Plan::Ask
                }
            }
        }
    }

    /// When the built-in rules decide about a task, as things stand: once it
    /// has waited a while, and the Agent is away or has failed it. The wait
    /// counts from what is stored, so that no restart begins it anew.
    pub(super) fn falls_back_at(&self, job: &RoutingJob) -> Option<Moment> {
        let Fallback::Builtin { after } = self.fallback else { return None };
        let has_failed = self.failures().of(job.task).is_some();
        (has_failed || self.away_since().is_some()).then(|| job.since.after(after))
    }

    fn away_since(&self) -> Option<Moment> {
        self.services.agent.as_ref()?.caller().availability().away_since
    }

    /// When there may be a job that can do without an Agent that is away;
    /// `None`: not as long as it is.
    pub(super) fn next_without_agent(&self, now: Moment) -> Option<Moment> {
        if self.services.rag.is_some() {
            return Some(now);
        }
        let Fallback::Builtin { after } = self.fallback else { return None };
        self.engine.figures().oldest_analyzing.map(|since| since.after(after).max(now))
    }

    /// Finds out what a job asks for, and brings it to the engine; or gives
    /// the job back.
    pub(super) async fn carry_out(self: Arc<Self>, job: RoutingJob, plan: Plan) {
        let _counted = self.services.begun();
        let (finding, plan) = match plan {
            Plan::Context | Plan::FallBack => (self.builtin(&job).await, plan),
            Plan::Ask => match self.ask(&job).await {
                Ok(finding) => (finding, plan),
                Err(failed) => match self.after(&job, &failed) {
                    Next::FallBack => (self.builtin(&job).await, Plan::FallBack),
                    Next::ReturnUntil(until) => return self.give_back(job.task, until).await,
                },
            },
        };
        if self.deliver(&job, finding).await && plan == Plan::FallBack {
            self.services.note_fallback();
            tracing::debug!(task = %job.task, "the built-in rules decide, since the Agent does not");
        }
    }

    async fn builtin(&self, job: &RoutingJob) -> Finding {
        Finding::Builtin { context: self.services.context(job).await }
    }

    /// Asks the Agent, and RAG beside it where the last answer is wanted.
    async fn ask(&self, job: &RoutingJob) -> Result<Finding, Failed> {
        let Some(agent) = &self.services.agent else { return Ok(self.builtin(job).await) };
        let RoutingJob { task, project, description, parent_description, domain, traceparent, .. } = job;
        let (parent, trace) = (parent_description.as_deref(), traceparent.as_deref());
        match job.step {
            RoutingStep::Analyze => agent.analyze(description, project, parent, trace).await.map(Finding::Analyzed),
            RoutingStep::Decompose { max_depth } => {
                agent.decompose(*task, description, max_depth, trace).await.map(Finding::Decomposed)
            }
            RoutingStep::Estimate => {
                let context = async { Ok(self.services.context(job).await) };
                let estimate = agent.estimate(*task, description, domain, trace);
                // A failure ends both: the context would come to nothing.
                let (estimate, context) = tokio::try_join!(estimate, context)?;
                Ok(Finding::Estimated { estimate, context })
            }
            RoutingStep::Context => Ok(self.builtin(job).await),
        }
    }

    /// What becomes of a job whose question failed.
    fn after(&self, job: &RoutingJob, failed: &Failed) -> Next {
        let now = self.clock.observed();
        let until = match &failed.error {
            // Nobody was asked: it says nothing about this task.
            Error::Away { until } => until.unwrap_or(now).max(now.after(AWAY_PAUSE)),
            error => self.note(job, failed, error, now),
        };
        match self.falls_back_at(job) {
            Some(at) if at <= now => Next::FallBack,
            Some(at) => Next::ReturnUntil(until.min(at)),
            None => Next::ReturnUntil(until),
        }
    }

    /// Notes a failure; when to ask again.
    fn note(&self, job: &RoutingJob, failed: &Failed, error: &Error, now: Moment) -> Moment {
        let asked = match error {
            Error::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        let mut failures = self.failures();
        let failure = failures.note(job.task, failed.since);
        let wait = failures.wait(failure, asked, fraction());
        drop(failures);
        let (task, project, step, count) = (job.task, &job.project, step_name(job.step), failure.count);
        if count == 1 && !error.is_of_service() {
            tracing::warn!(%task, %project, step, %error, "the Agent has no usable answer for a task; it is asked again");
        } else {
            tracing::debug!(%task, %project, step, %error, count, "a question to the Agent failed");
        }
        now.after(wait)
    }

    /// Brings a finding to the engine; whether it got there.
    async fn deliver(&self, job: &RoutingJob, finding: Finding) -> bool {
        loop {
            match self.engine.routing().submit_finding(job.task, job.step, finding.clone()).await {
                Ok(_) => {
                    self.failures().forget(job.task);
                    self.services.note_routed();
                    return true;
                }
                Err(error) => {
                    let Some(pause) = pause_after(&error, job.task) else { return false };
                    sleep(pause).await;
                }
            }
        }
    }

    /// Gives a job back, to come again at `until`.
    pub(super) async fn give_back(&self, task: TaskId, until: Moment) {
        while let Err(error) = self.engine.routing().return_job(task, until).await {
            let Some(pause) = pause_after(&error, task) else { return };
            sleep(pause).await;
        }
        self.services.note_returned();
    }

    /// Gives a job back whose routing went wrong in a way that should not be.
    pub(super) async fn give_back_later(&self, task: TaskId) {
        let wait = self.failures().longest();
        self.give_back(task, self.clock.observed().after(wait)).await;
    }
}

/// How long to wait before the engine is asked once more; `None`: of no use.
fn pause_after(error: &engine::Error, task: TaskId) -> Option<Duration> {
    match error {
        engine::Error::Overloaded | engine::Error::DiskFull { .. } => Some(BUSY_PAUSE),
        // The task is gone, or the service is: what is not answered is handed
        // out again after the next start.
        engine::Error::Refused(_) | engine::Error::NotOwner | engine::Error::ShuttingDown | engine::Error::Unknown => {
            None
        }
        engine::Error::Store(_) => {
            tracing::error!(%task, %error, "failed to bring back what was found about a task; trying again");
            Some(STORE_PAUSE)
        }
    }
}

const fn step_name(step: RoutingStep) -> &'static str {
    match step {
        RoutingStep::Analyze => "analyze",
        RoutingStep::Decompose { .. } => "decompose",
        RoutingStep::Estimate => "estimate",
        RoutingStep::Context => "context",
    }
}
