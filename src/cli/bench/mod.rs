//! `dats bench`: the success criteria, against a server of its own or a running
//! one, through its HTTP interface alone.
//!
//! Submissions, status queries and events come at the same time, the first two
//! each at the asked pace. Then a server of its own is killed under load and
//! started again, every acknowledged task is looked up, and questions about
//! provenance are asked. The scenario `day` is another one: see [`day`].

mod day;
mod events;
mod leave;
mod load;
mod pace;
mod private;
mod provenance;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use uuid::Uuid;

use super::client::{Client, segment};
use super::exit::{Failure, warn};
use super::output::{Format, Screen};
use super::signals;
use crate::config::Secret;
use crate::planted;
use events::{Events, Watched};
use load::{Kept, Tasks};
use pace::{Figures, Pace};
use private::{Private, Program};
use provenance::{Provenance, Records};
use report::{Report, Settings, criteria};

/// Records to ask about, unless it is said.
const RECORDS: u64 = 100_000;
/// Fewest and most that can be asked for.
const RECORDS_ALLOWED: std::ops::RangeInclusive<u64> = 10..=1_000_000;

#[derive(Debug, Args)]
#[command(after_help = "Without --url and DATS_URL it starts a server of its own, with the built-in settings and a \
    temporary data directory, and ends it.\nExit code 1 when something falls short.")]
pub(super) struct Arguments {
    /// How long submissions and status queries go on.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Submissions under way at once, at most; as many status queries.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Submissions a second, whatever the answers do; as many status queries.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Records to import and ask about, or 0. Without it 100000 on a server of its own
    /// and 0 on a running one, where they would stay for good.
    #[arg(long, value_parser = records)]
    records: Option<u64>,
    /// What to do: hold the success criteria, or a day of work with everything in it.
    #[arg(long, value_enum, default_value = "criteria")]
    scenario: Scenario,
    /// Seed of the day: the same one gives the same work.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of the day.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Seconds in which the day expects every answer.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    patience: u64,
    /// Times that a server of its own is killed with -9 and started again within the day;
    /// without it twice a minute.
    #[arg(long)]
    kills: Option<u64>,
    /// Program of the server of its own, such as an earlier version; without it this one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Broker (`RabbitMQ`) of the server of its own, with the user guest; the workers of the day are
    /// there, too.
    #[arg(long, value_name = "IP:PORT")]
    broker: Option<SocketAddr>,
    /// Postgres that the server of its own copies to.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

/// What a bench does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The success criteria.
    Criteria,
    /// A day of work, with a ledger outside.
    Day,
}

impl Arguments {
    fn program(&self) -> Program {
        // A fault that is planted is one of the server, too.
        let mut environment: Vec<(&'static str, String)> = planted::environment().into_iter().collect();
        environment.extend(self.broker.map(day::broker_settings).unwrap_or_default());
        environment.extend(self.database.clone().map(|url| ("DATABASE_URL", url)));
        Program { path: self.program.clone(), environment }
    }
}

fn records(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count == 0 || RECORDS_ALLOWED.contains(count));
    count
        .ok_or_else(|| format!("expected 0, or a number from {} to {}", RECORDS_ALLOWED.start(), RECORDS_ALLOWED.end()))
}

pub(super) fn run(
    arguments: &Arguments,
    url: Option<&str>,
    api_key: Option<&Secret>,
    screen: &Screen,
) -> Result<(), Failure> {
    // What it starts is ended where this is dropped, by Ctrl-C too.
    signals::block_on(async {
        let server = match url {
            Some(url) => {
                let client = Client::new(url, api_key).map_err(Failure::Usage)?;
                Server::Running { url: url.to_owned(), client }
            }
            None => Server::Private(Private::start(arguments.program()).await?),
        };
        if arguments.scenario == Scenario::Day {
            let kills = arguments.kills.unwrap_or(2 * arguments.minutes);
            let (seed, minutes) = (arguments.seed, arguments.minutes);
            let patience = Duration::from_secs(arguments.patience);
            let settings = day::Settings { broker: arguments.broker, seed, minutes, kills, patience };
            return day::run(settings, server, screen).await;
        }
        let report = Bench::new(arguments, server, *screen).run().await?;
        report.conclude(screen)
    })
}

