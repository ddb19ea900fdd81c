//! Runs one routing job: the calls, and the finding or the return of the job.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::caller::CallError;
use super::error::Error;
use super::failures::Failures;
use super::retry::random_fraction;
use super::services::Services;
use super::settings::{Fallback, Settings};
use crate::clock::Clock;
use crate::engine::{self, Engine, RoutingJob};
use crate::task::{Finding, Moment, RoutingStep, TaskId};

/// Pause after the engine was overloaded.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Pause after an error of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Pause of a job for which no call was made, because the breaker was open.
const BREAKER_PAUSE: Duration = Duration::from_secs(1);

/// How a job is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// The Agent is called.
    CallAgent,
    /// Only RAG is called.
    Context,
    /// The built-in rules route the task, because the Agent has not answered for too long.
    FallBack,
}

/// The continuation after a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    ReturnUntil(Moment),
    FallBack,
}

/// Runs jobs.
#[derive(Debug)]
pub(super) struct JobRunner {
    pub(super) engine: Engine,
    pub(super) services: Arc<Services>,
    pub(super) clock: Clock,
    fallback: Fallback,
    failures: Mutex<Failures>,
}

impl JobRunner {
    pub(super) fn new(engine: Engine, services: Arc<Services>, settings: &Settings, clock: Clock) -> Self {
        let failures = Mutex::new(Failures::new(settings.return_initial, settings.return_max));
        Self { engine, services, clock, fallback: settings.fallback, failures }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of failed calls for a task.
    pub(super) fn failures_of(&self, task: TaskId) -> u32 {
        self.failures().of(task).map_or(0, |failure| failure.count)
    }

    /// Returns the time at which a job that has failed before, and found no slot, is taken
    /// again.
    pub(super) fn next_slot_at(&self, now: Moment) -> Moment {
        now.after(self.failures().wait_for_slot(random_fraction()))
    }

    /// Decides how to run a job now.
    pub(super) fn plan(&self, job: &RoutingJob, now: Moment) -> Plan {
        match job.step {
            RoutingStep::Context => Plan::Context,
            RoutingStep::Analyze | RoutingStep::Decompose { .. } | RoutingStep::Estimate => {
                if self.services.agent.is_none() {
                    Plan::Context
                } else if self.fallback_at(job).is_some_and(|at| at <= now) {
                    Plan::FallBack
                } else {
                    Plan::CallAgent
                }
            }
        }
    }

    /// Returns the time at which the built-in rules route a task: after its wait, if the
    /// breaker is open or a call for the task has failed. The wait is counted from a
    /// stored time, so that a restart does not begin it again.
    pub(super) fn fallback_at(&self, job: &RoutingJob) -> Option<Moment> {
        let Fallback::Builtin { after } = self.fallback else { return None };
        let has_failed = self.failures().of(job.task).is_some();
        (has_failed || self.away_since().is_some()).then(|| job.since.after(after))
    }

    fn away_since(&self) -> Option<Moment> {
        self.services.agent.as_ref()?.caller().availability().away_since
    }

    /// Returns the time at which there may be a job that can run without the Agent; `None`
    /// if there is no such job until the Agent answers.
    pub(super) fn next_without_agent(&self, now: Moment) -> Option<Moment> {
        if self.services.rag.is_some() {
            return Some(now);
        }
        let Fallback::Builtin { after } = self.fallback else { return None };
        self.engine.figures().oldest_analyzing.map(|since| since.after(after).max(now))
    }

    /// Runs a job, and returns its finding, or the job itself, to the engine.
    pub(super) async fn run(self: Arc<Self>, job: RoutingJob, plan: Plan) {
        let _running = self.services.count_job();
        let (finding, plan) = match plan {
            Plan::Context | Plan::FallBack => (self.builtin(&job).await, plan),
            Plan::CallAgent => match self.call_agent(&job).await {
                Ok(finding) => (finding, plan),
                Err(failed) => match self.after_failure(&job, &failed) {
                    Next::FallBack => (self.builtin(&job).await, Plan::FallBack),
                    Next::ReturnUntil(until) => return self.return_job(job.task, until).await,
                },
            },
        };
        if self.deliver(&job, finding).await && plan == Plan::FallBack {
            self.services.record_fallback();
            tracing::debug!(task = %job.task, "task routed by the built-in rules, because the Agent did not answer");
        }
    }

    async fn builtin(&self, job: &RoutingJob) -> Finding {
        Finding::Builtin { context: self.services.context(job).await }
    }

    /// Calls the Agent. The last step also calls RAG, at the same time.
    async fn call_agent(&self, job: &RoutingJob) -> Result<Finding, CallError> {
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
                // A failure of the estimate ends both calls, since the context is then of no use.
                let (estimate, context) = tokio::try_join!(estimate, context)?;
                Ok(Finding::Estimated { estimate, context })
            }
            RoutingStep::Context => Ok(self.builtin(job).await),
        }
    }

    /// Decides what to do after a failed call.
    fn after_failure(&self, job: &RoutingJob, failed: &CallError) -> Next {
        let now = self.clock.observed();
        let until = match &failed.error {
            // No call was made, so this is not a failure of the task.
            Error::BreakerOpen { until } => until.unwrap_or(now).max(now.after(BREAKER_PAUSE)),
            error => self.record_failure(job, failed, error, now),
        };
        match self.fallback_at(job) {
            Some(at) if at <= now => Next::FallBack,
            Some(at) => Next::ReturnUntil(until.min(at)),
            None => Next::ReturnUntil(until),
        }
    }

    /// Records a failed call. Returns the time of the next one.
    fn record_failure(&self, job: &RoutingJob, failed: &CallError, error: &Error, now: Moment) -> Moment {
        let asked = match error {
            Error::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        let mut failures = self.failures();
        let failure = failures.record(job.task, failed.since);
        let wait = failures.wait(failure, asked, random_fraction());
        drop(failures);
        let (task, project, step, count) = (job.task, &job.project, step_name(job.step), failure.count);
        if count == 1 && !error.is_service_failure() {
            tracing::warn!(%task, %project, step, %error, "answer of the Agent not usable, the call is repeated later");
        } else {
            tracing::debug!(%task, %project, step, %error, count, "call of the Agent failed");
        }
        now.after(wait)
    }

    /// Sends a finding to the engine. Returns whether the engine accepted it.
    async fn deliver(&self, job: &RoutingJob, finding: Finding) -> bool {
        loop {
            match self.engine.routing().submit_finding(job.task, job.step, finding.clone()).await {
                Ok(_) => {
                    self.failures().forget(job.task);
                    self.services.record_finding();
                    return true;
                }
                Err(error) => {
                    let Some(pause) = pause_after(&error, job.task) else { return false };
                    sleep(pause).await;
                }
            }
        }
    }

    /// Returns a job to the engine, to be taken again at `until`.
    pub(super) async fn return_job(&self, task: TaskId, until: Moment) {
        while let Err(error) = self.engine.routing().return_job(task, until).await {
            let Some(pause) = pause_after(&error, task) else { return };
            sleep(pause).await;
        }
        self.services.record_return();
    }

    /// Returns a job that panicked, to be taken again after the longest wait.
    pub(super) async fn return_job_later(&self, task: TaskId) {
        let wait = self.failures().max_wait();
        self.return_job(task, self.clock.observed().after(wait)).await;
    }
}

/// Returns the pause before the engine is called again; `None` if that would not help.
fn pause_after(error: &engine::Error, task: TaskId) -> Option<Duration> {
    match error {
        engine::Error::Overloaded | engine::Error::DiskFull { .. } => Some(BUSY_PAUSE),
        // The task is gone, or the service is stopping: jobs without an answer are handed
        // out again after the next start.
        engine::Error::Refused(_) | engine::Error::NotOwner | engine::Error::ShuttingDown | engine::Error::Unknown => {
            None
        }
        engine::Error::Store(_) => {
            tracing::error!(%task, %error, "failed to return a finding to the engine, trying again");
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
