//! Provenance in format 5: rows that do not say how the order of a record is known, no list of the
//! re-runs of a task, and links by an older rule.
//!
//! Links and flags follow from the rows, so they change by themselves. The audit trail has to show
//! how flags change, in an entry of the upgrade. An edge that the older rule did not make is as new
//! as the upgrade, so that it voids the clears below it.

use std::collections::HashMap;

use redb::{ReadableTable, WriteTransaction};

use super::super::cascade_changes::{self, FlagChanges, StepChange};
use super::super::cascades::{CascadeRow, Cause};
use super::super::codec::decode_grown;
use super::super::codec::encode;
use super::super::lineage::LineageRow;
use super::super::{ChangedKeys, Error, Record, changes, rerun_chains, tables};
use crate::lineage::{Artifact, Flag, Graph, Link, Node, RestoredRecord};
use crate::task::{RecordId, RecordStatus, Seq, Submission, TaskId, Timestamp};

/// Converts everything about provenance.
pub(super) fn convert(transaction: &WriteTransaction) -> Result<(), Error> {
    list_reruns(transaction)?;
    let rows = lineage_rows(transaction)?;
    rebuild(transaction, rows)
}

fn list_reruns(transaction: &WriteTransaction) -> Result<(), Error> {
    let mut reruns = Vec::new();
    for row in transaction.open_table(tables::SUBMISSIONS)?.iter()? {
        let (id, row) = row?;
        let submission: Submission = decode_grown("submissions", row.value())?;
        reruns.extend(submission.rerun_of.map(|repeated| (TaskId::from_bytes(*id.value()), repeated)));
    }
    transaction.open_table(tables::RERUN_CHAIN)?;
    transaction.open_table(tables::CHAIN_RERUNS)?;
    // Ids are in the order of time, so a task comes before its re-runs.
    rerun_chains::insert(transaction, &reruns)
}

/// The rows of all records, with the fields that format 5 lacks.
fn lineage_rows(transaction: &WriteTransaction) -> Result<Vec<(RecordId, LineageRow)>, Error> {
    let records = transaction.open_table(tables::RECORDS)?;
    let mut rows = Vec::new();
    for row in transaction.open_table(tables::LINEAGE)?.iter()? {
        let (id, row) = row?;
        let row: LineageRow = decode_grown("lineage", row.value())?;
        let record: Option<Record> =
            records.get(id.value())?.map(|record| decode_grown("records", record.value())).transpose()?;
        let is_imported = record.is_some_and(|record| record.imported.is_some());
        rows.push((RecordId::from_bytes(*id.value()), if is_imported { row.imported() } else { row }));
    }
    Ok(rows)
}

fn rebuild(transaction: &WriteTransaction, rows: Vec<(RecordId, LineageRow)>) -> Result<(), Error> {
    let cascades = transaction.open_table(tables::CASCADES)?;
    let newest_step = cascades.last()?.map_or(0, |(step, _)| step.value());
    drop(cascades);
    let newest = rows.iter().map(|(_, row)| row.newest()).max().unwrap_or_default().max(Seq(newest_step));
    let upgrade = newest.next();
    let restored = |rows: &[(RecordId, LineageRow)]| {
        let rows: Vec<RestoredRecord> = rows.iter().map(|(id, row)| row.clone().restored(*id)).collect();
        let corrupt = |error: crate::lineage::Error| Error::Corrupt { table: "lineage", detail: error.to_string() };
        Graph::restore(rows, newest).map(|(graph, _)| graph).map_err(corrupt)
    };
    let mut rows = rows;
    let graph = restored(&rows)?;
    for (id, row) in &mut rows {
        let Some(node) = graph.find(*id) else { continue };
        for (artifact, _, link) in graph.inputs(node) {
            let Link::Bound(maker) = link else { continue };
            if older_choice(&graph, node, artifact) != Some(maker) {
                row.bind_at(&graph, artifact, upgrade);
            }
        }
    }
    let graph = restored(&rows)?;
    {
        let mut table = transaction.open_table(tables::LINEAGE)?;
        for node in graph.nodes() {
            let Some(row) = LineageRow::of(&graph, node) else { continue };
            let Some((id, _)) = graph.id_and_project(node) else { continue };
            table.insert(&id.to_bytes(), &encode("lineage", &row)?[..])?;
        }
    }
    // Every row has more fields than before.
    let records = graph.nodes().filter_map(|node| graph.id_and_project(node)).map(|(id, _)| id).collect();
    let is_audited = audit(transaction, &graph, upgrade)?;
    let cascades = is_audited.then_some(upgrade).into_iter().collect();
    changes::list_upgraded(transaction, &ChangedKeys { records, cascades, ..ChangedKeys::default() })
}

/// The rule of format 5: of the records that have not failed, the newest made no later than the
/// consumer started, else the earliest.
fn older_choice(graph: &Graph, consumer: Node, artifact: Artifact) -> Option<Node> {
    let started = graph.record(consumer)?.started_at;
    let known = graph.producers(artifact).filter(|node| *node != consumer);
    let known = known.filter_map(|node| graph.record(node).map(|known| (node, known)));
    let sound = known.filter(|(_, known)| known.status != RecordStatus::Failed);
    let mut sound: Vec<(Timestamp, RecordId, Node)> =
        sound.map(|(node, known)| (known.created_at, known.id, node)).collect();
    sound.sort_unstable();
    let newest = sound.iter().rev().find(|(created, ..)| *created <= started);
    newest.or(sound.first()).map(|(.., node)| *node)
}

/// Adds the flags changed by the upgrade to the audit trail. Returns whether there are any.
fn audit(transaction: &WriteTransaction, graph: &Graph, upgrade: Seq) -> Result<bool, Error> {
    let mut before: HashMap<Seq, Flag> = HashMap::new();
    for row in transaction.open_table(tables::CASCADE_CHANGES)?.iter()? {
        for change in cascade_changes::decode(row?.1.value())? {
            before.insert(change.record, change.to);
        }
    }
    let mut changes = FlagChanges::default();
    let mut records = 0_usize;
    for known in graph.nodes().filter_map(|node| graph.record(node)) {
        let from = before.get(&known.seq).copied().unwrap_or(Flag::Clean);
        if from != known.flag {
            changes.push(StepChange { record: known.seq, from, to: known.flag, depth: 0, through: None });
            records += 1;
        }
    }
    if records == 0 {
        return Ok(false);
    }
    let meta = transaction.open_table(tables::META)?;
    let at = meta.get(tables::LAST_COMMIT_KEY)?.and_then(|at| at.value().try_into().ok().map(i64::from_le_bytes));
    drop(meta);
    let row = CascadeRow {
        at: Timestamp::from_micros(at.unwrap_or(0)),
        cascade_id: "upgrade".to_owned(),
        cause: Cause::Upgrade,
        reason: "the rule that links records has changed with a newer format".to_owned(),
        source: None,
    };
    transaction.open_table(tables::CASCADES)?.insert(upgrade.0, &encode("cascades", &row)?[..])?;
    transaction.open_table(tables::CASCADE_CHANGES)?.insert(upgrade.0, &changes.into_bytes()[..])?;
    tracing::info!(records, "provenance flags changed by the new linking rule");
    Ok(true)
}
