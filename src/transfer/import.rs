//! Imports lines and answers each with a result, in order. Records that would close a cycle are
//! held until all other lines have been read.
//!
//! The import is a pipeline of three stages: one task splits the input into lines, blocking threads
//! parse them, and the engine commits them. Each stage is at most one group ahead of the next.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::answer_lines::{Answers, error_line, failure, write};
use super::budget::ImportBudget;
use super::causes::Causes;
use super::checkpoint;
use super::lines::{Cutter, MAX_LINE_BYTES, RawLine};
use super::manual_marks::{ManualEntry, ManualMarks};
use super::outcome::{LineResult, Summary};
use super::own::OwnTrail;
use super::record::{to_json, to_stored};
use crate::engine::{Engine, Error, Import, ImportOutcome, ImportRefusal, ImportResult};
use crate::legacy::{Invalid, Kind, Line, digest};
use crate::lineage::{Flag, Graph};
use crate::store::{Checkpoint, ImportedEvent, Record};
use crate::task::RecordId;

/// Maximum number of lines per commit.
const GROUP_LINES: usize = 256;
/// Approximate number of bytes collected before they are parsed.
const GROUP_BYTES: usize = 256 << 10;
/// Maximum number of records, of each kind, whose suspicion is checked at the end.
const MAX_SUSPECTS: usize = 100_000;
/// Maximum number of records held because they would close a cycle, and the number of rounds in
/// which they are retried.
const MAX_HELD: usize = 1000;
const MAX_ROUNDS: usize = 20;
/// Maximum size in bytes of the lines of held records.
const MAX_HELD_BYTES: usize = 8 << 20;
/// Pause before a retry when the writer's queue is full.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A chunk of the input; an error ends the input early and gives the reason.
pub type Chunk = Result<Bytes, String>;

/// Imports lines until the input ends, and writes the results as NDJSON with a summary at the end.
/// A line with a result is durable. Output that ends without a summary ends with an error line.
pub async fn import(
    engine: &Engine,
    budget: &ImportBudget,
    chunks: mpsc::Receiver<Chunk>,
    results: mpsc::Sender<Bytes>,
) {
    let (sender, mut groups) = mpsc::channel(1);
    let reading = tokio::spawn(read(chunks, budget.clone(), sender));
    let mut session = Session {
        engine,
        summary: Summary::default(),
        stated: FlaggedRecords::default(),
        unstated: FlaggedRecords::default(),
        held: Vec::new(),
        held_bytes: 0,
        marks: ManualMarks::default(),
        trail: OwnTrail::default(),
    };
    while let Some(group) = groups.recv().await {
        let (text, failed) = match group {
            // The permit is released before the results are sent.
            Ok((group, _share)) => session.take(group).await,
            Err(reason) => (error_line("interrupted", &reason), true),
        };
        if results.send(text.into()).await.is_err() || failed {
            reading.abort();
            return;
        }
    }
    let (mut text, failed) = session.take_held().await;
    if !failed {
        text.extend(match session.apply_marks().await {
            Ok(()) => session.summary(),
            Err(error) => failure(&error),
        });
    }
    // The client may have disconnected.
    let _ = results.send(text.into()).await;
}

