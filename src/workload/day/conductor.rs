//! The course of a day: starts the actors, kills and restarts the service, completes the
//! open tasks, checks everything, and writes the report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::broker::BrokerWorker;
use super::context::{Context, Stage};
use super::plan::Day;
use super::report::Report;
use super::resources::Resources;
use super::streams::Reader;
use super::work::DayWorker;
use super::{check, lineage, qa, read, submit};
use crate::client::Call;
use crate::workload::console::Console;
use crate::workload::error::Error;
use crate::workload::random::Random;
use crate::workload::server::PrivateServer;
use crate::workload::target::Target;

/// Clients that submit.
const CLIENTS: u64 = 10;
/// Number of workers of each tier that has any.
const WORKERS: [(&str, u64); 4] = [("tiny", 4), ("small", 12), ("large", 8), ("frontier", 6)];
/// Senders of verdicts.
const QA: u64 = 4;
/// Readers.
const READERS: u64 = 8;
/// Clients that wait for tasks to end.
const WAITERS: u64 = 32;
/// Readers of streams.
const STREAMS: u64 = 50;
/// After the stage of work, at least one open task must end within this time.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest time until all actors have stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Time between two readings of the resources of an idle process.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// Number of requests without an answer after which the day is ended early.
const MAX_UNANSWERED: u64 = 100;
/// How often the process is checked.
const POLL: Duration = Duration::from_millis(200);
/// How often a server that ended by itself is started again.
const MAX_RESTARTS: u64 = 5;

/// Settings of a day.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Broker from which the workers get their tasks; without one the service leases them.
    pub broker: Option<SocketAddr>,
    /// Seed of the plan.
    pub seed: u64,
    /// Length of the stage of work.
    pub minutes: u64,
    /// How often a private server is killed.
    pub kills: u64,
    /// Longest time for an answer, and for an effect to be visible everywhere.
    pub patience: Duration,
}

/// Runs a day against a server and returns its report.
pub async fn run(settings: Settings, target: Target, console: Console) -> Result<Report, Error> {
    let health = target.client().get("/health").await?;
    let prefix = format!("day-{}", Uuid::now_v7().simple());
    let length = Duration::from_secs(60 * settings.minutes);
    let day = Day::new(settings.seed, &prefix);
    let context = Arc::new(Context::new(day, target.client().clone(), console, length, settings.patience));
    if !target.is_private() {
        (console.warn)(&format!("works on {} in projects {prefix}-…, which stay there", target.url()));
    }
    let version = health.json["version"].as_str().unwrap_or_default().to_owned();
    Conductor { context, settings, target, kills: 0, restarts: 0 }.run(version).await
}

/// Runs the day.
struct Conductor {
    context: Arc<Context>,
    settings: Settings,
    target: Target,
    kills: u64,
    restarts: u64,
}

impl Conductor {
    async fn run(&mut self, server_version: String) -> Result<Report, Error> {
        let mut random = Random::new(self.settings.seed);
        self.create_projects().await;
        let idle = self.resources();
        let mut actors = self.start_actors(&mut random);
        self.work(&mut random).await?;
        self.context.stage.send_replace(Stage::Drain);
        let mut drained = Duration::ZERO;
        if !self.is_hopeless() {
            drained = check::drain(&self.context, DRAIN_TIMEOUT).await;
        }
        self.context.stage.send_replace(Stage::End);
        if timeout(STOP_TIMEOUT, async { while actors.join_next().await.is_some() {} }).await.is_err() {
            self.context.report("liveness", "actors of the day did not stop", "", "");
        }
        actors.abort_all();
        if !self.is_hopeless() {
            self.kill().await?;
            check::check_everything(&self.context, &mut random).await;
            check::check_late_events(&self.context, &mut random).await;
        }
        let resources = self.check_resources(idle).await;
        Ok(self.report(server_version, drained, resources))
    }

    async fn create_projects(&self) {
        for project in &self.context.day.projects {
            let mut body = json!({"project_id": project.id, "name": "a day of dats bench"});
            if let Some(limit) = project.max_concurrent {
                body["max_concurrent"] = json!(limit);
            }
            self.context.send("project", Call::new(Method::POST, "/projects").json(&body), &[]).await;
        }
    }

