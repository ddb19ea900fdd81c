//! Restores a new store from the copy. The store gets an id and an epoch of its own: its events
//! have ids other than those of the lost store, and its log begins far beyond the positions of the
//! lost one.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::ownership::{Claim, Origin};
use super::session::Session;
use super::settings::Settings;
use super::state::{self, ALIVE_SECONDS, State, signed};
use super::tables::{Cell, Row, Table};
use super::{Error, cells};
use crate::lineage::{Flag, Statement};
use crate::store::{
    Batch, CascadeRow, Checkpoint, Counters, FlagChanges, ImportedEvent, LineageRow, MAX_ROW_BYTES, Project, Record,
    RollbackRow, StepChange, Store, TierPause, task_of_document,
};
use crate::task::{ArtifactId, Findings, Now, ProjectId, RecordId, Seq, Submission, Task, TaskId, Tier, Timestamp};

/// Numbers of restored rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Projects, including deleted ones.
    pub projects: u64,
    /// Tasks.
    pub tasks: u64,
    /// Provenance records.
    pub records: u64,
    /// Steps of the audit trail.
    pub facts: u64,
    /// Imported entries of other audit trails.
    pub imported_events: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Contents of artifacts.
    pub contents: u64,
    /// Rows that the database had refused and that are lost.
    pub missing: u64,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { projects, tasks, records, facts, imported_events, checkpoints, contents, missing } = self;
        write!(
            f,
            "{projects} projects, {tasks} tasks, {records} provenance records, {facts} steps of the audit trail, \
             {imported_events} imported ones, {checkpoints} checkpoints, {contents} contents"
        )?;
        if *missing > 0 {
            write!(f, "; {missing} rows are lost because the database had refused them")?;
        }
        Ok(())
    }
}

/// A copy from which a store is to be restored.
#[derive(Debug)]
pub struct Restore {
    session: Session,
    found: State,
}

struct Loader<'a> {
    session: &'a Session,
    store: &'a Store,
    batch_rows: usize,
    counters: HashMap<ProjectId, Counters>,
    projects: HashMap<ProjectId, Timestamp>,
    /// The step that created each record.
    steps: HashMap<RecordId, Seq>,
    /// Tasks whose times were moved, so that their rows differ from the copy.
    realigned: Vec<TaskId>,
    restored: Restored,
    /// Largest time, in Unix milliseconds, in an id that the lost store made.
    ids_until_ms: u64,
    now: Now,
}

/// Rows rewritten per commit.
const ROUND: usize = 256;

impl Restore {
    /// Opens the copy and reads one consistent state of it from here on, regardless of the owner's
    /// writes. Changes nothing in the database.
    pub async fn look(settings: Settings) -> Result<Self, Error> {
        let session = Session::open_to_read(Arc::new(settings)).await?;
        let found = if session.has_table("replication_state") { state::load(&session.client).await? } else { None };
        let found = found.ok_or_else(|| Error::Setup("the database holds no copy".to_owned()))?;
        Ok(Self { session, found })
    }

    /// Describes in sentences what the restore will do.
    #[must_use]
    pub fn describe(&self, dir: &Path) -> String {
        let Self { session, found } = self;
        let mut text = format!(
            "makes {} from the copy in {}: of store {}, written last at {}, by the service at {}\n",
            dir.display(),
            session.settings.address,
            found.store,
            found.written_at,
            found.owner(),
        );
        if found.at.scan.is_some() {
            text.push_str("the first scan of the copy had not ended: rows that it had not reached are lost\n");
        }
        text.push_str(
            "nothing in the database changes; the new directory takes over the copy at its first start, with an id and \
             an epoch of its own: running tasks begin a new attempt, and positions in the old event log are answered with `reset`\n",
        );
        match &found.seen {
            Some(seen) if seen.seconds_ago < ALIVE_SECONDS => {
                let _ = write!(
                    text,
                    "the owner is alive: it was seen at {}, {} s ago; the first start is refused until it has not been \
                     seen for {ALIVE_SECONDS} s, unless --take-over is given",
                    seen.at,
                    seen.seconds_ago.max(0)
                );
            }
            Some(seen) => {
                let _ = write!(text, "the owner was last seen at {}", seen.at);
            }
            None => text.push_str("the owner has stopped or never sent a heartbeat"),
        }
        text
    }