/// A parsed line.
#[derive(Debug)]
struct Parsed {
    number: u64,
    /// Length of the line in bytes.
    bytes: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    TooLong,
    Invalid(Invalid),
    Item { kind: Kind, id: String, item: Import, heard: Option<ManualEntry> },
    Unusable { reason: &'static str, message: String },
}

/// Parsed lines with their share of the budget; an error ends the input.
type Group = Result<(Vec<Parsed>, Option<OwnedSemaphorePermit>), String>;

/// Splits the input into lines and parses them group by group.
async fn read(mut chunks: mpsc::Receiver<Chunk>, budget: ImportBudget, groups: mpsc::Sender<Group>) {
    let (mut cutter, mut lines) = (Cutter::default(), VecDeque::new());
    loop {
        let next = gather(&mut chunks, &mut cutter, &mut lines).await;
        let ended = !matches!(next, Ok(true));
        while !lines.is_empty() {
            let group: Vec<RawLine> = lines.drain(..lines.len().min(GROUP_LINES)).collect();
            let share = budget.share(group.iter().map(RawLine::bytes).sum()).await;
            let parsed = tokio::task::spawn_blocking(move || group.into_iter().map(parse).collect::<Vec<_>>()).await;
            let parsed = parsed.map(|parsed| (parsed, share)).map_err(|_| "a line could not be parsed".to_owned());
            let failed = parsed.is_err();
            if groups.send(parsed).await.is_err() || failed {
                return;
            }
        }
        if let Err(reason) = next {
            // A closed channel means that the import has ended.
            let _ = groups.send(Err(reason)).await;
        }
        if ended {
            return;
        }
    }
}

/// Takes a chunk and all others that are ready. Returns `false` at the end of the input.
async fn gather(
    chunks: &mut mpsc::Receiver<Chunk>,
    cutter: &mut Cutter,
    lines: &mut VecDeque<RawLine>,
) -> Result<bool, String> {
    let mut next = chunks.recv().await;
    let (mut gathered, mut cut) = (0, Vec::new());
    loop {
        match next {
            None => {
                cut.extend(cutter.end());
                lines.extend(cut);
                return Ok(false);
            }
            Some(Err(reason)) => {
                lines.extend(cut);
                return Err(reason);
            }
            Some(Ok(chunk)) => {
                gathered += chunk.len();
                cutter.push(&chunk, &mut cut);
            }
        }
        if gathered >= GROUP_BYTES {
            break;
        }
        next = match chunks.try_recv() {
            Ok(chunk) => Some(chunk),
            Err(mpsc::error::TryRecvError::Empty) => break,
            Err(mpsc::error::TryRecvError::Disconnected) => None,
        };
    }
    lines.extend(cut);
    Ok(true)
}

fn parse(line: RawLine) -> Parsed {
    let bytes = line.bytes();
    let content = match line.text {
        None => Content::TooLong,
        Some(text) => match Line::parse(&text) {
            Err(invalid) => Content::Invalid(invalid),
            Ok(line) => content(line),
        },
    };
    Parsed { number: line.number, bytes, content }
}

fn content(line: Line) -> Content {
    let (kind, id) = (line.kind(), line.id());
    match line {
        Line::Record(mut record) => {
            let original = record.original.take().unwrap_or_default();
            Content::Item { kind, id, item: Import::Record(Box::new(to_stored(*record, &original))), heard: None }
        }
        Line::TaintEvent(event) => {
            let heard = ManualEntry::of(&event);
            let original = event.original.unwrap_or_default();
            let event = ImportedEvent {
                id: event.id,
                artifact: event.artifact,
                record: event.record,
                cascade: event.cascade,
                digest: digest(&original),
                original: Value::Object(original).to_string(),
            };
            Content::Item { kind, id, item: Import::Event(Box::new(event)), heard }
        }
        Line::Checkpoint(mut checkpoint) => {
            let original = checkpoint.original.take().unwrap_or_default();
            match checkpoint::to_stored(*checkpoint, original) {
                Ok(checkpoint) => {
                    Content::Item { kind, id, item: Import::Checkpoint(Box::new(checkpoint)), heard: None }
                }
                Err(error) => Content::Unusable { reason: "bad_value", message: format!("/id {error}, was {id:?}") },
            }
        }
    }
}

/// The state of one import.
struct Session<'a> {
    engine: &'a Engine,
    summary: Summary,
    /// Records that their lines call suspect.
    stated: FlaggedRecords,
    /// Records that became suspect although their lines do not say so.
    unstated: FlaggedRecords,
    /// Records that would close a cycle at the moment.
    held: Vec<PendingItem>,
    /// Size of their lines in bytes.
    held_bytes: usize,
    /// Manual marks and clears.
    marks: ManualMarks,
    /// Lookup of entries of this store's own trail.
    trail: OwnTrail,
}

/// Records to check at the end.
#[derive(Debug, Default)]
struct FlaggedRecords {
    records: HashSet<RecordId>,
    too_many: bool,
}

impl FlaggedRecords {
    fn add(&mut self, record: RecordId) {
        self.records.insert(record);
        if self.records.len() > MAX_SUSPECTS {
            self.too_many = true;
            self.records = HashSet::new();
        }
    }

