//! `dats export`: writes the provenance of a server as files of the old program.
//!
//! All provenance is read and compared with the existing files. Equal files are left alone,
//! and files are never removed. So a repeated run completes an interrupted one, and readers
//! of the directory only see complete files.

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
use super::local::StoreArguments;
use super::output::{Format, Screen, line};
use super::session::Session;
use crate::client::Error;
use crate::client::Lines;
use crate::client::SseEvent;
use crate::client::{Follower, RECONNECT_PAUSE};
use crate::legacy::{FolderWriter, Line, Written};

/// How long changes are collected before a pass.
const COLLECT_TIME: Duration = Duration::from_secs(1);
/// Longest time between two passes, because some changes, such as imports, publish no event.
const PASS_INTERVAL: Duration = Duration::from_mins(1);
/// How often the newest entry of the audit trail is read. Taints and clears over HTTP publish
/// no event, but add an entry.
const TRAIL_POLL: Duration = Duration::from_secs(2);
/// Passes take at most one part in this many of the time.
const PASS_SHARE: u32 = 5;
/// How long an unreachable server is retried: practically without a limit.
const PATIENCE: Duration = Duration::from_hours(24 * 365);
/// Events that do not change provenance.
const UNRELATED_EVENTS: [&str; 3] = ["task.created", "task.ready", "task.cancelled"];

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dats export ./provenance\n  dats export ./provenance --follow")]
pub(super) struct Arguments {
    /// Directory for the files, which is created if missing.
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// Export again whenever provenance changes, until Ctrl-C.
    #[arg(long, conflicts_with = "data_dir")]
    pub(super) follow: bool,
    #[command(flatten)]
    pub(super) store: StoreArguments,
}

/// Counts of an export.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) records: u64,
    pub(super) taint_events: u64,
    pub(super) checkpoints: u64,
    /// Files that did not exist.
    pub(super) created: u64,
    /// Files whose content differed.
    pub(super) updated: u64,
    /// Files that were equal.
    pub(super) unchanged: u64,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.follow {
        return follow(session, &arguments.folder).await;
    }
    let report = match arguments.store.open(false)? {
        Some(local) => {
            let report = export_with_spinner(&session.screen, &arguments.folder, local.export()).await;
            local.close().await?;
            report?
        }
        None => pass(session, &arguments.folder).await?,
    };
    show(&session.screen, &report)
}

async fn pass(session: &Session, folder: &Path) -> Result<Report, Failure> {
    let lines = session.client.get_lines("/provenance/export").await?;
    export_with_spinner(&session.screen, folder, lines).await
}

/// Writes lines into a folder and shows a spinner on a terminal.
async fn export_with_spinner(screen: &Screen, folder: &Path, lines: Lines) -> Result<Report, Failure> {
    let bar = ProgressBar::new_spinner();
    if screen.format == Format::Json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let report = export(folder, lines, &bar).await;
    bar.finish_and_clear();
    report
}

/// Writes lines from a server or a store into a folder. The lists of taint events and
/// checkpoints are replaced only after the last line.
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
    Line::parse(text.as_bytes()).map_err(|error| Error::Protocol(format!("a line of the export is invalid: {error}")))
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

/// Keeps a folder current. An event that may have changed provenance, a new entry of the
/// audit trail, or a minute without either starts another pass over all provenance. That
/// needs no knowledge of the changes, so it misses none; the passes are limited to a share of
/// the time.
async fn follow(session: &Session, folder: &Path) -> Result<(), Failure> {
    let mut follower = Follower::new(session.client.clone(), "/events", None, PATIENCE);
    // The stream is open before the first pass, so that no change during it is missed.
    follower.open().await?;
    let mut trail = newest_entry(session).await;
    let mut began = Instant::now();
    show(&session.screen, &pass(session, folder).await?)?;
    loop {
        sleep(began.elapsed() * (PASS_SHARE - 1)).await;
        wait_for_change(session, &mut follower, &mut trail).await?;
        began = Instant::now();
        match pass(session, folder).await {
            Ok(report) if report.created + report.updated > 0 => show(&session.screen, &report)?,
            Ok(_) => {}
            Err(Failure::Unreachable(reason)) => {
                warn(&format!("continuing although the server is unreachable: {reason}"));
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Waits for an event, a change of the audit trail, or the end of the interval.
async fn wait_for_change(session: &Session, follower: &mut Follower, trail: &mut Option<Value>) -> Result<(), Failure> {
    tokio::select! {
        received = related_event(follower) => received?,
        () = trail_change(session, trail) => {}
        () = sleep(PASS_INTERVAL) => return Ok(()),
    }
    sleep(COLLECT_TIME).await;
    Ok(())
}

/// Waits for an event that may have changed provenance.
async fn related_event(follower: &mut Follower) -> Result<(), Failure> {
    loop {
        if next_event(follower).await?.is_some_and(|event| may_change(&event)) {
            return Ok(());
        }
    }
}

/// Waits for a new entry of the audit trail.
async fn trail_change(session: &Session, trail: &mut Option<Value>) {
    loop {
        sleep(TRAIL_POLL).await;
        let newest = newest_entry(session).await;
        if newest.is_some() && newest != std::mem::replace(trail, newest.clone()) {
            return;
        }
    }
}

/// Returns the id of the newest entry of the audit trail; `None` if it can't be read.
async fn newest_entry(session: &Session) -> Option<Value> {
    let answer = session.client.get("/taint-events?limit=1").await.ok()?;
    Some(answer.json["taint_events"][0]["id"].clone())
}

/// Waits for the next event; `None` after a pause if the connection ended.
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

/// Returns whether an event may have changed provenance.
fn may_change(event: &SseEvent) -> bool {
    let json: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let name = event_name(&json);
    !UNRELATED_EVENTS.iter().any(|each| name == *each || name.starts_with(&format!("{each}.")))
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
