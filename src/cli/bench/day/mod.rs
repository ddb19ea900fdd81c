//! `dats bench --scenario day`: what a day of work does, against a server of its own or
//! a running one, with a ledger of all acknowledgements outside of it.
//!
//! The plan comes from the seed ([`crate::workload::Day`]). Actors carry it out: clients
//! (`submit`), workers (`work`), QA (`qa`), readers (`read`, `streams`) and people who
//! look after provenance (`lineage`). A server of its own is killed (-9) and started
//! again meanwhile. What the day finds is told at once and again at the end: a request
//! without an answer, an answer that contradicts the `ledger`, a server error that the
//! contract does not have, something that does not end, something that still grows.
//!
//! Everything runs on one thread, so that the service has the other core.

mod broker;
mod check;
mod findings;
mod ledger;
mod lineage;
mod qa;
mod read;
mod report;
mod resources;
mod streams;
mod submit;
mod work;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::Server;
use super::private::Private;
use crate::cli::client::Call;
use crate::cli::exit::{Failure, warn};
use crate::cli::output::Screen;
use crate::workload::{Day, Random};
use broker::BrokerHand;
use report::Report;
use resources::Resources;
use streams::Reader;
use work::Hand;
use world::{Stage, World};

/// Clients that submit.
const CLIENTS: u64 = 10;
/// Workers of each tier that has any.
const HANDS: [(&str, u64); 4] = [("tiny", 4), ("small", 12), ("large", 8), ("frontier", 6)];
/// Those that give verdicts.
const QA: u64 = 4;
/// Those that read.
const READERS: u64 = 8;
/// Those that wait for tasks to end.
const WAITERS: u64 = 32;
/// Streams that are open at once.
const STREAMS: u64 = 50;
/// After the work, as long as tasks are left, one must end within this time.
const DRAIN: Duration = Duration::from_mins(1);
/// How long actors may take to see the end.
const LEAVE: Duration = Duration::from_secs(20);
/// Between the looks at a process that has nothing to do.
const SETTLE: Duration = Duration::from_secs(5);
/// With so many requests without an answer, the rest of the day shows nothing more.
const HOPELESS: u64 = 100;
/// How often the process is looked at.
const WATCH: Duration = Duration::from_millis(200);
/// Times that a server which ends by itself is started again.
const RESTARTS: u64 = 5;

pub(super) use broker::settings as broker_settings;

/// What a day is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Where the workers get their tasks from; without it the service leases them.
    pub(super) broker: Option<SocketAddr>,
    pub(super) seed: u64,
    pub(super) minutes: u64,
    /// Times that a server of its own is killed.
    pub(super) kills: u64,
    /// How long anything may take: an answer, or an effect until it is seen everywhere.
    pub(super) patience: Duration,
}

/// Carries out a day and tells its verdict.
pub(super) async fn run(settings: Settings, server: Server, screen: &Screen) -> Result<(), Failure> {
    let health = server.client().get("/health").await?;
    let prefix = format!("day-{}", Uuid::now_v7().simple());
    let length = Duration::from_secs(60 * settings.minutes);
    let day = Day::new(settings.seed, &prefix);
    let world = Arc::new(World::new(day, server.client().clone(), length, settings.patience));
    if !server.is_private() {
        warn(&format!("works on {} in projects {prefix}-…, which stay there", server.url()));
    }
    let mut conductor = Conductor { world, settings, server, kills: 0, restarts: 0 };
    let report = conductor.conduct(&health.text).await?;
    report.conclude(screen)
}

/// Begins and ends the day, and the service.
struct Conductor {
    world: Arc<World>,
    settings: Settings,
    server: Server,
    kills: u64,
    restarts: u64,
}

impl Conductor {
    async fn conduct(&mut self, health: &str) -> Result<Report, Failure> {
        let mut random = Random::new(self.settings.seed);
        self.make_projects().await;
        let idle = self.look();
        let mut actors = self.begin(&mut random);
        self.work(&mut random).await?;
        self.world.stage.send_replace(Stage::Drain);
        let mut drained = Duration::ZERO;
        if !self.is_hopeless() {
            drained = check::drain(&self.world, DRAIN).await;
        }
        self.world.stage.send_replace(Stage::End);
        if timeout(LEAVE, async { while actors.join_next().await.is_some() {} }).await.is_err() {
            self.world.find("liveness", "actors of the day did not come to their end", "", "");
        }
        actors.abort_all();
        if !self.is_hopeless() {
            self.kill().await?;
            check::everything(&self.world, &mut random).await;
            check::too_late(&self.world, &mut random).await;
        }
        let resources = self.settle(idle).await;
        Ok(self.report(health, drained, resources))
    }

    async fn make_projects(&self) {
        for project in &self.world.day.projects {
            let mut body = json!({"project_id": project.id, "name": "a day of dats bench"});
            if let Some(limit) = project.max_concurrent {
                body["max_concurrent"] = json!(limit);
            }
            self.world.ask("project", Call::new(Method::POST, "/projects").json(&body), &[]).await;
        }
    }

