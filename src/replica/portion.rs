//! Portions: the contents of one transaction of the copy. A portion is read from one view of the
//! store and moves the copy from one position to the next.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::position::{Phase, Position};
use super::row_key::Key;
use super::rows::{self, Dependency};
use super::tables::{Row, Table};
use crate::lineage::Graph;
use crate::store::{self, CascadeRow, ChangeRow, ChangedKeys, CommitNumber, View};
use crate::task::{CheckpointId, Moment, RecordId, Seq, TaskId};

type Stored<T> = Result<T, store::Error>;

/// Limit of a portion's size in bytes. A single larger row makes a portion of its own.
const MAX_BYTES: usize = 8 << 20;

/// The contents of one transaction of the copy.
#[derive(Debug, Default)]
pub(super) struct Portion {
    /// Rows to upsert, by table.
    pub(super) rows: BTreeMap<Table, Vec<Row>>,
    /// Tasks and checkpoints to delete.
    pub(super) removed_tasks: Vec<Uuid>,
    pub(super) removed_checkpoints: Vec<String>,
    /// Records whose dependencies are replaced by those below.
    pub(super) dependents: Vec<Uuid>,
    pub(super) dependencies: Vec<Dependency>,
    /// The commit that the rows reflect.
    pub(super) number: CommitNumber,
    /// The newest position of the event log at that commit.
    pub(super) log_position: Seq,
    /// The position of the copy after this portion.
    pub(super) to: Position,
    /// Whether the portion reached its limit, so that more may be ready.
    pub(super) is_full: bool,
}

/// Limits of a portion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: usize,
    /// Whether contents of artifacts are copied.
    pub(super) contents: bool,
}

