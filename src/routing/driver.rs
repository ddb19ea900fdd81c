//! Who asks: takes tasks that are to be routed from the engine, asks the
//! services about them, and brings back what was found.
//!
//! One task of the runtime takes jobs, as many as may be under way, and each
//! job is carried out by one of its own, which answers or returns it whatever
//! happens. A job that fails is returned to come again later and holds no
//! place meanwhile. While the Agent does not answer, no more than a probe is
//! taken, besides what can do without it. Jobs that have failed before get at
//! most half of the places: a few that always take their full time to fail
//! must not keep the others waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::breaker::BreakerState;
use super::job::{Carrier, Plan};
use super::services::Services;
use super::settings::Settings;
use crate::clock::Clock;
use crate::engine::{Engine, Error, RoutingJob};
use crate::task::{Moment, TaskId};

/// Jobs to choose a probe from: the one that has failed least often says most
/// about the service.
const PROBE_CHOICE: usize = 64;
/// Longest time until the next look, in case nobody says that there is work.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Pause after the engine could not be asked.
const ENGINE_PAUSE: Duration = Duration::from_millis(200);
/// When a job that waits for a probe's result is looked at again.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// Routes tasks.
#[derive(Debug)]
pub struct Driver {
    carrier: Arc<Carrier>,
    concurrency: usize,
    running: HashMap<Id, Running>,
    /// What tells whether the Agent is back, and RAG.
    probe: Option<Id>,
    rag_probe: Option<Id>,
}

/// A job under way.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// To give it back, should it panic.
    task: TaskId,
    has_failed_before: bool,
}

/// What may be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// Anything.
    All,
    /// One job that tells whether the Agent is back.
    Probe,
    /// Only what can do without the Agent; nothing else before this time.
    WithoutAgent { until: Moment },
}

impl Driver {
    /// A driver between an engine and the services of the same settings.
    #[must_use]
    pub fn new(engine: Engine, services: Arc<Services>, settings: &Settings, clock: Clock) -> Self {
        let of_agent = settings.agent.as_ref().map(|agent| agent.concurrency);
        let of_rag = settings.rag.as_ref().map(|rag| rag.concurrency);
        let carrier = Arc::new(Carrier::new(engine, services, settings, clock));
        let concurrency = of_agent.or(of_rag).unwrap_or(1).max(1);
        Self { carrier, concurrency, running: HashMap::new(), probe: None, rag_probe: None }
    }

