//! `dats import`: imports the files of the old program into a server.
//!
//! A thread converts the files to lines, and the server answers each line with a result.
//! Bounded channels keep the reader and the server in step. An unreadable file is reported,
//! and the others are imported.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use comfy_table::Cell;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::exit::Failure;
use super::local::StoreArguments;
use super::output::{Format, Screen, line};
use super::session::Session;
use crate::client::Error;
use crate::client::Lines;
use crate::json::{minify, quoted};
use crate::legacy::{Bad, Folder, Found};

/// Bytes of lines in one chunk of the request.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks that may wait to be sent.
const MAX_WAITING_CHUNKS: usize = 8;
/// Most entries in the report, of unreadable and of refused ones each; further ones are only
/// counted.
const MAX_LISTED: usize = 10_000;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  dats import /var/lib/old/provenance\n  dats import /var/lib/old/provenance --data-dir ./data"
)]
pub(super) struct Arguments {
    /// Directory with the files.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    store: StoreArguments,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let shown = arguments.folder.display();
    let folder =
        Folder::open(&arguments.folder).map_err(|error| Failure::Usage(format!("can't read {shown}: {error}")))?;
    let bar = progress(&session.screen);
    let report = if let Some(local) = arguments.store.open(true)? {
        let report = import(folder, bar, async |chunks| Ok(local.import(chunks))).await;
        local.close().await?;
        report?
    } else {
        let exchange = async |chunks| Ok(session.client.exchange_lines("/provenance/import", chunks).await?);
        import(folder, bar, exchange).await?
    };
    show(&session.screen, &report)?;
    match report.failed() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("{count} entries in {shown} were not imported"))),
    }
}

/// The report of an import.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) summary: Summary,
    /// Entries that were not imported, with the reasons.
    pub(super) bad: Vec<Entry>,
    /// Number of entries that were not imported and are not listed.
    pub(super) unlisted: u64,
}

/// Counts of an import.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    /// Files in the directory.
    pub(super) files: u64,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) unchanged: u64,
    /// Entries that the server refused.
    pub(super) refused: u64,
    /// Files and elements of files that could not be read.
    pub(super) unreadable: u64,
    /// Records that are suspect because of their dependencies, and were not before.
    pub(super) newly_suspect: Option<u64>,
    /// Records that were marked suspect, and are not because of their dependencies.
    pub(super) no_longer_suspect: Option<u64>,
}

/// An entry that was not imported.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) file: String,
    /// Offset in the file, in bytes.
    pub(super) offset: u64,
    pub(super) kind: Option<String>,
    pub(super) id: Option<String>,
    /// Stable name of the reason.
    pub(super) reason: String,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) cycle: Value,
}

impl Report {
    fn failed(&self) -> u64 {
        self.summary.refused + self.summary.unreadable
    }
}

/// Imports a folder over a transport, which takes chunks of whole lines and returns one
/// result for each line, in order.
pub(super) async fn import<T>(folder: Folder, bar: ProgressBar, transport: T) -> Result<Report, Failure>
where
    T: AsyncFnOnce(mpsc::Receiver<Bytes>) -> Result<Lines, Failure>,
{
    let files = u64::try_from(folder.file_count()).unwrap_or(u64::MAX);
    bar.set_length(files);
    let (sender, chunks) = mpsc::channel(MAX_WAITING_CHUNKS);
    let reading = bar.clone();
    let reader = tokio::task::spawn_blocking(move || read(&folder, &sender, &reading));
    let results = match transport(chunks).await {
        Ok(lines) => take_results(lines).await,
        Err(failure) => Err(failure),
    };
    bar.finish_and_clear();
    // On a failure the reader ends by itself, because its channel is closed.
    let results = results?;
    let read = reader.await.map_err(|error| Failure::Failed(format!("can't read the files: {error}")))?;
    let summary = Summary { files, refused: results.count, unreadable: read.unreadable, ..results.summary };
    let refused = results.refused.into_iter().map(|outcome| refusal(outcome, &read));
    let bad: Vec<Entry> = read.bad.iter().map(unreadable).chain(refused).collect();
    let mut report = Report { summary, bad, unlisted: 0 };
    report.unlisted = report.failed().saturating_sub(u64::try_from(report.bad.len()).unwrap_or(u64::MAX));
    Ok(report)
}

/// The result of the reading thread.
#[derive(Debug, Default)]
struct Read {
    /// Names of the files with lines.
    files: Vec<String>,
    /// Source of each line. There may be a million lines.
    sources: Vec<Source>,
    bad: Vec<Bad>,
    unreadable: u64,
}

/// The place of a line's object.
#[derive(Debug, Clone, Copy)]
struct Source {
    /// Index of the file in `files`.
    file: u32,
    /// Offset of the object in the file, in bytes.
    offset: u64,
}