    fn begin(&self, random: &mut Random) -> JoinSet<()> {
        let mut actors = JoinSet::new();
        let world = &self.world;
        for _ in 0..CLIENTS {
            actors.spawn(submit::run(Arc::clone(world), random.fork()));
        }
        for (tier, hands) in HANDS {
            for number in 0..hands {
                let id = format!("day-{tier}-{number}");
                let hand = Hand { world: Arc::clone(world), tier, id, random: random.fork() };
                match self.settings.broker {
                    Some(broker) => actors.spawn(BrokerHand { hand, broker }.run()),
                    None => actors.spawn(hand.run()),
                };
            }
        }
        for _ in 0..QA {
            actors.spawn(qa::run(Arc::clone(world), random.fork()));
        }
        for _ in 0..READERS {
            actors.spawn(read::run(Arc::clone(world), random.fork()));
        }
        for _ in 0..WAITERS {
            actors.spawn(read::wait(Arc::clone(world), random.fork()));
        }
        for number in 0..STREAMS {
            actors.spawn(Reader::of(number).run(Arc::clone(world), random.fork()));
        }
        actors.spawn(lineage::run(Arc::clone(world), random.fork()));
        actors
    }

    /// The time of work, with its kills.
    async fn work(&mut self, random: &mut Random) -> Result<(), Failure> {
        let part = self.world.length.checked_div(u32::try_from(self.settings.kills).unwrap_or(u32::MAX).max(1));
        let part = part.unwrap_or(self.world.length);
        let mut next_kill = random.time(part);
        while self.world.now() < self.world.length && !self.is_hopeless() {
            sleep(WATCH).await;
            if self.kills < self.settings.kills && self.world.now() >= next_kill {
                self.kill().await?;
                sleep(random.time(Duration::from_millis(300))).await;
                next_kill += part;
            }
            self.watch().await?;
        }
        Ok(())
    }

    fn is_hopeless(&self) -> bool {
        self.world.findings().counts.get("no answer").is_some_and(|count| *count >= HOPELESS)
            || self.restarts >= RESTARTS
    }

    /// Kills a server of its own with -9 and starts it again.
    async fn kill(&mut self) -> Result<(), Failure> {
        let Server::Private(private) = &mut self.server else { return Ok(()) };
        self.kills += 1;
        self.world.epoch.send_modify(|epoch| *epoch += 1);
        private.kill();
        start_again(&self.world, private).await
    }

    /// A server that has ended by itself is a finding.
    async fn watch(&mut self) -> Result<(), Failure> {
        let Server::Private(private) = &mut self.server else { return Ok(()) };
        let Some(status) = private.ended() else { return Ok(()) };
        self.restarts += 1;
        self.world.epoch.send_modify(|epoch| *epoch += 1);
        self.world.find("end", format!("the service ended by itself: {status}"), "", "");
        start_again(&self.world, private).await
    }

    fn look(&self) -> Option<Resources> {
        let Server::Private(private) = &self.server else { return None };
        Some(Resources::of(private.id(), private.directory()))
    }

    /// Looks twice at a process without work, with some time between.
    async fn settle(&self, idle: Option<Resources>) -> Vec<Resources> {
        let Some(idle) = idle else { return Vec::new() };
        sleep(SETTLE).await;
        let first = self.look().unwrap_or_default();
        sleep(SETTLE).await;
        let second = self.look().unwrap_or_default();
        let tasks = u64::try_from(self.world.ledger().all().len()).unwrap_or(u64::MAX);
        for what in Resources::excess(idle, first, second, tasks) {
            self.world.find("growth", what, "", "");
        }
        vec![idle, first, second]
    }

    fn report(&self, health: &str, drained: Duration, resources: Vec<Resources>) -> Report {
        let health: serde_json::Value = serde_json::from_str(health).unwrap_or_default();
        let ledger = self.world.ledger();
        let findings = self.world.findings();
        Report {
            version: env!("CARGO_PKG_VERSION"),
            server_version: health["version"].as_str().unwrap_or_default().to_owned(),
            seed: self.settings.seed,
            minutes: self.settings.minutes,
            holds: findings.counts.is_empty(),
            tasks: u64::try_from(ledger.all().len()).unwrap_or(u64::MAX),
            outputs: u64::try_from(ledger.outputs.len()).unwrap_or(u64::MAX),
            kills: self.kills,
            drained_in_seconds: drained.as_secs(),
            requests: findings.asked.clone(),
            resources,
            counts: findings.counts.clone(),
            findings: findings.listed.clone(),
        }
    }
}

async fn start_again(world: &World, private: &mut Private) -> Result<(), Failure> {
    private.start_again().await?;
    world.epoch.send_modify(|epoch| *epoch += 1);
    Ok(())
}