    /// Counts the records with a flag; `None` if there were too many to check.
    fn count(&self, graph: &Graph, flag: Flag) -> Option<u64> {
        let known = self.records.iter().filter_map(|id| graph.find(*id).and_then(|node| graph.record(node)));
        let count = known.filter(|known| known.flag == flag).count();
        (!self.too_many).then(|| u64::try_from(count).unwrap_or(u64::MAX))
    }
}

/// An item for the engine, with the line that it came from.
#[derive(Debug)]
struct PendingItem {
    number: u64,
    kind: Kind,
    id: String,
    /// Length of the line in bytes.
    bytes: usize,
    item: Import,
}

impl Session<'_> {
    /// Imports a group. Returns its results, and whether the import ends with it.
    async fn take(&mut self, group: Vec<Parsed>) -> (Vec<u8>, bool) {
        let (mut answers, mut sent) = (Answers::default(), Vec::new());
        let known = ImportResult::from(ImportOutcome::Unchanged);
        for Parsed { number, bytes, content } in group {
            self.summary.lines += 1;
            match content {
                Content::Item { kind, id, item, heard } => {
                    match self.is_own_event(&item).await {
                        Ok(false) => {}
                        Ok(true) => {
                            self.summary.add(&known.outcome);
                            answers.add(number, &LineResult::new((number, kind, &id), None, &known));
                            continue;
                        }
                        Err(error) => return ([answers.text(), failure(&error)].concat(), true),
                    }
                    if let Some(heard) = heard {
                        self.marks.add(heard);
                    }
                    sent.push(PendingItem { number, kind, id, bytes, item });
                }
                other => {
                    self.summary.refused += 1;
                    answers.add(number, &refused(number, &other));
                }
            }
        }
        let sent = self.send(sent, true, &mut answers).await;
        let mut text = answers.text();
        let failed = sent.as_ref().err().map(failure);
        text.extend(failed.iter().flatten());
        for sent in sent.unwrap_or_default() {
            self.held_bytes += sent.bytes;
            self.held.push(sent);
        }
        (text, failed.is_some())
    }

    /// Imports the items and writes their results. Returns the records that would close a cycle, as
    /// long as there is room to hold them, because edges depend on records that may follow.
    async fn send(
        &mut self,
        sent: Vec<PendingItem>,
        may_wait: bool,
        answers: &mut Answers,
    ) -> Result<Vec<PendingItem>, Error> {
        let (abouts, items): (Vec<_>, Vec<_>) = sent
            .into_iter()
            .map(|PendingItem { number, kind, id, bytes, item }| ((number, kind, id, bytes), item))
            .unzip();
        let items = Arc::new(items);
        let results = self.import(&items).await?;
        let (mut waiting, mut waiting_bytes) = (Vec::new(), 0);
        for ((number, kind, id, bytes), (item, result)) in abouts.into_iter().zip(items.iter().zip(&results)) {
            let is_cycle = matches!(result.outcome, ImportOutcome::Refused(ImportRefusal::Cycle(_)));
            let has_room =
                self.held.len() + waiting.len() < MAX_HELD && self.held_bytes + waiting_bytes + bytes <= MAX_HELD_BYTES;
            if may_wait && is_cycle && has_room {
                waiting_bytes += bytes;
                waiting.push(PendingItem { number, kind, id, bytes, item: item.clone() });
                continue;
            }
            self.note(item, result);
            let derived = match item {
                Import::Record(record) if record.id.to_string() != id => Some(record.id),
                Import::Record(_) | Import::Event(_) | Import::Checkpoint(_) | Import::ManualMark(_) => None,
            };
            answers.add(number, &LineResult::new((number, kind, &id), derived, result));
        }
        Ok(waiting)
    }

    /// Retries the held records, now that the other records are present, until no more of them can
    /// be imported.
    async fn take_held(&mut self) -> (Vec<u8>, bool) {
        let mut answers = Answers::default();
        let mut may_wait = true;
        for round in 1..=MAX_ROUNDS {
            let mut waiting = std::mem::take(&mut self.held);
            // Items that are retried had room before.
            self.held_bytes = 0;
            let before = waiting.len();
            while !waiting.is_empty() {
                let group = waiting.drain(..waiting.len().min(GROUP_LINES)).collect();
                match self.send(group, may_wait, &mut answers).await {
                    Ok(again) => self.held.extend(again),
                    Err(error) => return ([answers.text(), failure(&error)].concat(), true),
                }
            }
            // The last round reports the reason for each record that remains.
            may_wait = self.held.len() < before && round + 1 < MAX_ROUNDS;
            if self.held.is_empty() {
                break;
            }
        }
        (answers.text(), false)
    }

    /// Applies manual marks and clears, now that all records they are about are present.
    async fn apply_marks(&mut self) -> Result<(), Error> {
        let words = self.marks.take();
        for group in words.chunks(GROUP_LINES) {
            self.import(&Arc::new(group.to_vec())).await?;
        }
        Ok(())
    }

    async fn import(&self, items: &Arc<Vec<Import>>) -> Result<Vec<ImportResult>, Error> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut results = loop {
            match self.engine.transfer().import(items.clone()).await {
                Err(Error::Overloaded) => tokio::time::sleep(BUSY_PAUSE).await,
                other => break other?,
            }
        };
        for (item, result) in items.iter().zip(&mut results) {
            let is_own = match (item, &result.outcome) {
                (Import::Record(line), ImportOutcome::Refused(ImportRefusal::MadeHere(_))) => {
                    self.is_own_record(line).await?
                }
                (Import::Checkpoint(line), ImportOutcome::Refused(ImportRefusal::OtherCheckpoint(_))) => {
                    self.is_own_checkpoint(line).await?
                }
                _ => false,
            };
            if is_own {
                result.outcome = ImportOutcome::Unchanged;
            }
        }
        Ok(results)
    }

    /// Returns whether the item is an entry of this store's own trail.
    async fn is_own_event(&mut self, item: &Import) -> Result<bool, Error> {
        match item {
            Import::Event(event) => self.trail.has(self.engine, event).await,
            Import::Record(_) | Import::Checkpoint(_) | Import::ManualMark(_) => Ok(false),
        }
    }

    /// Returns whether a line equals the export of the local record.
    async fn is_own_record(&self, line: &Record) -> Result<bool, Error> {
        let Some(record) = self.engine.provenance().record(line.id).await? else { return Ok(false) };
        let own = to_json(self.engine, &self.engine.provenance().graph(), &record, &mut Causes::default()).await?;
        let own = own.as_object().map(digest);
        Ok(own.is_some() && own == line.imported.as_ref().map(|imported| imported.digest))
    }

    /// Returns whether a line equals the export of the local checkpoint.
    async fn is_own_checkpoint(&self, line: &Checkpoint) -> Result<bool, Error> {
        let Some(here) = self.engine.checkpoints().get(line.id.clone()).await? else { return Ok(false) };
        let line = line.original.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        Ok(line == Some(checkpoint::checkpoint_json(&here)))
    }

    fn note(&mut self, item: &Import, result: &ImportResult) {
        self.summary.add(&result.outcome);
        result.newly_suspect.iter().for_each(|record| self.unstated.add(*record));
        let refused = matches!(result.outcome, ImportOutcome::Refused(_));
        if let Import::Record(record) = item
            && !refused
            && record.imported.as_ref().is_some_and(|imported| imported.was_suspect)
        {
            self.stated.add(record.id);
        }
    }

    fn summary(&mut self) -> Vec<u8> {
        let graph = self.engine.provenance().graph();
        self.summary.newly_suspect = self.unstated.count(&graph, Flag::Suspect);
        self.summary.no_longer_suspect = self.stated.count(&graph, Flag::Clean);
        let mut text = Vec::new();
        write(&mut text, &json!({ "summary": self.summary }));
        text
    }
}

fn refused(number: u64, content: &Content) -> LineResult<'_> {
    match content {
        Content::Invalid(invalid) => LineResult::invalid(number, invalid),
        Content::Unusable { reason, message } => LineResult::unusable(number, reason, message.as_str()),
        Content::TooLong | Content::Item { .. } => {
            LineResult::unusable(number, "too_large", format!("must be at most {MAX_LINE_BYTES} bytes"))
        }
    }
}
