//! What the service has acknowledged, kept outside of it: in memory to check
//! against, and in a journal to read when a check fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::support::client::Answer;

/// A submission whose answer is known.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    pub(super) path: &'static str,
    pub(super) key: String,
    pub(super) body: Value,
    /// One for each task, `None` where it was refused.
    pub(super) ids: Vec<Option<String>>,
}

/// An event whose answer is known, unless it was refused.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) event: Value,
    pub(super) outcome: String,
}

/// What can't change any more.
#[derive(Debug, Default)]
pub(super) struct Known {
    ended: BTreeMap<String, String>,
    cancelled: BTreeSet<String>,
}

/// Everything that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    journal: Arc<File>,
    requests: u64,
    /// Requests whose first answer was lost.
    pub(super) lost: u64,
    pub(super) submitted: Vec<Submitted>,
    /// Tasks made without a key, which a lost answer may have made unseen:
    /// how many of them, by the task they were made from.
    pub(super) unseen: BTreeMap<String, u64>,
    pub(super) tasks: BTreeSet<String>,
    pub(super) cancelled: BTreeSet<String>,
    pub(super) events: Vec<Taken>,
    pub(super) contents: BTreeMap<String, String>,
    /// The first end that was seen of a task.
    ended: BTreeMap<String, String>,
    pub(super) limits: BTreeMap<String, u64>,
    /// A limit that was asked for and not yet acknowledged.
    pub(super) asked: Option<(String, u64)>,
    pub(super) deleted: BTreeSet<String>,
    /// The log as it was last read: what it said once it must say for ever.
    pub(super) log: Vec<(u64, String)>,
    pub(super) errors: Vec<String>,
}

/// Where the journal of a run is.
pub(super) fn journal_path(seed: u64) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{seed}.journal"))
}

impl Facts {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            journal: Arc::new(File::create(journal_path(seed)).unwrap()),
            requests: 0,
            lost: 0,
            submitted: Vec::new(),
            unseen: BTreeMap::new(),
            tasks: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            events: Vec::new(),
            contents: BTreeMap::new(),
            ended: BTreeMap::new(),
            limits: BTreeMap::new(),
            asked: None,
            deleted: BTreeSet::new(),
            log: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Before a request leaves. The journal is not synced: it is the service
    /// that dies, not this process.
    pub(super) fn intent(&mut self, path: &str, body: &Value, key: &str) -> u64 {
        self.requests += 1;
        let number = self.requests;
        self.note(&format!("{number} intent {path} {key} {body}"));
        number
    }

    /// When its answer has come.
    pub(super) fn acknowledged(&mut self, number: u64, tries: u64, answer: &Answer) {
        self.lost += u64::from(tries > 1);
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        self.note(&format!("{number} answer {} after {tries} {body}", answer.status));
    }

    pub(super) fn note(&mut self, line: &str) {
        writeln!(&*self.journal, "{line}").unwrap();
    }

    /// A client found something wrong: told at the end of the round.
    pub(super) fn wrong(&mut self, what: String) {
        self.note(&format!("WRONG {what}"));
        self.errors.push(what);
    }

    /// What is known before a request that reads.
    pub(super) fn known(&self) -> Known {
        Known { ended: self.ended.clone(), cancelled: self.cancelled.clone() }
    }

    /// An end is for ever: what was known before the task was read still
    /// holds in what was read.
    pub(super) fn saw(&mut self, task: &Value, known: &Known) {
        let (Some(id), Some(status)) = (task["task_id"].as_str(), task["status"].as_str()) else {
            self.wrong(format!("a task without id or status: {task}"));
            return;
        };
        if let Some(first) = known.ended.get(id).filter(|first| *first != status) {
            self.wrong(format!("task {id} was {first} and is {status}"));
        }
        if known.cancelled.contains(id) && status != "cancelled" {
            self.wrong(format!("task {id} was acknowledged as cancelled and is {status}"));
        }
        if matches!(status, "completed" | "failed" | "cancelled") {
            self.ended.insert(id.to_owned(), status.to_owned());
        }
    }

    pub(super) fn is_open(&self, id: &str) -> bool {
        !self.ended.contains_key(id)
    }
}

/// A small generator of numbers, so that a seed gives the same run as far as
/// timing allows.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Sebastiano Vigna's `splitmix64`.
    pub(super) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// True `percent` of a hundred times.
    pub(super) const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub(super) fn one<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(all.len()).ok().filter(|count| *count > 0)?;
        all.get(usize::try_from(self.below(count)).ok()?)
    }

    /// A name that no other call gives.
    pub(super) fn name(&mut self, prefix: &str) -> String {
        format!("{prefix}-{:016x}", self.roll())
    }
}
