//! Lines in, a result for each out, in their order but for records that would
//! close a cycle: those wait for the end, when all others are there.
//!
//! One task reads and cuts, threads that may wait parse, and meanwhile the
//! engine commits what came before: each step is ahead of the next by one
//! group at most.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::budget::ImportBudget;
use super::causes::Causes;
use super::checkpoint;
use super::lines::{Cutter, MAX_LINE_BYTES, RawLine};
use super::outcome::{LineResult, Summary};
use super::own::OwnTrail;
use super::record::{to_json, to_stored};
use super::words::{Heard, Words};
use crate::engine::{Engine, Error, Import, ImportOutcome, ImportRefusal, ImportResult};
use crate::legacy::{Invalid, Kind, Line, digest};
use crate::lineage::{Flag, Graph};
use crate::store::{Checkpoint, ImportedEvent, Record};
use crate::task::RecordId;

/// Lines of one commit, at most.
const GROUP_LINES: usize = 256;
/// Bytes that are gathered before they are parsed, about.
const GROUP_BYTES: usize = 256 << 10;
/// Most records whose suspicion is looked at again at the end, of each kind.
const MAX_SUSPECTS: usize = 100_000;
/// Most records that are held because they would close a cycle, and how often
/// they are tried again.
const MAX_HELD: usize = 1000;
const MAX_ROUNDS: usize = 20;
/// Most bytes of the lines of these records.
const MAX_HELD_BYTES: usize = 8 << 20;
/// How long to wait for a writer whose queue is full.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A piece of the lines; an error ends them before their end, and says why.
pub type Chunk = Result<Bytes, String>;

/// Imports lines until they end, and tells of each: NDJSON, with a summary at
/// the end. What was told of is on disk. An answer that ends
/// without a summary ends with an error.
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
        told: Noted::default(),
        new: Noted::default(),
        held: Vec::new(),
        held_bytes: 0,
        words: Words::default(),
        trail: OwnTrail::default(),
    };
    while let Some(group) = groups.recv().await {
        let (text, failed) = match group {
            // The share is given back before anybody takes the results.
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
        text.extend(match session.take_words().await {
            Ok(()) => session.summary(),
            Err(error) => failure(&error),
        });
    }
    // Who no longer reads needs no summary.
    let _ = results.send(text.into()).await;
}

/// A line that was read.
#[derive(Debug)]
struct Parsed {
    number: u64,
    /// Its length.
    bytes: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    TooLong,
    Invalid(Invalid),
    Item { kind: Kind, id: String, item: Import, heard: Option<Heard> },
    Unfit { reason: &'static str, message: String },
}

/// Lines, and their share of what all imports may take.
type Group = Result<(Vec<Parsed>, Option<OwnedSemaphorePermit>), String>;

/// Cuts and parses, a group at a time.
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
            // Who no longer listens knows it already.
            let _ = groups.send(Err(reason)).await;
        }
        if ended {
            return;
        }
    }
}

/// Takes a chunk, and what else is there already; `false`: that was all.
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
            let heard = Heard::of(&event);
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
                Err(error) => Content::Unfit { reason: "bad_value", message: format!("/id {error}, was {id:?}") },
            }
        }
    }
}

/// What an import has come to.
struct Session<'a> {
    engine: &'a Engine,
    summary: Summary,
    /// Records that were said to be suspect.
    told: Noted,
    /// Records that became suspect and were not said to be.
    new: Noted,
    /// Records that would close a cycle, as it is now.
    held: Vec<Sent>,
    /// The bytes of their lines.
    held_bytes: usize,
    /// What was said by hand.
    words: Words,
    /// What is here already.
    trail: OwnTrail,
}

/// Records to look at again at the end.
#[derive(Debug, Default)]
struct Noted {
    records: HashSet<RecordId>,
    too_many: bool,
}

impl Noted {
    fn add(&mut self, record: RecordId) {
        self.records.insert(record);
        if self.records.len() > MAX_SUSPECTS {
            self.too_many = true;
            self.records = HashSet::new();
        }
    }