/// Sends the objects of a folder, until the end or until the receiver is dropped.
fn read(folder: &Folder, chunks: &mpsc::Sender<Bytes>, bar: &ProgressBar) -> Read {
    let mut read = Read::default();
    let mut chunk = Vec::new();
    let mut entries = folder.entries();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(found) => {
                read.add(&found);
                chunk.extend_from_slice(minify(&String::from_utf8_lossy(&found.raw)).as_bytes());
                chunk.push(b'\n');
            }
            Err(bad) => {
                read.unreadable += 1;
                if read.bad.len() < MAX_LISTED {
                    read.bad.push(bad);
                }
            }
        }
        bar.set_position(u64::try_from(entries.files_read()).unwrap_or(u64::MAX));
        if chunk.len() >= CHUNK_BYTES && chunks.blocking_send(Bytes::from(std::mem::take(&mut chunk))).is_err() {
            return read;
        }
    }
    if !chunk.is_empty() {
        // If the receiver is gone, the transport reports why.
        let _ = chunks.blocking_send(Bytes::from(chunk));
    }
    read
}

impl Read {
    fn add(&mut self, found: &Found) {
        if self.files.last() != Some(&found.file) {
            self.files.push(found.file.clone());
        }
        let file = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
        self.sources.push(Source { file, offset: found.offset });
    }

    /// Returns the file of a line, whose number begins at 1, and the offset in it.
    fn source(&self, line: u64) -> Option<(&str, u64)> {
        let index = usize::try_from(line.checked_sub(1)?).ok()?;
        let source = self.sources.get(index)?;
        Some((self.files.get(usize::try_from(source.file).ok()?)?, source.offset))
    }
}

/// A line of the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LineResult {
    line: u64,
    kind: Option<String>,
    id: Option<String>,
    outcome: String,
    reason: Option<String>,
    message: Option<String>,
    cycle: Value,
    summary: Option<Summary>,
    error: Option<Interruption>,
}

/// Why the server stopped an import.
#[derive(Debug, Deserialize)]
struct Interruption {
    code: String,
    detail: String,
}

/// The complete answer.
struct Results {
    summary: Summary,
    refused: Vec<LineResult>,
    /// Number of refused lines, listed or not.
    count: u64,
}

async fn take_results(mut lines: Lines) -> Result<Results, Failure> {
    let (mut refused, mut count) = (Vec::new(), 0);
    while let Some(text) = lines.recv().await {
        let text = text?;
        let outcome: LineResult = serde_json::from_str(&text)
            .map_err(|error| Error::Protocol(format!("{} is not the result of a line: {error}", quoted(&text))))?;
        if let Some(Interruption { code, detail }) = outcome.error {
            let text = format!("the import stopped: {detail} ({code}); imported entries stay: run it again");
            return Err(Failure::Failed(text));
        }
        if let Some(summary) = outcome.summary {
            return Ok(Results { summary, refused, count });
        }
        if outcome.outcome == "refused" {
            count += 1;
            if refused.len() < MAX_LISTED {
                refused.push(outcome);
            }
        }
    }
    Err(Failure::Failed("the answer ended before the import; imported entries stay: run it again".to_owned()))
}

fn unreadable(bad: &Bad) -> Entry {
    let invalid = &bad.invalid;
    let (kind, id, cycle) = (None, None, Value::Null);
    let field = if invalid.pointer.is_empty() { String::new() } else { format!("{} ", invalid.pointer) };
    let message = format!("{field}{}", invalid.message);
    Entry {
        file: bad.file.clone(),
        offset: invalid.offset,
        kind,
        id,
        reason: invalid.reason.as_str().to_owned(),
        message,
        cycle,
    }
}

fn refusal(outcome: LineResult, read: &Read) -> Entry {
    let (file, offset) = read.source(outcome.line).unwrap_or(("-", 0));
    let message = outcome.message.unwrap_or_else(|| "the server gave no reason".to_owned());
    let reason = outcome.reason.unwrap_or_else(|| "refused".to_owned());
    let (file, kind, id, cycle) = (file.to_owned(), outcome.kind, outcome.id, outcome.cycle);
    Entry { file, offset, kind, id, reason, message, cycle }
}

/// Returns a progress bar, hidden for JSON output.
fn progress(screen: &Screen) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if screen.format == Format::Json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} files  {per_sec}  {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn show(screen: &Screen, report: &Report) -> Result<(), Failure> {
    if screen.format == Format::Json {
        return line(&json!(report).to_string());
    }
    if !report.bad.is_empty() {
        let row = |entry: &Entry| {
            vec![Cell::new(&entry.file), Cell::new(entry.offset), Cell::new(&entry.reason), Cell::new(one_line(entry))]
        };
        let rows = report.bad.iter().map(row).collect();
        line(&screen.table(&["FILE", "BYTE", "REASON", "WHAT IS WRONG"], rows, &[]))?;
        if report.unlisted > 0 {
            line(&format!("and {} more", report.unlisted))?;
        }
        line("")?;
    }
    line(&screen.details(&json!(report.summary), &["files"]))
}

/// Returns the message of an entry in one line, with the records of a cycle.
fn one_line(entry: &Entry) -> String {
    let ids: Vec<&str> = entry.cycle.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let cycle = if ids.is_empty() { String::new() } else { format!(": {}", ids.join(" -> ")) };
    format!("{}{cycle}", entry.message).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
