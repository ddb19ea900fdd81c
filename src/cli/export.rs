//! `dats export`: the provenance of a server as files of the old program.
//!
//! Everything is read and compared with the files that are there; what is the
//! same is left alone, what is not there any more stays. So running it again
//! finishes what is missing, and whoever reads the files sees whole ones.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::events::event_name;
use super::exit::{Failure, warn};
use super::local::Place;
use super::output::{Format, Screen, line};
use super::session::Session;
use crate::client::Error;
use crate::client::Lines;
use crate::client::SseEvent;
use crate::client::{Follower, RECONNECT_PAUSE};
use crate::legacy::{FolderWriter, Line, Written};

/// How long changes are gathered before they are written.
const GATHERING: Duration = Duration::from_secs(1);
/// Some changes are no events, such as an import: look for them that often.
const PERIOD: Duration = Duration::from_mins(1);
/// What is said of records over HTTP is none either, but the newest entry of
/// the audit trail tells of it: looking at that costs little.
const LOOK: Duration = Duration::from_secs(2);
/// One pass takes at most one part in so many of the server's time.
const SHARE: u32 = 5;
/// A follower bears a server that went away for as long as it takes.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);
/// Events after which all provenance is as it was.
const IDLE_EVENTS: [&str; 3] = ["task.created", "task.ready", "task.cancelled"];

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The directory for the files; made where it is missing.
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// Go on as provenance changes, until Ctrl-C.
    #[arg(long, conflicts_with = "data_dir")]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) place: Place,
}

/// What became of the files.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) records: u64,
    pub(super) taint_events: u64,
    pub(super) checkpoints: u64,
    /// Files that were not there.
    pub(super) created: u64,
    /// Files that had other bytes.
    pub(super) updated: u64,
    /// Files that were left alone.
    pub(super) unchanged: u64,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.follow {
        return follow(session, &arguments.folder).await;
    }
    let report = match arguments.place.open(false)? {
        Some(local) => {
            let report = written(&session.screen, &arguments.folder, local.export()).await;
            local.close().await?;
            report?
        }
        None => pass(session, &arguments.folder).await?,
    };
    show(&session.screen, &report)
}

async fn pass(session: &Session, folder: &Path) -> Result<Report, Failure> {
    let lines = session.client.get_lines("/provenance/export").await?;
    written(&session.screen, folder, lines).await
}

/// Writes lines into a folder, with a sign of life on a terminal.
async fn written(screen: &Screen, folder: &Path, lines: Lines) -> Result<Report, Failure> {
    let bar = ProgressBar::new_spinner();
    if screen.format == Format::Json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let report = export(folder, lines, &bar).await;
    bar.finish_and_clear();
    report
}

/// Writes lines, wherever they come from, into a folder. The lists of taint
/// events and checkpoints are replaced only when all has come.
pub(super) async fn export(folder: &Path, mut lines: Lines, bar: &ProgressBar) -> Result<Report, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("can't write into {}: {error}", folder.display()));
    let mut writer = FolderWriter::open(folder).map_err(failed)?;
    let mut report = Report::default();
    while let Some(text) = lines.recv().await {
        let line = parse(&text?)?;
        report.count(&line);
        if let Some(written) = writer.put(&line).map_err(failed)? {
            report.add(written);
        }
        bar.inc(1);
    }
    let lists = writer.finish().map_err(failed)?;
    for (written, count) in lists.into_iter().zip([report.taint_events, report.checkpoints]) {
        if count > 0 {
            report.add(written);
        }
    }
    Ok(report)
}

fn parse(text: &str) -> Result<Line, Error> {
    Line::parse(text.as_bytes()).map_err(|error| Error::Protocol(format!("a line of the export is none: {error}")))
}

impl Report {
    fn count(&mut self, line: &Line) {
        match line {
            Line::Record(_) => self.records += 1,
            Line::TaintEvent(_) => self.taint_events += 1,
            Line::Checkpoint(_) => self.checkpoints += 1,
        }
    }

    fn add(&mut self, written: Written) {
        match written {
            Written::Created => self.created += 1,
            Written::Updated => self.updated += 1,
            Written::Unchanged => self.unchanged += 1,
        }
    }
}

/// Keeps a folder current. Any event that can have changed provenance, a new
/// entry of the audit trail, and a minute without either lead to another pass
/// over everything: that is simple, and misses nothing, since no change needs
/// to be understood. It costs reading all of it again, of which it takes a
/// limited share of the time.
async fn follow(session: &Session, folder: &Path) -> Result<(), Failure> {
    let mut follower = Follower::new(session.client.clone(), "/events", None, FOR_EVER);
    // From here on nothing is missed, whatever happens during the first pass.
    follower.open().await?;
    let mut trail = newest_entry(session).await;
    let mut began = Instant::now();
    show(&session.screen, &pass(session, folder).await?)?;
    loop {
        sleep(began.elapsed() * (SHARE - 1)).await;
        wait_for_change(session, &mut follower, &mut trail).await?;
        began = Instant::now();
        match pass(session, folder).await {
            Ok(report) if report.created + report.updated > 0 => show(&session.screen, &report)?,
            Ok(_) => {}
            Err(Failure::Unreachable(reason)) => warn(&format!("going on although the server is away: {reason}")),
            Err(failure) => return Err(failure),
        }
    }
}

/// Ends some time after an event or a change of the audit trail, or when it
/// is time to look.
async fn wait_for_change(session: &Session, follower: &mut Follower, trail: &mut Option<Value>) -> Result<(), Failure> {
    tokio::select! {
        told = event_that_counts(follower) => told?,
        () = change_of_trail(session, trail) => {}
        () = sleep(PERIOD) => return Ok(()),
    }
    sleep(GATHERING).await;
    Ok(())
}

async fn event_that_counts(follower: &mut Follower) -> Result<(), Failure> {
    loop {
        if next_event(follower).await?.is_some_and(|event| may_change(&event)) {
            return Ok(());
        }
    }
}

async fn change_of_trail(session: &Session, trail: &mut Option<Value>) {
    loop {
        sleep(LOOK).await;
        let newest = newest_entry(session).await;
        if newest.is_some() && newest != std::mem::replace(trail, newest.clone()) {
            return;
        }
    }
}

/// The newest entry of the audit trail, where it can be had.
async fn newest_entry(session: &Session) -> Option<Value> {
    let answer = session.client.get("/taint-events?limit=1").await.ok()?;
    Some(answer.json["taint_events"][0]["id"].clone())
}

/// The next event; none where the connection ended, and after a pause.
async fn next_event(follower: &mut Follower) -> Result<Option<SseEvent>, Failure> {
    match follower.next().await {
        Ok(Some(event)) => return Ok(Some(event)),
        Ok(None) => {}
        Err(error) if error.is_transient() => {}
        Err(error) => return Err(error.into()),
    }
    sleep(RECONNECT_PAUSE).await;
    Ok(None)
}

fn may_change(event: &SseEvent) -> bool {
    let json: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let name = event_name(&json);
    !IDLE_EVENTS.iter().any(|idle| name == *idle || name.starts_with(&format!("{idle}.")))
}

fn show(screen: &Screen, report: &Report) -> Result<(), Failure> {
    match screen.format {
        Format::Json => line(&json!(report).to_string()),
        Format::Table => line(&format!(
            "{} records, {} taint events, {} checkpoints: {} files created, {} updated, {} unchanged",
            report.records, report.taint_events, report.checkpoints, report.created, report.updated, report.unchanged
        )),
    }
}