    /// Fills an empty store from the copy. Fails for a copy that was never complete, unless
    /// `incomplete` is set. Also returns the claim that the data directory must record.
    pub async fn load(self, store: &Store, incomplete: bool, now: Now) -> Result<(Restored, Claim), Error> {
        let Self { session, found } = self;
        if found.at.scan.is_some() && !incomplete {
            return Err(Error::Setup(
                "the first scan of the copy in the database has not ended, so the copy is incomplete; --incomplete restores the rows that it has"
                    .to_owned(),
            ));
        }
        let mut begin = Batch::default();
        begin.begin_after(found.newest_change.max(found.at.commit), found.log_position.next_epoch());
        begin.commit(store, now)?;
        let mut loader = Loader {
            session: &session,
            store,
            batch_rows: session.settings.batch_rows,
            counters: HashMap::new(),
            projects: HashMap::new(),
            steps: HashMap::new(),
            realigned: Vec::new(),
            restored: Restored::default(),
            ids_until_ms: 0,
            now,
        };
        loader.load_all().await?;
        let Loader { restored, realigned, .. } = loader;
        store.list_changes(true, now)?;
        // From here on changes are listed, so that they reach the copy.
        for ids in realigned.chunks(ROUND) {
            let (mut batch, view) = (Batch::default(), store.view()?);
            for id in ids {
                if let Some(task) = view.task(*id)? {
                    batch.put_task(Some(task.status()), &task)?;
                }
            }
            batch.commit(store, now)?;
        }
        Ok((restored, Claim { restored_from: Some(Origin::of(&found)), is_owner: false }))
    }
}

