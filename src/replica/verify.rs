//! Compares the copy with the store row by row, and repairs it. The service must not run meanwhile,
//! because neither side may change.

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::fmt;

use uuid::Uuid;

use super::keys::{self, PAGE};
use super::portion::{Limits, Reader};
use super::position::Position;
use super::row_key::Key;
use super::rows::{self, Dependency};
use super::session::Session;
use super::settings::Settings;
use super::state::{self, Begin, Local};
use super::tables::{Cell, Row, Table};
use super::write::DEPENDENCIES;
use super::{Error, cells};
use crate::lineage::Graph;
use crate::store::{CommitNumber, Store, View};
use crate::task::RecordId;

/// Maximum number of differences that are described one by one.
const SHOWN: usize = 20;

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows compared.
    pub rows: u64,
    /// Rows that differ only because they are not copied yet.
    pub pending: u64,
    /// Rows that differ.
    pub different: u64,
    /// Rows written or deleted by the repair.
    pub repaired: u64,
    /// Rows that the database refuses.
    pub rejects: u64,
    /// Descriptions of the first differences.
    pub examples: Vec<String>,
}

impl Report {
    /// Returns whether both sides are equal, or will be once the service runs.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.different == 0 && self.rejects == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, pending, different, repaired, rejects, examples } = self;
        write!(f, "{rows} rows compared: {different} differ, {pending} not copied yet, {rejects} refused")?;
        if *repaired > 0 {
            write!(f, "; {repaired} repaired")?;
        }
        examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}

struct Comparison<'a> {
    session: Session,
    view: &'a View,
    graph: &'a Graph,
    store: Uuid,
    at: Position,
    limits: Limits,
    pending: HashSet<Key>,
    repair: bool,
    /// Keys of rows to write again.
    wrong: Vec<Key>,
    report: Report,
}

/// Compares the copy with the store; with `repair` it also makes the copy equal.
pub async fn verify(store: &Store, graph: &Graph, settings: Settings, repair: bool) -> Result<Report, Error> {
    let view = store.view()?;
    let limits = Limits { rows: settings.batch_rows, contents: settings.contents };
    let session = Session::open(std::sync::Arc::new(settings)).await?;
    let newest = view.commit_number()?;
    let local = Local { store: store.id(), newest, listed_from: view.changes_from()?.unwrap_or(newest) };
    let found = state::load(&session.client).await?;
    let at = match state::begin(found.as_ref(), local, false)? {
        Begin::At(at) => at,
        Begin::Scan | Begin::Adopt => {
            let reason = "the database has no complete copy: none was made yet, or the service has run without the \
                          database since; start the service with the database, and it makes one";
            return Err(Error::Setup(reason.to_owned()));
        }
    };
    if at.scan.is_some() {
        return Err(Error::Setup("the first scan has not ended: let the service finish it first".to_owned()));
    }
    let pending = pending(&view, graph, limits, &at)?;
    let report = Report::default();
    let (view, store) = (&view, store.id());
    let mut comparison =
        Comparison { session, view, graph, store, at, limits, pending, repair, wrong: Vec::new(), report };
    for table in Table::ALL {
        if table != Table::Contents || limits.contents {
            comparison.table(table).await?;
        }
    }
    comparison.dependencies().await?;
    comparison.finish(newest).await
}

/// Returns the keys of rows whose changes are not copied yet.
fn pending(view: &View, graph: &Graph, limits: Limits, at: &Position) -> Result<HashSet<Key>, Error> {
    let mut reader = Reader::new(view, graph, limits)?;
    let mut pending = HashSet::new();
    for row in view.changes(at.commit)? {
        pending.extend(reader.keys(row?.1)?);
    }
    Ok(pending)
}

/// The rows of one side, read page by page.
#[derive(Default)]
struct Pages {
    rows: VecDeque<Row>,
    last: Option<Row>,
    ended: bool,
}

