//! The position of the copy in the store's list of changes.

use crate::store::{self, CommitNumber, View};
use crate::task::{CheckpointId, ProjectId, RecordId, Seq, TaskId};

use super::row_key::Key;

/// How far the copy has progressed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// The last commit that the copy contains completely. During a scan: the commit that it will
    /// contain once the scan ends.
    pub(super) commit: CommitNumber,
    /// Number of rows of the next commit that are written. It counts in the list as the writing
    /// process saw it; another process restarts at the beginning of that commit.
    pub(super) done: usize,
    /// The scan in progress: its phase, and the last row that was written.
    pub(super) scan: Option<(Phase, Option<String>)>,
}

impl Position {
    /// Returns the start position of a scan of everything up to `commit`.
    pub(super) const fn scanning(commit: CommitNumber) -> Self {
        Self { commit, done: 0, scan: Some((Phase::Projects, None)) }
    }
}

/// The phases of a scan, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Projects,
    Tiers,
    Tasks,
    Records,
    Dependencies,
    Facts,
    ImportedEvents,
    Checkpoints,
    Contents,
    /// Deletes the rows that the scan has not written.
    Sweep,
}

impl Phase {
    const ALL: [Self; 10] = [
        Self::Projects,
        Self::Tiers,
        Self::Tasks,
        Self::Records,
        Self::Dependencies,
        Self::Facts,
        Self::ImportedEvents,
        Self::Checkpoints,
        Self::Contents,
        Self::Sweep,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Projects => "projects",
            Self::Tiers => "tier_pauses",
            Self::Tasks => "tasks",
            Self::Records => "records",
            Self::Dependencies => "dependencies",
            Self::Facts => "facts",
            Self::ImportedEvents => "imported_events",
            Self::Checkpoints => "checkpoints",
            Self::Contents => "contents",
            Self::Sweep => "sweep",
        }
    }

    /// Parses the name of a phase.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }

    pub(super) const fn next(self) -> Self {
        match self {
            Self::Projects => Self::Tiers,
            Self::Tiers => Self::Tasks,
            Self::Tasks => Self::Records,
            Self::Records => Self::Dependencies,
            Self::Dependencies => Self::Facts,
            Self::Facts => Self::ImportedEvents,
            Self::ImportedEvents => Self::Checkpoints,
            Self::Checkpoints => Self::Contents,
            Self::Contents | Self::Sweep => Self::Sweep,
        }
    }

    /// Returns the next keys, each with the text from which a scan resumes after it.
    pub(super) fn keys_after(
        self,
        view: &View,
        after: Option<&str>,
        limit: usize,
        contents: bool,
    ) -> Result<Vec<(Key, String)>, store::Error> {
        let keys = match self {
            Self::Projects => {
                let after = after.and_then(|after| ProjectId::new(after).ok());
                let projects = view.projects_after(after.as_ref(), limit)?.into_iter();
                projects.map(|project| (Key::Project(project.id.clone()), project.id.to_string())).collect()
            }
            Self::Tiers => {
                let pauses =
                    view.tier_pauses()?.into_iter().filter(|(tier, _)| after.is_none_or(|after| tier.as_str() > after));
                pauses.take(limit).map(|(tier, _)| (Key::Tier(tier.clone()), tier.to_string())).collect()
            }
            Self::Tasks => {
                let after = after.and_then(|after| after.parse::<TaskId>().ok());
                view.tasks_after(after, limit)?.into_iter().map(|id| (Key::Task(id), id.to_string())).collect()
            }
            Self::Records | Self::Dependencies => {
                let after = after.and_then(|after| after.parse::<RecordId>().ok());
                let key = |id| if self == Self::Records { Key::Record(id) } else { Key::Dependencies(id) };
                view.record_ids_after(after, limit)?.into_iter().map(|id| (key(id), id.to_string())).collect()
            }
            Self::Facts => facts_after(view, after, limit)?,
            Self::ImportedEvents => {
                let after = after.and_then(|after| after.parse().ok()).unwrap_or(0);
                let numbers = view.imported_event_numbers_after(after, limit)?.into_iter();
                numbers.map(|number| (Key::ImportedEvent(number), number.to_string())).collect()
            }
            Self::Checkpoints => {
                let after = after.and_then(|after| CheckpointId::new(after).ok());
                let ids = view.checkpoint_ids_after(after.as_ref(), limit)?.into_iter();
                ids.map(|id| (Key::Checkpoint(id.clone()), id.to_string())).collect()
            }
            Self::Contents if contents => {
                let hashes = view.contents_after(after.and_then(hash_of), limit)?;
                hashes.into_iter().map(|hash| (Key::Content(hash), hash_text(hash))).collect()
            }
            Self::Contents | Self::Sweep => Vec::new(),
        };
        Ok(keys)
    }
}

/// Returns cascade steps, each followed by its audit entries. A resume text is `step:n`, where 0 is
/// the step itself and `n` its n-th entry.
fn facts_after(view: &View, after: Option<&str>, limit: usize) -> Result<Vec<(Key, String)>, store::Error> {
    let parsed = after.and_then(|after| after.split_once(':'));
    let parsed = parsed.and_then(|(step, place)| Some((step.parse::<u64>().ok()?, place.parse::<usize>().ok()?)));
    let mut keys = Vec::new();
    let first = parsed.map_or(Seq(0), |(step, _)| Seq(step.saturating_sub(1)));
    for row in view.cascade_heads_after(first)? {
        let (step, _) = row?;
        let changes = view.step_changes(step)?;
        let skip = parsed.filter(|(of, _)| *of == step.0).map_or(0, |(_, place)| place + 1);
        let fact = std::iter::once(Key::Fact(step));
        let all = fact.chain((0..changes.len()).map(|place| Key::Audit(step, place)));
        for (number, key) in all.enumerate().skip(skip) {
            if keys.len() == limit {
                return Ok(keys);
            }
            keys.push((key, format!("{}:{number}", step.0)));
        }
    }
    Ok(keys)
}

fn hash_text(hash: [u8; 32]) -> String {
    hex::encode(hash)
}

fn hash_of(text: &str) -> Option<[u8; 32]> {
    let pairs = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect::<Option<Vec<u8>>>()?.try_into().ok()
}