impl Loader<'_> {
    async fn load_all(&mut self) -> Result<(), Error> {
        for table in Table::ALL {
            if table == Table::Audit {
                continue;
            }
            let mut after: Option<Row> = None;
            loop {
                let rows = self.page(table, after.as_ref()).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.clone());
                let mut batch = Batch::default();
                for row in &rows {
                    self.take(&mut batch, table, row).await?;
                }
                // New ids must be greater than all earlier ones, whatever the clock shows.
                batch.keep_ids_until(self.ids_until_ms);
                batch.commit(self.store, self.now)?;
            }
        }
        let mut batch = Batch::default();
        for (project, counters) in &self.counters {
            batch.put_counters(project, counters)?;
        }
        for (id, created_at) in &self.projects {
            batch.put_project(&unnamed(id, *created_at))?;
        }
        batch.commit(self.store, self.now)?;
        let count = "SELECT count(*) FROM replication_rejects";
        let missing: i64 = self.session.client.query_one(count, &[]).await?.try_get(0)?;
        self.restored.missing = u64::try_from(missing).unwrap_or(0);
        Ok(())
    }

    async fn page(&self, table: Table, after: Option<&Row>) -> Result<Vec<Row>, Error> {
        let name = table.name(&self.session.settings.provenance_table);
        if !self.session.has_table(name) {
            return Ok(Vec::new());
        }
        let has = |column: &str| self.session.known_columns.contains(&(name.to_owned(), column.to_owned()));
        let sql = table.page_of(&self.session.settings.provenance_table, after.is_some(), self.batch_rows, has);
        let key = after.map(|row| table.key(row)).unwrap_or_default();
        let parameters: Vec<_> = key.iter().map(cells::parameter).collect();
        let rows = self.session.client.query(&sql, &cells::references(&parameters)).await?;
        rows.iter().map(|row| cells::read(table, row)).collect()
    }

    async fn take(&mut self, batch: &mut Batch, table: Table, row: &Row) -> Result<(), Error> {
        match table {
            Table::Projects => {
                let project: Project = read(row, table, "document")?;
                batch.put_project(&project)?;
                self.restored.projects += 1;
            }
            Table::TierPauses => {
                let tier = Tier::new(text(row, table, "tier")?).map_err(|error| wrong(table, row, &error))?;
                let pause = TierPause {
                    paused_at: time(row, table, "paused_at"),
                    resumed_at: time(row, table, "resumed_at"),
                    had_consumer: column(row, table, "had_consumer") == &Cell::Flag(true),
                    // The tier's next `task.started` sets it again.
                    tells_starts: false,
                };
                batch.put_tier_pause(&tier, pause)?;
            }
            Table::Tasks => self.task(batch, row)?,
            Table::Records => {
                let (record, lineage): (Record, LineageRow) =
                    (read(row, table, "record")?, read(row, table, "lineage")?);
                let lineage = if record.imported.is_some() {
                    lineage.imported()
                } else {
                    self.record_id_time(record.id.to_bytes());
                    lineage
                };
                batch.put_record(&record)?;
                batch.put_lineage(record.id, &lineage)?;
                if column(row, table, "statements") != &Cell::Null {
                    batch.put_statements(record.id, &read::<Vec<Statement>>(row, table, "statements")?)?;
                }
                self.steps.insert(record.id, lineage.seq());
                self.ensure_project(&record.project, record.created_at)?;
                self.restored.records += 1;
            }
            Table::Facts => self.fact(batch, row).await?,
            Table::ImportedEvents => {
                let (number, event) = imported_event(row)?;
                batch.put_imported_event(number, &event)?;
                self.restored.imported_events += 1;
            }
            Table::Checkpoints => {
                let checkpoint: Checkpoint = read(row, table, "document")?;
                checkpoint.own_id().into_iter().for_each(|id| self.record_id_time(id));
                batch.put_checkpoint(&checkpoint)?;
                self.restored.checkpoints += 1;
            }
            Table::Contents => {
                let hash = row.first().and_then(cells::as_bytes).and_then(|hash| hash.try_into().ok());
                let content = row.get(1).and_then(cells::as_bytes);
                if let (Some(hash), Some(content)) = (hash, content) {
                    self.content(batch, hash, content)?;
                    self.restored.contents += 1;
                }
            }
            // Read together with its cascade.
            Table::Audit => {}
        }
        Ok(())
    }

    /// Records an id that the lost store made.
    fn record_id_time(&mut self, id: [u8; 16]) {
        self.ids_until_ms = self.ids_until_ms.max(made_at_ms(id));
    }

    fn task(&mut self, batch: &mut Batch, row: &Row) -> Result<(), Error> {
        let table = Table::Tasks;
        let mut task: Task = task_of_document(text(row, table, "state")?)
            .map_err(|error| wrong(table, row, &format!("state: {error}")))?;
        // The axis of observed time can differ between the lost store and the new one.
        if task.realign(self.now) {
            self.realigned.push(task.id);
        }
        self.record_id_time(task.id.to_bytes());
        let mut submission: serde_json::Value = read(row, table, "submission")?;
        if let Some(object) = submission.as_object_mut() {
            object.insert("description".to_owned(), text(row, table, "description")?.into());
        }
        let submission: Submission = serde_json::from_value(submission).map_err(|error| wrong(table, row, &error))?;
        if column(row, table, "findings") != &Cell::Null {
            batch.put_findings(task.id, &read::<Findings>(row, table, "findings")?)?;
        }
        batch.put_submission(task.id, &submission)?;
        batch.put_task(None, &task)?;
        if !task.parked.is_empty() {
            batch.put_parked(task.id, &task.parked)?;
        }
        self.ensure_project(&task.project, task.created_at)?;
        self.counters.entry(task.project.clone()).or_default().moved(None, Some(task.phase()));
        self.restored.tasks += 1;
        Ok(())
    }

    /// Adds a content; a large one goes to a file, as it does when an output is accepted.
    fn content(&self, batch: &mut Batch, sha256: [u8; 32], content: &[u8]) -> Result<(), Error> {
        let large = content.len() > MAX_ROW_BYTES;
        let file = if large { self.store.keep_content(sha256, content)? } else { None };
        match file {
            Some(file) => batch.put_content_file(Arc::new(file)),
            None => batch.put_content(sha256, content.to_vec()),
        }
        Ok(())
    }

    /// Creates a project whose own row the database had refused.
    fn ensure_project(&mut self, project: &ProjectId, at: Timestamp) -> Result<(), Error> {
        if !self.projects.contains_key(project) && self.store.view()?.project(project)?.is_none() {
            self.projects.insert(project.clone(), at);
        }
        Ok(())
    }

    async fn fact(&mut self, batch: &mut Batch, row: &Row) -> Result<(), Error> {
        let table = Table::Facts;
        let step = row.first().and_then(cells::as_int).and_then(|step| u64::try_from(step).ok()).unwrap_or(0);
        let fact: CascadeRow = read(row, table, "document")?;
        batch.put_cascade(Seq(step), &fact, self.changes(step).await?)?;
        if column(row, table, "rollback") != &Cell::Null {
            batch.put_rollback(Seq(step), &read::<RollbackRow>(row, table, "rollback")?)?;
        }
        self.restored.facts += 1;
        Ok(())
    }

    /// Reads the flag changes of a step, without those of records that the copy lacks.
    async fn changes(&self, step: u64) -> Result<FlagChanges, Error> {
        let sql = "SELECT record_id, from_flag, to_flag, depth, through FROM taint_events \
                   WHERE position = $1 ORDER BY place";
        let rows = self.session.client.query(sql, &[&signed(step)]).await?;
        let mut changes = FlagChanges::with_capacity(rows.len());
        let brought_by = |id: Uuid| self.steps.get(&RecordId::new(id)).copied();
        for row in rows {
            let (from, to): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            let Some(record) = brought_by(row.try_get(0)?) else { continue };
            changes.push(StepChange {
                record,
                from: flag(&from)?,
                to: flag(&to)?,
                depth: u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or(u32::MAX),
                through: row.try_get::<_, Option<Uuid>>(4)?.and_then(brought_by),
            });
        }
        Ok(changes)
    }
}