/// The server to be asked.
enum Server {
    Private(Private),
    Running { url: String, client: Client },
}

impl Server {
    const fn client(&self) -> &Client {
        match self {
            Self::Private(private) => &private.client,
            Self::Running { client, .. } => client,
        }
    }

    fn url(&self) -> &str {
        match self {
            Self::Private(private) => &private.url,
            Self::Running { url, .. } => url,
        }
    }

    const fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }
}

/// A run, step by step.
struct Bench {
    server: Server,
    screen: Screen,
    /// Of the tasks under load, and of the records.
    project: String,
    /// Of the tasks that live their lives.
    events_project: String,
    pace: Pace,
    records: u64,
    /// Whether the number of records was given.
    is_asked: bool,
}

impl Bench {
    fn new(arguments: &Arguments, server: Server, screen: Screen) -> Self {
        let project = format!("bench-{}", Uuid::now_v7().simple());
        let pace = Pace {
            per_second: arguments.rate,
            duration: Duration::from_secs(arguments.seconds),
            connections: arguments.connections,
        };
        let usual = if server.is_private() { RECORDS } else { 0 };
        Self {
            screen,
            events_project: format!("{project}-events"),
            project,
            pace,
            records: arguments.records.unwrap_or(usual),
            is_asked: arguments.records.is_some(),
            server,
        }
    }

