//! One run of the bench, step by step.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use uuid::Uuid;

use super::cleanup::archive;
use super::events::{EventBench, EventFigures};
use super::provenance::{ProvenanceFigures, Records};
use super::report::{Report, ServerInfo, Settings, Verdict, criteria};
use super::tasks::{TaskCounts, Tasks};
use crate::client::segment;
use crate::workload::console::Console;
use crate::workload::error::Error;
use crate::workload::load::{Figures, Pace};
use crate::workload::target::Target;

/// Records on a private server if no number is requested.
const DEFAULT_RECORDS: u64 = 100_000;

/// Options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Pace of the submissions, and of the status queries.
    pub pace: Pace,
    /// Records to import and query; `None` for 100 000 on a private server and for none on
    /// a running one, where records can't be removed.
    pub records: Option<u64>,
    /// Whether progress bars are shown on a terminal.
    pub shows_progress: bool,
}

/// A run of the bench.
#[derive(Debug)]
pub struct Bench {
    target: Target,
    console: Console,
    options: Options,
    /// Project of the tasks under load, and of the records.
    project: String,
    /// Project of the tasks whose events are measured.
    events_project: String,
    records: u64,
}

impl Bench {
    /// Prepares a run. Nothing is sent yet.
    #[must_use]
    pub fn new(target: Target, options: Options, console: Console) -> Self {
        let project = format!("bench-{}", Uuid::now_v7().simple());
        let default = if target.is_private() { DEFAULT_RECORDS } else { 0 };
        Self {
            events_project: format!("{project}-events"),
            project,
            records: options.records.unwrap_or(default),
            target,
            console,
            options,
        }
    }

