//! Who asks: takes routing jobs from the engine, calls the services, and returns
//! the findings to the engine.
//!
//! One runtime task takes as many jobs as may run at a time. Each job runs in a runtime
//! task of its own, which always answers or returns the job. A job that fails is
//! returned, to be taken again later, and uses no slot meanwhile. While the Agent does
//! not answer, only one job is taken as a probe, besides jobs that do not need the
//! Agent. Jobs that have failed before get at most half of the slots: a few jobs that
//! always time out must not delay the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::breaker::BreakerState;
use super::job::{JobRunner, Plan};
use super::services::Services;
use super::settings::Settings;
use crate::clock::Clock;
use crate::engine::{Engine, Error, RoutingJob};
use crate::task::{Moment, TaskId};

/// Jobs to choose a probe from: the job with the fewest failures says most about the
/// service.
const PROBE_CHOICE: usize = 64;
/// Longest time until the engine is asked again, in case a notification is missing.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Pause after an error of the engine.
const ENGINE_PAUSE: Duration = Duration::from_millis(200);
/// Time until a job that waits for the outcome of a probe is taken again.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// Runs routing jobs.
#[derive(Debug)]
pub struct Driver {
    runner: Arc<JobRunner>,
    concurrency: usize,
    running: HashMap<Id, Running>,
    /// The runtime task that probes the Agent.
    probe: Option<Id>,
    /// The runtime task that probes RAG.
    rag_probe: Option<Id>,
}

/// A running job.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// For returning the job if it panics.
    task: TaskId,
    has_failed_before: bool,
}

/// The jobs that may be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// All jobs.
    All,
    /// One job as a probe of the Agent.
    Probe,
    /// Only jobs that do not need the Agent, until this time.
    WithoutAgent { until: Moment },
}

impl Driver {
    /// Makes a driver. `services` must be built from the same settings.
    #[must_use]
    pub fn new(engine: Engine, services: Arc<Services>, settings: &Settings, clock: Clock) -> Self {
        let agent_concurrency = settings.agent.as_ref().map(|agent| agent.concurrency);
        let rag_concurrency = settings.rag.as_ref().map(|rag| rag.concurrency);
        let runner = Arc::new(JobRunner::new(engine, services, settings, clock));
        let concurrency = agent_concurrency.or(rag_concurrency).unwrap_or(1).max(1);
        Self { runner, concurrency, running: HashMap::new(), probe: None, rag_probe: None }
    }

    /// Runs jobs until `stop` is cancelled or the engine stops. Jobs that are running then
    /// are abandoned; the engine hands them out again after its next start.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut waits = self.runner.engine.routing().ready();
        let mut calls = JoinSet::new();
        loop {
            waits.borrow_and_update();
            let pause = match self.take(&mut calls).await {
                Ok(pause) => pause,
                Err(Error::NotOwner | Error::ShuttingDown | Error::Unknown) => break,
                Err(error) => {
                    tracing::debug!(%error, "failed to take routing jobs");
                    Pause { length: ENGINE_PAUSE, ends_with_work: false }
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = calls.join_next_with_id() => self.settle(ended, &mut calls),
                changed = waits.changed(), if pause.ends_with_work => if changed.is_err() { break },
                () = sleep(pause.length) => {}
            }
            while let Some(ended) = calls.try_join_next_with_id() {
                self.settle(ended, &mut calls);
            }
        }
        calls.shutdown().await;
    }

    /// Takes and starts the jobs that may be taken. Returns the time until the next call.
    async fn take(&mut self, calls: &mut JoinSet<()>) -> Result<Pause, Error> {
        self.probe_rag(calls);
        let free = self.concurrency.saturating_sub(calls.len());
        if free == 0 {
            return Ok(Pause { length: MAX_PAUSE, ends_with_work: false });
        }
        let now = self.runner.clock.observed();
        let intake = self.intake(now);
        let most = match intake {
            Intake::All => free,
            Intake::Probe => PROBE_CHOICE,
            Intake::WithoutAgent { until } => match self.runner.next_without_agent(now) {
                Some(at) if at <= now => free,
                at => {
                    let length = at.map_or(until, |at| at.min(until)).since(now).min(MAX_PAUSE);
                    return Ok(Pause { length, ends_with_work: false });
                }
            },
        };
        let jobs = self.runner.engine.routing().take(most).await?;
        let may_be_more = jobs.len() == most;
        let all_started = self.start(jobs, intake, free, calls).await;
        if intake == Intake::Probe && self.probe.is_none() {
            let services = Arc::clone(&self.runner.services);
            self.probe = Some(calls.spawn(services.check_agent_health()).id());
        }
        let length = match intake {
            // Behind the jobs that were returned there may be jobs that can start.
            Intake::All | Intake::WithoutAgent { .. } if may_be_more && !all_started => Duration::ZERO,
            Intake::WithoutAgent { until } => until.since(now).min(MAX_PAUSE),
            Intake::All | Intake::Probe => MAX_PAUSE,
        };
        Ok(Pause { length, ends_with_work: true })
    }