impl Pages {
    fn are_used_up(&self) -> bool {
        self.rows.is_empty() && !self.ended
    }

    fn turn(&mut self, page: Vec<Row>) {
        self.ended = page.is_empty();
        self.rows = page.into();
        if let Some(last) = self.rows.back() {
            self.last = Some(last.clone());
        }
    }
}

impl Comparison<'_> {
    async fn table(&mut self, table: Table) -> Result<(), Error> {
        let (mut here, mut there) = (Pages::default(), Pages::default());
        loop {
            if here.are_used_up() {
                let page = keys::page(self.view, self.graph, table, here.last.as_ref(), self.limits.contents)?;
                here.turn(page);
            }
            if there.are_used_up() {
                let page = self.page_there(table, there.last.as_ref()).await?;
                there.turn(page);
            }
            let (here, there) = (&mut here.rows, &mut there.rows);
            let order = match (here.front(), there.front()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => keys::compare(table, one, other),
            };
            self.report.rows += 1;
            let one = if order.is_le() { here.pop_front() } else { None };
            let other = if order.is_ge() { there.pop_front() } else { None };
            self.compare(table, one, other).await?;
        }
    }

    async fn page_there(&self, table: Table, after: Option<&Row>) -> Result<Vec<Row>, Error> {
        let sql = table.page(&self.session.settings.provenance_table, after.is_some(), PAGE);
        let key = after.map(|row| table.key(row)).unwrap_or_default();
        let parameters: Vec<_> = key.iter().map(cells::parameter).collect();
        let rows = self.session.client.query(&sql, &cells::references(&parameters)).await?;
        rows.iter().map(|row| cells::read(table, row)).collect()
    }

    async fn compare(&mut self, table: Table, here: Option<Row>, there: Option<Row>) -> Result<(), Error> {
        let Some(row) = here.as_ref().or(there.as_ref()) else { return Ok(()) };
        let name = || format!("{} {}", table.name(&self.session.settings.provenance_table), table.key_text(row));
        let what = match (&here, &there) {
            (Some(here), Some(there)) => {
                let pairs = here.iter().zip(there).zip(table.columns());
                let columns: Vec<&str> =
                    pairs.filter(|((one, other), _)| !one.is_same(other)).map(|(_, (name, _))| *name).collect();
                if columns.is_empty() {
                    return Ok(());
                }
                format!("{} differs in {}", name(), columns.join(", "))
            }
            (Some(_), None) => format!("{} is missing in the database", name()),
            (None, _) => format!("{} is only in the database", name()),
        };
        let key = keys::key_of(table, row);
        if key.as_ref().is_some_and(|key| self.pending.contains(key)) {
            self.report.pending += 1;
            if !self.repair {
                return Ok(());
            }
        } else {
            self.differs(what);
        }
        if !self.repair {
            return Ok(());
        }
        match key.filter(|_| here.is_some()) {
            Some(key) => self.rewrite(key).await,
            None => self.remove(table, row).await,
        }
    }

    fn differs(&mut self, what: String) {
        self.report.different += 1;
        if self.report.examples.len() < SHOWN {
            self.report.examples.push(what);
        }
    }

    async fn rewrite(&mut self, key: Key) -> Result<(), Error> {
        self.wrong.push(key);
        if self.wrong.len() >= self.limits.rows { self.flush().await } else { Ok(()) }
    }

    /// Writes the rows that differ. The position stays as it is.
    async fn flush(&mut self) -> Result<(), Error> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        let keys = std::mem::take(&mut self.wrong);
        let portion = Reader::new(self.view, self.graph, self.limits)?.rows(keys, &self.at)?;
        let written = self.session.write(self.store, &self.at, &portion).await?;
        self.report.repaired += written.rows;
        Ok(())
    }

    async fn remove(&mut self, table: Table, row: &Row) -> Result<(), Error> {
        let name = table.name(&self.session.settings.provenance_table);
        if let (Table::Records, Some(Cell::Uuid(id))) = (table, row.first()) {
            let sql = "DELETE FROM artifact_dependencies WHERE artifact_id = $1 OR depends_on = $1";
            self.session.client.execute(sql, &[id]).await?;
        }
        let columns = table.columns().iter().take(table.key_columns()).enumerate();
        let filter: Vec<String> = columns.map(|(at, (column, _))| format!("{column} = ${}", at + 1)).collect();
        let parameters: Vec<_> = table.key(row).iter().map(cells::parameter).collect();
        let sql = format!("DELETE FROM {name} WHERE {}", filter.join(" AND "));
        self.report.repaired += self.session.client.execute(&sql, &cells::references(&parameters)).await?;
        Ok(())
    }

    /// Compares the dependencies of each record. Records that only the database has were handled
    /// before.
    async fn dependencies(&mut self) -> Result<(), Error> {
        self.flush().await?;
        let mut after = None;
        loop {
            let records = self.view.record_ids_after(after, PAGE)?;
            let Some(last) = records.last() else { return self.flush().await };
            after = Some(*last);
            let mut there = self.dependencies_there(&records).await?;
            for id in records {
                let here: HashSet<Dependency> = rows::dependencies(self.graph, id).into_iter().collect();
                let there = there.remove(&rows::record_uuid(id)).unwrap_or_default();
                self.report.rows += u64::try_from(here.len().max(there.len())).unwrap_or(u64::MAX);
                self.compare_dependencies(id, &here, &there).await?;
            }
        }
    }

    async fn compare_dependencies(
        &mut self,
        id: RecordId,
        here: &HashSet<Dependency>,
        there: &HashSet<Dependency>,
    ) -> Result<(), Error> {
        let different = here.symmetric_difference(there).count();
        if different == 0 {
            return Ok(());
        }
        if self.pending.contains(&Key::Dependencies(id)) {
            self.report.pending += u64::try_from(different).unwrap_or(u64::MAX);
        } else {
            for (of, on, kind) in here.symmetric_difference(there) {
                let only = if here.contains(&(*of, *on, *kind)) { "is missing in" } else { "is in" };
                self.differs(format!("{DEPENDENCIES} {of}:{on}:{kind} {only} the database"));
            }
        }
        if self.repair { self.rewrite(Key::Dependencies(id)).await } else { Ok(()) }
    }

    async fn dependencies_there(
        &self,
        records: &[RecordId],
    ) -> Result<std::collections::HashMap<Uuid, HashSet<Dependency>>, Error> {
        let ids: Vec<Uuid> = records.iter().map(|id| rows::record_uuid(*id)).collect();
        let sql =
            "SELECT artifact_id, depends_on, dependency_type FROM artifact_dependencies WHERE artifact_id = ANY($1)";
        let mut found: std::collections::HashMap<Uuid, HashSet<Dependency>> = std::collections::HashMap::new();
        for row in self.session.client.query(sql, &[&ids]).await? {
            let (of, on, kind): (Uuid, Uuid, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let kind = match kind.as_str() {
                "consumed" => "consumed",
                "referenced" => "referenced",
                // This service writes no other value.
                _ => "unknown",
            };
            found.entry(of).or_default().insert((of, on, kind));
        }
        Ok(found)
    }

    /// Advances the position past the repaired rows, and counts the rejected ones.
    async fn finish(mut self, newest: CommitNumber) -> Result<Report, Error> {
        if self.repair {
            let to = Position { commit: newest, done: 0, scan: None };
            let numbers = (newest, self.view.log_head()?);
            state::advance(&self.session.client, self.store, &self.at, &to, numbers).await?;
            self.report.pending = 0;
            self.report.different = 0;
        }
        let sql = "SELECT count(*) FROM replication_rejects";
        let rejects: i64 = self.session.client.query_one(sql, &[]).await?.try_get(0)?;
        self.report.rejects = u64::try_from(rejects).unwrap_or(0);
        Ok(self.report)
    }
}