    /// Measures everything and returns the report.
    pub async fn run(mut self) -> Result<Report, Error> {
        let health = self.target.client().get("/health").await?;
        self.announce();
        let tier = self.idle_tier().await?;
        self.create_projects().await?;
        let tasks = Tasks::new(&self.project, &tier);
        let (submissions, status_queries, events) = self.measure_load(&tasks, &tier).await?;
        let tasks = self.count_tasks(&tasks, &submissions).await?;
        let provenance = self.measure_provenance().await?;
        let left_behind = self.clean_up().await?;
        let queries = provenance.as_ref().ok_or_else(|| self.reason_without_records());
        let criteria = criteria(&submissions, &status_queries, &tasks, &events, queries);
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            server: ServerInfo {
                url: self.target.url().to_owned(),
                is_private: self.target.is_private(),
                version: health.json["version"].as_str().unwrap_or_default().to_owned(),
            },
            settings: self.settings(),
            holds: criteria.iter().all(|each| each.verdict != Verdict::Missed),
            criteria,
            submissions,
            status_queries,
            tasks,
            events,
            provenance,
            left_behind,
        })
    }

    fn settings(&self) -> Settings {
        let pace = self.options.pace;
        Settings {
            seconds: pace.duration.as_secs(),
            connections: pace.connections,
            rate_per_second: pace.per_second,
            records: self.records,
        }
    }

    /// On a running server, tells the user what the bench is about to do there.
    fn announce(&self) {
        if self.target.is_private() {
            return;
        }
        let records = match self.records {
            0 => String::new(),
            count => format!(", and {count} records that can't be removed"),
        };
        let (url, project, requests) = (self.target.url(), &self.project, self.options.pace.requests());
        (self.console.warn)(&format!(
            "works on {url} in projects {project} and {project}-events: {requests} tasks, cancelled at the end{records}"
        ));
    }

    /// Chooses a tier without tasks, leases and a pause if there is one, else the last tier.
    async fn idle_tier(&self) -> Result<String, Error> {
        let answer = self.target.client().get("/queues").await?;
        let queues = answer.json["queues"].as_array().map_or(&[][..], Vec::as_slice);
        let is_idle = |queue: &&Value| queue["depth"] == 0 && queue["leased"] == 0 && queue["paused"] == false;
        let queue = queues.iter().find(is_idle).or(queues.last());
        let tier = queue.and_then(|queue| queue["tier"].as_str());
        tier.map(str::to_owned).ok_or_else(|| Error::Failed("the server has no tier".to_owned()))
    }

    /// Creates the projects. The one under load is paused, so that no worker gets its tasks.
    async fn create_projects(&self) -> Result<(), Error> {
        let client = self.target.client();
        for project in [&self.project, &self.events_project] {
            client.post("/projects", &json!({"project_id": project, "name": "dats bench"})).await?;
        }
        client.post(&format!("/projects/{}/pause", segment(&self.project)), &json!({})).await?;
        Ok(())
    }

    /// Measures submissions, status queries and events at the same time.
    async fn measure_load(&self, tasks: &Tasks, tier: &str) -> Result<(Figures, Figures, EventFigures), Error> {
        let (client, pace) = (self.target.client(), self.options.pace);
        // A status query needs a task; and a refusal of this submission ends the bench at once.
        tasks.submit(client, 0).await?;
        let bar = self.bar("submissions and status queries", 2 * pace.requests());
        let watcher = client.with_new_connections();
        let events = EventBench { sender: client, watcher: &watcher, project: &self.events_project, tier };
        let ((submissions, queries), events) =
            tokio::join!(tasks.load(client, pace, &bar), events.measure(pace.duration));
        bar.finish_and_clear();
        Ok((submissions, queries, events?))
    }

    /// Counts the acknowledged tasks. Before that, a private server is killed under load.
    async fn count_tasks(&mut self, tasks: &Tasks, submissions: &Figures) -> Result<TaskCounts, Error> {
        let mut unanswered = submissions.failed;
        let mut killed = None;
        let connections = self.options.pace.connections;
        if let Target::Private(private) = &mut self.target {
            let report = tasks.kill(private, connections).await?;
            unanswered += report.under_way;
            killed = Some(report);
        }
        let bar = self.bar("looking up acknowledged tasks", 0);
        let counts = tasks.look_up(self.target.client(), connections, &bar).await?;
        bar.finish_and_clear();
        Ok(TaskCounts { unanswered, killed, ..counts })
    }

    async fn measure_provenance(&self) -> Result<Option<ProvenanceFigures>, Error> {
        if self.records == 0 {
            return Ok(None);
        }
        let records = Records { project: self.project.clone(), count: self.records };
        let (importing, asking) = (self.bar("records", self.records), self.bar("provenance queries", 0));
        Ok(Some(records.measure(self.target.client(), &importing, &asking).await?))
    }

    const fn reason_without_records(&self) -> &'static str {
        if self.options.records.is_some() {
            "not requested: --records 0"
        } else {
            "records can't be removed from a server: give their number with --records to measure this"
        }
    }

    /// Cleans up on a running server and returns what stays there.
    async fn clean_up(&self) -> Result<Option<String>, Error> {
        if self.target.is_private() {
            return Ok(None);
        }
        let bar = self.bar("cancelling", 0);
        let mut left = Vec::new();
        for project in [&self.project, &self.events_project] {
            left.extend(archive(self.target.client(), project, self.options.pace.connections, &bar).await?);
        }
        bar.finish_and_clear();
        let project = &self.project;
        if left.is_empty() {
            left.push(format!(
                "left behind: the archived projects {project} and {project}-events, whose ended tasks are removed after \
                 the retention of the server"
            ));
        }
        left.push("the outputs of its event tasks stay as provenance".to_owned());
        if self.records > 0 {
            left.push(format!("{} records, their taint and its clearing can't be removed", self.records));
        }
        Ok(Some(left.join("; ")))
    }

    fn bar(&self, what: &'static str, length: u64) -> ProgressBar {
        let bar = ProgressBar::new(length);
        if !self.options.shows_progress {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{msg:32} {bar:32} {pos}/{len}  {eta} left") {
            bar.set_style(style);
        }
        bar.with_message(what)
    }
}