    /// Starts a health check of RAG. No job waits for RAG, so no job can be its probe.
    fn probe_rag(&mut self, calls: &mut JoinSet<()>) {
        let services = &self.runner.services;
        let is_wanted = services.rag.as_ref().is_some_and(|rag| rag.caller().wants_probe());
        if is_wanted && self.rag_probe.is_none() {
            self.rag_probe = Some(calls.spawn(Arc::clone(services).check_rag_health()).id());
        }
    }

    fn intake(&self, now: Moment) -> Intake {
        let Some(agent) = &self.runner.services.agent else { return Intake::All };
        let availability = agent.caller().availability();
        match availability.state {
            BreakerState::Closed => Intake::All,
            BreakerState::HalfOpen if self.probe.is_none() && agent.caller().wants_probe() => Intake::Probe,
            BreakerState::HalfOpen => Intake::WithoutAgent { until: now.after(PROBE_PAUSE) },
            BreakerState::Open => {
                Intake::WithoutAgent { until: availability.next_probe_at.unwrap_or(now.after(PROBE_PAUSE)) }
            }
        }
    }

    /// Starts jobs that were taken, and returns the other ones to the engine. Returns
    /// whether all were started.
    async fn start(&mut self, jobs: Vec<RoutingJob>, intake: Intake, free: usize, calls: &mut JoinSet<()>) -> bool {
        let now = self.runner.clock.observed();
        let count = jobs.len();
        let mut jobs: Vec<_> = jobs.into_iter().map(|job| (self.runner.failures_of(job.task), job)).collect();
        if intake == Intake::Probe {
            jobs.sort_by_key(|(failures, _)| *failures);
        }
        let mut started = 0;
        for (failures, job) in jobs {
            let plan = self.runner.plan(&job, now);
            let again_at = match plan {
                _ if started == free => Some(now),
                Plan::CallAgent => self.call_not_before(intake, failures > 0, now),
                Plan::Context | Plan::FallBack => None,
            };
            if let Some(again_at) = again_at {
                let again_at = self.runner.fallback_at(&job).map_or(again_at, |at| at.min(again_at));
                self.runner.return_job(job.task, again_at).await;
                continue;
            }
            started += 1;
            let id = self.spawn(job, plan, failures > 0, calls);
            if plan == Plan::CallAgent && intake == Intake::Probe {
                self.probe = Some(id);
            }
        }
        started == count
    }

    /// Returns the time before which the Agent must not be called for a job; `None` allows
    /// the call now.
    fn call_not_before(&self, intake: Intake, has_failed_before: bool, now: Moment) -> Option<Moment> {
        match intake {
            Intake::Probe => self.probe.map(|_| now),
            Intake::WithoutAgent { until } => Some(until),
            Intake::All => {
                let failed_before = self.running.values().filter(|running| running.has_failed_before).count();
                let is_full = has_failed_before && failed_before >= self.concurrency.div_ceil(2);
                is_full.then(|| self.runner.next_slot_at(now))
            }
        }
    }

    fn spawn(&mut self, job: RoutingJob, plan: Plan, has_failed_before: bool, calls: &mut JoinSet<()>) -> Id {
        let task = job.task;
        let id = calls.spawn(Arc::clone(&self.runner).run(job, plan)).id();
        self.running.insert(id, Running { task, has_failed_before });
        id
    }

    fn settle(&mut self, ended: Result<(Id, ()), JoinError>, calls: &mut JoinSet<()>) {
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        self.probe = self.probe.filter(|probe| *probe != id);
        self.rag_probe = self.rag_probe.filter(|probe| *probe != id);
        let Some(Running { task, .. }) = self.running.remove(&id) else { return };
        if panicked {
            tracing::error!(%task, "routing job panicked, it runs again later");
            let runner = Arc::clone(&self.runner);
            calls.spawn(async move { runner.return_job_later(task).await });
        }
    }
}

/// The time until the driver takes jobs again.
struct Pause {
    length: Duration,
    /// Whether the pause ends as soon as there are jobs.
    ends_with_work: bool,
}