    fn start_actors(&self, random: &mut Random) -> JoinSet<()> {
        let mut actors = JoinSet::new();
        let context = &self.context;
        for _ in 0..CLIENTS {
            actors.spawn(submit::run(Arc::clone(context), random.fork()));
        }
        for (tier, workers) in WORKERS {
            for number in 0..workers {
                let id = format!("day-{tier}-{number}");
                let worker = DayWorker { context: Arc::clone(context), tier, id, random: random.fork() };
                match self.settings.broker {
                    Some(broker) => actors.spawn(BrokerWorker { worker, broker }.run()),
                    None => actors.spawn(worker.run()),
                };
            }
        }
        for _ in 0..QA {
            actors.spawn(qa::run(Arc::clone(context), random.fork()));
        }
        for _ in 0..READERS {
            actors.spawn(read::run(Arc::clone(context), random.fork()));
        }
        for _ in 0..WAITERS {
            actors.spawn(read::wait(Arc::clone(context), random.fork()));
        }
        for number in 0..STREAMS {
            actors.spawn(Reader::of(number).run(Arc::clone(context), random.fork()));
        }
        actors.spawn(lineage::run(Arc::clone(context), random.fork()));
        actors
    }

    /// Waits for the end of the stage of work, and kills the server meanwhile.
    async fn work(&mut self, random: &mut Random) -> Result<(), Error> {
        let part = self.context.length.checked_div(u32::try_from(self.settings.kills).unwrap_or(u32::MAX).max(1));
        let part = part.unwrap_or(self.context.length);
        let mut next_kill = random.time(part);
        while self.context.now() < self.context.length && !self.is_hopeless() {
            sleep(POLL).await;
            if self.kills < self.settings.kills && self.context.now() >= next_kill {
                self.kill().await?;
                sleep(random.time(Duration::from_millis(300))).await;
                next_kill += part;
            }
            self.check_process().await?;
        }
        Ok(())
    }

    /// Returns whether the server fails so often that the rest of the day shows nothing new.
    fn is_hopeless(&self) -> bool {
        self.context.findings().counts.get("no answer").is_some_and(|count| *count >= MAX_UNANSWERED)
            || self.restarts >= MAX_RESTARTS
    }

    /// Kills a private server with SIGKILL and restarts it.
    async fn kill(&mut self) -> Result<(), Error> {
        let Target::Private(private) = &mut self.target else { return Ok(()) };
        self.kills += 1;
        self.context.epoch.send_modify(|epoch| *epoch += 1);
        private.kill();
        restart(&self.context, private).await
    }

    /// Reports a server that has ended by itself, and restarts it.
    async fn check_process(&mut self) -> Result<(), Error> {
        let Target::Private(private) = &mut self.target else { return Ok(()) };
        let Some(status) = private.exit_status() else { return Ok(()) };
        self.restarts += 1;
        self.context.epoch.send_modify(|epoch| *epoch += 1);
        self.context.report("end", format!("the service ended by itself: {status}"), "", "");
        restart(&self.context, private).await
    }

    fn resources(&self) -> Option<Resources> {
        let Target::Private(private) = &self.target else { return None };
        Some(Resources::read(private.id(), private.directory()))
    }

    /// Reads the resources of the idle process twice, and reports excesses and growth.
    async fn check_resources(&self, idle: Option<Resources>) -> Vec<Resources> {
        let Some(idle) = idle else { return Vec::new() };
        sleep(SETTLE_TIME).await;
        let first = self.resources().unwrap_or_default();
        sleep(SETTLE_TIME).await;
        let second = self.resources().unwrap_or_default();
        let tasks = u64::try_from(self.context.ledger().all().len()).unwrap_or(u64::MAX);
        for what in Resources::excesses(idle, first, second, tasks) {
            self.context.report("growth", what, "", "");
        }
        vec![idle, first, second]
    }

    fn report(&self, server_version: String, drained: Duration, resources: Vec<Resources>) -> Report {
        let ledger = self.context.ledger();
        let findings = self.context.findings();
        Report {
            version: env!("CARGO_PKG_VERSION"),
            server_version,
            seed: self.settings.seed,
            minutes: self.settings.minutes,
            holds: findings.counts.is_empty(),
            tasks: u64::try_from(ledger.all().len()).unwrap_or(u64::MAX),
            outputs: u64::try_from(ledger.outputs.len()).unwrap_or(u64::MAX),
            kills: self.kills,
            drained_in_seconds: drained.as_secs(),
            requests: findings.requests.clone(),
            resources,
            counts: findings.counts.clone(),
            findings: findings.listed.clone(),
        }
    }
}

async fn restart(context: &Context, private: &mut PrivateServer) -> Result<(), Error> {
    private.restart().await?;
    context.epoch.send_modify(|epoch| *epoch += 1);
    Ok(())
}