/// Reads rows into a portion until it is full.
pub(super) struct Reader<'a> {
    view: &'a View,
    graph: &'a Graph,
    limits: Limits,
    portion: Portion,
    taken: HashSet<Key>,
    bytes: usize,
    count: usize,
    /// Cascades that tainted records, by step; a cache.
    taints: HashMap<Seq, Option<CascadeRow>>,
    /// Flag changes of the step that was read last; a cache.
    changes: Option<(Seq, Vec<ChangeRow>)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(view: &'a View, graph: &'a Graph, limits: Limits) -> Stored<Self> {
        let portion = Portion { number: view.commit_number()?, log_position: view.log_head()?, ..Portion::default() };
        let (taken, taints) = (HashSet::new(), HashMap::new());
        Ok(Self { view, graph, limits, portion, taken, bytes: 0, count: 0, taints, changes: None })
    }

    fn is_full(&self) -> bool {
        self.count >= self.limits.rows || self.bytes >= MAX_BYTES
    }

    /// Reads the changes after a position; `None` if there are none.
    pub(super) fn changes(mut self, from: &Position) -> Stored<Option<Portion>> {
        let (mut at, mut done) = (from.commit, from.done);
        for row in self.view.changes(from.commit)? {
            let (number, changed) = row?;
            let skip = std::mem::take(&mut done);
            let keys = self.keys(changed)?;
            for (place, key) in keys.into_iter().enumerate().skip(skip) {
                if self.is_full() {
                    self.portion.is_full = true;
                    self.portion.to = Position { commit: at, done: place, scan: None };
                    return Ok(Some(self.portion));
                }
                self.take(key)?;
            }
            at = number;
            if self.is_full() {
                self.portion.is_full = true;
                break;
            }
        }
        if at == from.commit {
            return Ok(None);
        }
        self.portion.to = Position { commit: at, done: 0, scan: None };
        Ok(Some(self.portion))
    }

    /// Reads the given rows, whether changed or not. The position stays as it is.
    pub(super) fn rows(mut self, keys: impl IntoIterator<Item = Key>, at: &Position) -> Stored<Portion> {
        for key in keys {
            self.take(key)?;
        }
        self.portion.to = at.clone();
        Ok(self.portion)
    }

    /// Reads the next rows of a scan.
    pub(super) fn scan(mut self, from: &Position, phase: Phase, after: Option<&str>) -> Stored<Portion> {
        let keys = phase.keys_after(self.view, after, self.limits.rows, self.limits.contents)?;
        let read = keys.len();
        let (mut last, mut taken) = (after.map(str::to_owned), 0);
        for (key, name) in keys {
            if self.is_full() {
                break;
            }
            self.take(key)?;
            (last, taken) = (Some(name), taken + 1);
        }
        let ended = taken == read && read < self.limits.rows;
        let scan = if ended { (phase.next(), None) } else { (phase, last) };
        self.portion.to = Position { scan: Some(scan), ..from.clone() };
        Ok(self.portion)
    }

    /// Returns the keys that a commit changed, always in the same order. Large steps are split into
    /// one key for each flag change.
    pub(super) fn keys(&mut self, changed: ChangedKeys) -> Stored<Vec<Key>> {
        let mut keys: Vec<Key> = changed.projects.into_iter().map(Key::Project).collect();
        keys.extend(changed.tiers.into_iter().map(Key::Tier));
        keys.extend(changed.tasks.into_iter().map(Key::Task));
        // All records come before their dependencies: a portion may end in between, and a
        // dependency needs both records.
        keys.extend(changed.records.iter().copied().map(Key::Record));
        for step in changed.cascades {
            keys.push(Key::Fact(step));
            let flags = self.changes_of(step)?;
            keys.extend(flags.iter().map(|flag| Key::Record(flag.record)));
            keys.extend((0..flags.len()).map(|place| Key::Audit(step, place)));
        }
        keys.extend(changed.records.into_iter().map(Key::Dependencies));
        keys.extend(changed.imported_events.into_iter().map(Key::ImportedEvent));
        keys.extend(changed.checkpoints.into_iter().map(Key::Checkpoint));
        if self.limits.contents {
            keys.extend(changed.contents.into_iter().map(Key::Content));
        }
        Ok(keys)
    }

    fn changes_of(&mut self, step: Seq) -> Stored<&[ChangeRow]> {
        if self.changes.as_ref().is_none_or(|(of, _)| *of != step) {
            self.changes = Some((step, self.view.cascade_changes(step)?));
        }
        Ok(self.changes.as_ref().map_or(&[], |(_, changes)| changes))
    }

    fn take(&mut self, key: Key) -> Stored<()> {
        if !self.taken.insert(key.clone()) {
            return Ok(());
        }
        match key {
            Key::Project(id) => {
                if let Some(project) = self.view.project(&id)? {
                    self.push(Table::Projects, rows::project(&project)?);
                }
            }
            Key::Tier(tier) => {
                if let Some(pause) = self.view.tier_pause(&tier)? {
                    self.push(Table::TierPauses, rows::tier_pause(&tier, pause));
                }
            }
            Key::Task(id) => self.task(id)?,
            Key::Record(id) => self.record(id)?,
            Key::Dependencies(id) => self.dependencies(id),
            Key::Fact(step) => {
                if let Some(row) = self.view.cascade(step)? {
                    let rollback = self.view.rollback(step)?;
                    self.push(Table::Facts, rows::fact(step, &row, rollback.as_ref())?);
                }
            }
            Key::Audit(step, place) => {
                if let Some(change) = self.changes_of(step)?.get(place) {
                    let row = rows::audit(step, u64::try_from(place).unwrap_or(u64::MAX), change);
                    self.push(Table::Audit, row);
                }
            }
            Key::ImportedEvent(number) => {
                if let Some(event) = self.view.imported_event_at(number)? {
                    self.push(Table::ImportedEvents, rows::imported_event(number, event));
                }
            }
            Key::Checkpoint(id) => self.checkpoint(&id)?,
            Key::Content(hash) => {
                // A damaged content is reported by `dats verify`, and must not block the other
                // rows.
                match self.view.content(hash) {
                    Ok(Some(content)) => self.push(Table::Contents, rows::content(hash, content)),
                    Ok(None) => {}
                    Err(error @ store::Error::DamagedContent { .. }) => {
                        tracing::error!(%error, "content not copied");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, table: Table, row: Row) {
        self.count += 1;
        self.bytes += row.iter().map(super::tables::Cell::bytes).sum::<usize>();
        self.portion.rows.entry(table).or_default().push(row);
    }

    fn task(&mut self, id: TaskId) -> Stored<()> {
        let (Some(task), Some(submission)) = (self.view.task(id)?, self.view.submission(id)?) else {
            self.portion.removed_tasks.push(rows::task_uuid(id));
            self.count += 1;
            return Ok(());
        };
        let findings = self.view.findings(id)?;
        self.push(Table::Tasks, rows::task(&task, &submission, findings.as_ref())?);
        Ok(())
    }

    fn checkpoint(&mut self, id: &CheckpointId) -> Stored<()> {
        if let Some(checkpoint) = self.view.checkpoint(id)? {
            self.push(Table::Checkpoints, rows::checkpoint(&checkpoint)?);
        } else {
            self.portion.removed_checkpoints.push(id.to_string());
            self.count += 1;
        }
        Ok(())
    }

    fn record(&mut self, id: RecordId) -> Stored<()> {
        let (Some(record), Some(lineage)) = (self.view.record(id)?, self.view.lineage(id)?) else { return Ok(()) };
        let Some(known) = self.graph.find(id).and_then(|node| self.graph.record(node)) else { return Ok(()) };
        let view = self.view;
        let taint = match rows::tainted_at(known.fact) {
            Some(step) => match self.taints.entry(step) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut().as_ref().map(|row| (step, row)),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(view.cascade(step)?).as_ref().map(|row| (step, row))
                }
            },
            None => None,
        };
        let statements = view.statements(id)?;
        let row = rows::record(&record, &lineage, known.flag, taint, statements.as_deref())?;
        self.push(Table::Records, row);
        Ok(())
    }

    fn dependencies(&mut self, id: RecordId) {
        self.count += 1;
        self.portion.dependents.push(rows::record_uuid(id));
        self.portion.dependencies.extend(rows::dependencies(self.graph, id));
    }
}

/// Returns the number of commits after a position, and the time of the oldest of them.
pub(super) fn lag(view: &View, at: CommitNumber) -> Stored<(u64, Option<Moment>)> {
    let newest = view.commit_number()?;
    let oldest = view.changes(at)?.next().transpose()?.map(|(_, changed)| changed.at);
    Ok((newest.0.saturating_sub(at.0), oldest))
}