    /// How many have a flag; `None`: there were too many.
    fn count(&self, graph: &Graph, flag: Flag) -> Option<u64> {
        let known = self.records.iter().filter_map(|id| graph.find(*id).and_then(|node| graph.record(node)));
        let count = known.filter(|known| known.flag == flag).count();
        (!self.too_many).then(|| u64::try_from(count).unwrap_or(u64::MAX))
    }
}

/// What the engine is sent, and the line that it stood in.
#[derive(Debug)]
struct Sent {
    number: u64,
    kind: Kind,
    id: String,
    /// The length of the line.
    bytes: usize,
    item: Import,
}

impl Session<'_> {
    /// The results of a group, and whether the import ends with it.
    async fn take(&mut self, group: Vec<Parsed>) -> (Vec<u8>, bool) {
        let (mut answers, mut sent) = (Answers::default(), Vec::new());
        let known = ImportResult::from(ImportOutcome::Unchanged);
        for Parsed { number, bytes, content } in group {
            self.summary.lines += 1;
            match content {
                Content::Item { kind, id, item, heard } => {
                    match self.is_here(&item).await {
                        Ok(false) => {}
                        Ok(true) => {
                            self.summary.add(&known.outcome);
                            answers.add(number, &LineResult::new((number, kind, &id), None, &known));
                            continue;
                        }
                        Err(error) => return ([answers.text(), failure(&error)].concat(), true),
                    }
                    if let Some(heard) = heard {
                        self.words.hear(heard);
                    }
                    sent.push(Sent { number, kind, id, bytes, item });
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

    /// Imports what can be, and writes the results. Gives back records that
    /// would close a cycle, as long as there is room to hold them: which edges
    /// there are depends on what else has come.
    async fn send(&mut self, sent: Vec<Sent>, may_wait: bool, answers: &mut Answers) -> Result<Vec<Sent>, Error> {
        let (abouts, items): (Vec<_>, Vec<_>) =
            sent.into_iter().map(|Sent { number, kind, id, bytes, item }| ((number, kind, id, bytes), item)).unzip();
        let items = Arc::new(items);
        let results = self.import(&items).await?;
        let (mut waiting, mut waiting_bytes) = (Vec::new(), 0);
        for ((number, kind, id, bytes), (item, result)) in abouts.into_iter().zip(items.iter().zip(&results)) {
            let is_cycle = matches!(result.outcome, ImportOutcome::Refused(ImportRefusal::Cycle(_)));
            let has_room =
                self.held.len() + waiting.len() < MAX_HELD && self.held_bytes + waiting_bytes + bytes <= MAX_HELD_BYTES;
            if may_wait && is_cycle && has_room {
                waiting_bytes += bytes;
                waiting.push(Sent { number, kind, id, bytes, item: item.clone() });
                continue;
            }
            self.note(item, result);
            let derived = match item {
                Import::Record(record) if record.id.to_string() != id => Some(record.id),
                Import::Record(_) | Import::Event(_) | Import::Checkpoint(_) | Import::Word(_) => None,
            };
            answers.add(number, &LineResult::new((number, kind, &id), derived, result));
        }
        Ok(waiting)
    }

    /// Tries what was held once more, now that the others are there, until
    /// nothing more can be taken.
    async fn take_held(&mut self) -> (Vec<u8>, bool) {
        let mut answers = Answers::default();
        let mut may_wait = true;
        for round in 1..=MAX_ROUNDS {
            let mut waiting = std::mem::take(&mut self.held);
            // What is tried again had room before.
            self.held_bytes = 0;
            let before = waiting.len();
            while !waiting.is_empty() {
                let group = waiting.drain(..waiting.len().min(GROUP_LINES)).collect();
                match self.send(group, may_wait, &mut answers).await {
                    Ok(again) => self.held.extend(again),
                    Err(error) => return ([answers.text(), failure(&error)].concat(), true),
                }
            }
            // Once more, to tell why.
            may_wait = self.held.len() < before && round + 1 < MAX_ROUNDS;
            if self.held.is_empty() {
                break;
            }
        }
        (answers.text(), false)
    }

    /// Applies what was said by hand, now that everything is there that it
    /// was said of.
    async fn take_words(&mut self) -> Result<(), Error> {
        let words = self.words.take();
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
            match self.engine.import(items.clone()).await {
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

    /// Whether it is an entry of our own trail.
    async fn is_here(&mut self, item: &Import) -> Result<bool, Error> {
        match item {
            Import::Event(event) => self.trail.has(self.engine, event).await,
            Import::Record(_) | Import::Checkpoint(_) | Import::Word(_) => Ok(false),
        }
    }

    /// Whether a line is what an export of the record here gives.
    async fn is_own_record(&self, line: &Record) -> Result<bool, Error> {
        let Some(record) = self.engine.record(line.id).await? else { return Ok(false) };
        let own = to_json(self.engine, &self.engine.graph(), &record, &mut Causes::default()).await?;
        let own = own.as_object().map(digest);
        Ok(own.is_some() && own == line.imported.as_ref().map(|imported| imported.digest))
    }

    /// Whether a line is what an export of the checkpoint here gives.
    async fn is_own_checkpoint(&self, line: &Checkpoint) -> Result<bool, Error> {
        let Some(here) = self.engine.checkpoint(line.id.clone()).await? else { return Ok(false) };
        let line = line.original.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        Ok(line == Some(checkpoint::checkpoint_json(&here)))
    }

    fn note(&mut self, item: &Import, result: &ImportResult) {
        self.summary.add(&result.outcome);
        result.newly_suspect.iter().for_each(|record| self.new.add(*record));
        let refused = matches!(result.outcome, ImportOutcome::Refused(_));
        if let Import::Record(record) = item
            && !refused
            && record.imported.as_ref().is_some_and(|imported| imported.was_suspect)
        {
            self.told.add(record.id);
        }
    }

    fn summary(&mut self) -> Vec<u8> {
        let graph = self.engine.graph();
        self.summary.newly_suspect = self.new.count(&graph, Flag::Suspect);
        self.summary.no_longer_suspect = self.told.count(&graph, Flag::Clean);
        let mut text = Vec::new();
        write(&mut text, &json!({ "summary": self.summary }));
        text
    }
}

fn refused(number: u64, content: &Content) -> LineResult<'_> {
    match content {
        Content::Invalid(invalid) => LineResult::invalid(number, invalid),
        Content::Unfit { reason, message } => LineResult::unfit(number, reason, message.as_str()),
        Content::TooLong | Content::Item { .. } => {
            LineResult::unfit(number, "too_large", format!("must be at most {MAX_LINE_BYTES} bytes"))
        }
    }
}

/// Results in the order of their lines.
#[derive(Debug, Default)]
struct Answers(Vec<(u64, Vec<u8>)>);

impl Answers {
    fn add(&mut self, number: u64, result: &LineResult<'_>) {
        let mut text = Vec::with_capacity(128);
        write(&mut text, result);
        self.0.push((number, text));
    }

    fn text(mut self) -> Vec<u8> {
        self.0.sort_by_key(|(number, _)| *number);
        self.0.into_iter().flat_map(|(_, text)| text).collect()
    }
}

/// What ends an import, as its last line.
fn failure(error: &Error) -> Vec<u8> {
    let code = match error {
        Error::NotOwner => "not_owner",
        Error::ShuttingDown => "shutting_down",
        Error::DiskFull { .. } => "storage_full",
        Error::Unknown => "outcome_unknown",
        Error::Store(error) if error.is_no_room() => "storage_full",
        Error::Refused(_) | Error::Overloaded | Error::Store(_) => "internal",
    };
    error_line(code, &error.to_string())
}

fn error_line(code: &str, detail: &str) -> Vec<u8> {
    let mut text = Vec::new();
    write(&mut text, &json!({ "error": {"code": code, "detail": detail} }));
    text
}

fn write(text: &mut Vec<u8>, line: &impl Serialize) {
    // Writing to memory does not fail, and our values have only text keys.
    let _ = serde_json::to_writer(&mut *text, line);
    text.push(b'\n');
}