/// Returns the time in a version 7 UUID in Unix milliseconds; zero for other versions.
fn made_at_ms(id: [u8; 16]) -> u64 {
    let id = Uuid::from_bytes(id);
    let time = id.get_timestamp().filter(|_| id.get_version_num() == 7).map(|time| time.to_unix());
    time.map_or(0, |(seconds, nanos)| seconds.saturating_mul(1000) + u64::from(nanos) / 1_000_000)
}

fn flag(word: &str) -> Result<Flag, Error> {
    match word {
        "clean" => Ok(Flag::Clean),
        "suspect" => Ok(Flag::Suspect),
        "tainted" => Ok(Flag::Tainted),
        other => Err(Error::Setup(format!(
            "taint_events: flag {other:?} is unknown; allowed are clean, suspect and tainted"
        ))),
    }
}

fn imported_event(row: &Row) -> Result<(u64, ImportedEvent), Error> {
    let table = Table::ImportedEvents;
    let number = row.first().and_then(cells::as_int).and_then(|number| u64::try_from(number).ok());
    let number = number.ok_or_else(|| wrong(table, row, &"number is null"))?;
    let artifact = cells::as_text(column(row, table, "artifact_id")).map(ArtifactId::new).transpose();
    let record = cells::as_uuid(column(row, table, "record_id"));
    let digest = cells::as_bytes(column(row, table, "digest")).and_then(|digest| digest.try_into().ok());
    let event = ImportedEvent {
        id: text(row, table, "event_id")?.to_owned(),
        artifact: artifact.map_err(|error| wrong(table, row, &error))?,
        record: record.map(RecordId::new),
        cascade: text(row, table, "cascade_id")?.to_owned(),
        digest: digest.ok_or_else(|| wrong(table, row, &"digest is null"))?,
        original: text(row, table, "original")?.to_owned(),
    };
    Ok((number, event))
}

fn unnamed(id: &ProjectId, created_at: Timestamp) -> Project {
    Project {
        id: id.clone(),
        name: id.as_str().to_owned(),
        description: None,
        qa_profile: None,
        constitution: None,
        max_concurrent: None,
        created_at,
        updated_at: created_at,
        version: 1,
        archived_at: None,
        paused_at: None,
        resumed_at: None,
    }
}

fn column<'a>(row: &'a Row, table: Table, name: &str) -> &'a Cell {
    let at = table.columns().iter().position(|(column, _)| *column == name);
    at.and_then(|at| row.get(at)).unwrap_or(&Cell::Null)
}

fn text<'a>(row: &'a Row, table: Table, name: &str) -> Result<&'a str, Error> {
    cells::as_text(column(row, table, name)).ok_or_else(|| wrong(table, row, &format!("{name} is null")))
}

fn time(row: &Row, table: Table, name: &str) -> Option<Timestamp> {
    if let Cell::Time(time) = column(row, table, name) { Some(*time) } else { None }
}

fn read<T: DeserializeOwned>(row: &Row, table: Table, name: &str) -> Result<T, Error> {
    serde_json::from_str(text(row, table, name)?).map_err(|error| wrong(table, row, &format!("{name}: {error}")))
}

fn wrong(table: Table, row: &Row, why: &dyn fmt::Display) -> Error {
    Error::Setup(format!("row {} of {table:?} can't be read: {why}", table.key_text(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_version_7_say_when_they_were_made() {
        let id = |text: &str| Uuid::parse_str(text).unwrap().into_bytes();
        assert_eq!(made_at_ms(id("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")), 1_645_557_742_000);
        assert_eq!(made_at_ms(id("017f22e2-79b1-7cc3-98c4-dc0c0c07398f")), 1_645_557_742_001);
        // Version 1 has a time as well, and of another kind.
        assert_eq!(made_at_ms(id("c232ab00-9414-11ec-b3c8-9f6bdeced846")), 0);
        assert_eq!(made_at_ms(id("5df41881-3aed-3515-88a7-2f4a814cf09e")), 0);
    }
}