    /// Routes tasks until `stop`, or until the engine stops. What is under
    /// way then is given up; the engine hands it out again after its start.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut waits = self.carrier.engine.routing().ready();
        let mut calls = JoinSet::new();
        loop {
            waits.borrow_and_update();
            let pause = match self.take(&mut calls).await {
                Ok(pause) => pause,
                Err(Error::NotOwner | Error::ShuttingDown | Error::Unknown) => break,
                Err(error) => {
                    tracing::debug!(%error, "failed to take tasks that are to be routed");
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

    /// Takes what may be taken, and begins it; when to look again.
    async fn take(&mut self, calls: &mut JoinSet<()>) -> Result<Pause, Error> {
        self.probe_rag(calls);
        let free = self.concurrency.saturating_sub(calls.len());
        if free == 0 {
            return Ok(Pause { length: LONGEST_PAUSE, ends_with_work: false });
        }
        let now = self.carrier.clock.observed();
        let intake = self.intake(now);
        let most = match intake {
            Intake::All => free,
            Intake::Probe => PROBE_CHOICE,
            Intake::WithoutAgent { until } => match self.carrier.next_without_agent(now) {
                Some(at) if at <= now => free,
                at => {
                    let length = at.map_or(until, |at| at.min(until)).since(now).min(LONGEST_PAUSE);
                    return Ok(Pause { length, ends_with_work: false });
                }
            },
        };
        let jobs = self.carrier.engine.routing().take(most).await?;
        let may_be_more = jobs.len() == most;
        let all_begun = self.begin(jobs, intake, free, calls).await;
        if intake == Intake::Probe && self.probe.is_none() {
            let services = Arc::clone(&self.carrier.services);
            self.probe = Some(calls.spawn(services.probe_agent()).id());
        }
        let length = match intake {
            // Behind what was given back there may be what can be begun.
            Intake::All | Intake::WithoutAgent { .. } if may_be_more && !all_begun => Duration::ZERO,
            Intake::WithoutAgent { until } => until.since(now).min(LONGEST_PAUSE),
            Intake::All | Intake::Probe => LONGEST_PAUSE,
        };
        Ok(Pause { length, ends_with_work: true })
    }

    /// Tasks wait for no probe of RAG: it gets one of its own.
    fn probe_rag(&mut self, calls: &mut JoinSet<()>) {
        let services = &self.carrier.services;
        let is_wanted = services.rag.as_ref().is_some_and(|rag| rag.caller().wants_probe());
        if is_wanted && self.rag_probe.is_none() {
            self.rag_probe = Some(calls.spawn(Arc::clone(services).probe_rag()).id());
        }
    }

    fn intake(&self, now: Moment) -> Intake {
        let Some(agent) = &self.carrier.services.agent else { return Intake::All };
        let availability = agent.caller().availability();
        match availability.state {
            BreakerState::Closed => Intake::All,
            BreakerState::HalfOpen if self.probe.is_none() && agent.caller().wants_probe() => Intake::Probe,
            BreakerState::HalfOpen => Intake::WithoutAgent { until: now.after(PROBE_PAUSE) },
            BreakerState::Open => {
                Intake::WithoutAgent { until: availability.opens_again_at.unwrap_or(now.after(PROBE_PAUSE)) }
            }
        }
    }

    /// Begins jobs that were taken; the others are given back. Whether all
    /// were begun.
    async fn begin(&mut self, jobs: Vec<RoutingJob>, intake: Intake, free: usize, calls: &mut JoinSet<()>) -> bool {
        let now = self.carrier.clock.observed();
        let count = jobs.len();
        let mut jobs: Vec<_> = jobs.into_iter().map(|job| (self.carrier.failures_of(job.task), job)).collect();
        if intake == Intake::Probe {
            jobs.sort_by_key(|(failures, _)| *failures);
        }
        let mut begun = 0;
        for (failures, job) in jobs {
            let plan = self.carrier.plan(&job, now);
            let again_at = match plan {
                _ if begun == free => Some(now),
                Plan::Ask => self.asks_not_before(intake, failures > 0, now),
                Plan::Context | Plan::FallBack => None,
            };
            if let Some(again_at) = again_at {
                let again_at = self.carrier.falls_back_at(&job).map_or(again_at, |at| at.min(again_at));
                self.carrier.give_back(job.task, again_at).await;
                continue;
            }
            begun += 1;
            let id = self.spawn(job, plan, failures > 0, calls);
            if plan == Plan::Ask && intake == Intake::Probe {
                self.probe = Some(id);
            }
        }
        begun == count
    }

    /// When the Agent may be asked about a job; `None`: now.
    fn asks_not_before(&self, intake: Intake, has_failed_before: bool, now: Moment) -> Option<Moment> {
        match intake {
            Intake::Probe => self.probe.map(|_| now),
            Intake::WithoutAgent { until } => Some(until),
            Intake::All => {
                let failed_before = self.running.values().filter(|running| running.has_failed_before).count();
                let is_full = has_failed_before && failed_before >= self.concurrency.div_ceil(2);
                is_full.then(|| self.carrier.next_place_at(now))
            }
        }
    }

    fn spawn(&mut self, job: RoutingJob, plan: Plan, has_failed_before: bool, calls: &mut JoinSet<()>) -> Id {
        let task = job.task;
        let id = calls.spawn(Arc::clone(&self.carrier).carry_out(job, plan)).id();
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
            tracing::error!(%task, "routing a task panicked; it is tried again");
            let carrier = Arc::clone(&self.carrier);
            calls.spawn(async move { carrier.give_back_later(task).await });
        }
    }
}

/// How long to wait for something to do.
struct Pause {
    length: Duration,
    /// Whether it ends as soon as there are tasks to be routed.
    ends_with_work: bool,
}