    async fn run(mut self) -> Result<Report, Failure> {
        let health = self.server.client().get("/health").await?;
        self.announce();
        let tier = self.tier().await?;
        self.make_projects().await?;
        let tasks = Tasks::new(&self.project, &tier);
        let (submissions, status_queries, events) = self.load(&tasks, &tier).await?;
        let kept = self.count(&tasks, &submissions).await?;
        let provenance = self.ask().await?;
        let left_behind = self.leave().await?;
        let asked = provenance.as_ref().ok_or_else(|| self.not_asked());
        let criteria = criteria(&submissions, &status_queries, &kept, &events, asked);
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            server: report::Server {
                url: self.server.url().to_owned(),
                is_private: self.server.is_private(),
                version: health.json["version"].as_str().unwrap_or_default().to_owned(),
            },
            settings: self.settings(),
            holds: criteria.iter().all(|each| each.verdict != report::Verdict::FallsShort),
            criteria,
            submissions,
            status_queries,
            tasks: kept,
            events,
            provenance,
            left_behind,
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            seconds: self.pace.duration.as_secs(),
            connections: self.pace.connections,
            rate_per_second: self.pace.per_second,
            records: self.records,
        }
    }

    /// Says on a server that goes on what it is about to do there.
    fn announce(&self) {
        if self.server.is_private() {
            return;
        }
        let records = match self.records {
            0 => String::new(),
            count => format!(", and {count} records that stay for good"),
        };
        let (url, project, requests) = (self.server.url(), &self.project, self.pace.requests());
        warn(&format!(
            "works on {url} in projects {project} and {project}-events: {requests} tasks, cancelled at the end{records}"
        ));
    }

    /// A tier that nobody seems to work for or wait on.
    async fn tier(&self) -> Result<String, Failure> {
        let answer = self.server.client().get("/queues").await?;
        let queues = answer.json["queues"].as_array().map_or(&[][..], Vec::as_slice);
        let is_idle =
            |queue: &&serde_json::Value| queue["depth"] == 0 && queue["leased"] == 0 && queue["paused"] == false;
        let queue = queues.iter().find(is_idle).or(queues.last());
        let tier = queue.and_then(|queue| queue["tier"].as_str());
        tier.map(str::to_owned).ok_or_else(|| Failure::Failed("the server has no tier".to_owned()))
    }

    /// The tasks under load are held back by a pause: no worker gets to see them.
    async fn make_projects(&self) -> Result<(), Failure> {
        let client = self.server.client();
        for project in [&self.project, &self.events_project] {
            client.post("/projects", &json!({"project_id": project, "name": "dats bench"})).await?;
        }
        client.post(&format!("/projects/{}/pause", segment(&self.project)), &json!({})).await?;
        Ok(())
    }

    /// Submissions, status queries and events at the same time.
    async fn load(&self, tasks: &Tasks, tier: &str) -> Result<(Figures, Figures, Events), Failure> {
        let client = self.server.client();
        // A status query needs a task; and what is refused here is refused at once.
        tasks.clone().submit(client.clone(), 0).await?;
        let bar = self.bar("submissions and status queries", 2 * self.pace.requests());
        let watcher = client.with_new_connections();
        let lives = Watched { sender: client, watcher: &watcher, project: &self.events_project, tier };
        let load = tasks.load(client, self.pace, &bar);
        let (loaded, events) = tokio::join!(load, lives.measure(self.pace.duration));
        bar.finish_and_clear();
        let (submissions, status_queries) = loaded?;
        Ok((submissions, status_queries, events?))
    }

    /// Counts what was acknowledged; before that, a server of its own is killed.
    async fn count(&mut self, tasks: &Tasks, submissions: &Figures) -> Result<Kept, Failure> {
        let mut unanswered = submissions.failed;
        let mut killed = None;
        if let Server::Private(private) = &mut self.server {
            let of_the_kill = tasks.kill(private, self.pace.connections).await?;
            unanswered += of_the_kill.under_way;
            killed = Some(of_the_kill);
        }
        let bar = self.bar("looking up what was acknowledged", 0);
        let kept = tasks.look_up(self.server.client(), self.pace.connections, &bar).await?;
        bar.finish_and_clear();
        Ok(Kept { unanswered, killed, ..kept })
    }

    async fn ask(&self) -> Result<Option<Provenance>, Failure> {
        if self.records == 0 {
            return Ok(None);
        }
        let records = Records { project: self.project.clone(), count: self.records };
        let (importing, asking) = (self.bar("records", self.records), self.bar("questions about them", 0));
        Ok(Some(records.measure(self.server.client(), &importing, &asking).await?))
    }

    fn not_asked(&self) -> &'static str {
        if self.is_asked {
            "not asked for: --records 0"
        } else {
            "records stay on a server for good: name their number with --records to have it done"
        }
    }

    /// Cleans up on a server that goes on; what stays there.
    async fn leave(&self) -> Result<Option<String>, Failure> {
        if self.server.is_private() {
            return Ok(None);
        }
        let bar = self.bar("cancelling", 0);
        let mut left = Vec::new();
        for project in [&self.project, &self.events_project] {
            left.extend(leave::archive(self.server.client(), project, self.pace.connections, &bar).await?);
        }
        bar.finish_and_clear();
        let project = &self.project;
        if left.is_empty() {
            left.push(format!(
                "left behind: the archived projects {project} and {project}-events with ended tasks, which go with the \
                 retention of the server"
            ));
        }
        left.push("what its tasks for events put out stays as provenance".to_owned());
        if self.records > 0 {
            left.push(format!("{} records, their taint and its clearing stay for good", self.records));
        }
        Ok(Some(left.join("; ")))
    }

    /// A bar on a terminal, for people.
    fn bar(&self, what: &'static str, length: u64) -> ProgressBar {
        let bar = ProgressBar::new(length);
        if self.screen.format == Format::Json {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{msg:32} {bar:32} {pos}/{len}  {eta} left") {
            bar.set_style(style);
        }
        bar.with_message(what)
    }
}
