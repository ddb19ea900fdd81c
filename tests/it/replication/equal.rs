//! Store and database, held against each other without the code that copies.

use std::collections::BTreeSet;
use std::path::Path;

use dats::lineage::{Flag, Link, Relationship};
use dats::store::{Error, PageBudget, ScanFilter, Store};
use dats::task::{RecordId, Seq};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::postgres::Database;

const CACHE_BYTES: usize = 16 << 20;

/// Compares everything that both sides hold; the service must not run.
pub(crate) async fn assert_equal(data_dir: &Path, database: &Database) {
    let store = open(data_dir);
    let (recovered, view) = (store.recover().unwrap(), store.view().unwrap());
    let client = database.connect().await;
    let mut tasks = BTreeSet::new();
    for id in view.scan(&ScanFilter::default()).unwrap() {
        let id = id.unwrap();
        let (task, submission) = (view.task(id).unwrap().unwrap(), view.submission(id).unwrap().unwrap());
        let (status, phase) = (task.status().as_str(), task.phase().as_str());
        let (project, version, description) = (task.project, task.version, submission.description);
        tasks.insert(format!("{id} {project} {status} {phase} {version} {description}"));
    }
    let sql = "SELECT concat_ws(' ', id, project_id, status, phase, version, description) FROM tasks";
    same("tasks", &tasks, &rows(&client, sql).await);
    let (mut records, mut dependencies) = (BTreeSet::new(), BTreeSet::new());
    let graph = &recovered.graph;
    for node in graph.nodes() {
        let known = graph.record(node).unwrap();
        let (id, flag) = (uuid(known.id), known.flag);
        let (tainted, suspect) = (flag == Flag::Tainted, flag == Flag::Suspect);
        records.insert(format!("{id} {} {} {tainted} {suspect}", known.task, known.status.as_str()));
        for (_, relationship, link) in graph.inputs(node) {
            if let Link::Bound(on) = link {
                let kind = if relationship == Relationship::Consumed { "consumed" } else { "referenced" };
                dependencies.insert(format!("{id} {} {kind}", uuid(graph.record(on).unwrap().id)));
            }
        }
    }
    let sql = "SELECT concat_ws(' ', id, task_id, status, is_tainted::text, is_suspect::text) FROM provenance_records";
    same("records", &records, &rows(&client, sql).await);
    let sql = "SELECT concat_ws(' ', artifact_id, depends_on, dependency_type) FROM artifact_dependencies";
    same("dependencies", &dependencies, &rows(&client, sql).await);
    let (mut facts, mut audit) = (BTreeSet::new(), BTreeSet::new());
    for row in view.cascade_heads_after(Seq(0)).unwrap() {
        let (step, row) = row.unwrap();
        facts.insert(format!("{step} {} {}", row.cascade_id, row.reason));
        let changes = view.cascade_changes(step).unwrap();
        audit.extend(changes.iter().map(|change| format!("{step} {} {}", uuid(change.record), change.depth)));
    }
    same("facts", &facts, &rows(&client, "SELECT concat_ws(' ', position, cascade_id, reason) FROM taint_facts").await);
    same("audit", &audit, &rows(&client, "SELECT concat_ws(' ', position, record_id, depth) FROM taint_events").await);
    let imported = view.imported_events_after(0, PageBudget::UNLIMITED).unwrap().entries.into_iter();
    let imported = imported.map(|(number, event)| format!("{number} {} {}", event.id, event.original)).collect();
    let sql = "SELECT concat_ws(' ', number, event_id, original) FROM imported_taint_events";
    same("imported events", &imported, &rows(&client, sql).await);
    let points = view.checkpoints().unwrap().map(|point| point.unwrap());
    let points = points.map(|point| format!("{} {} {}", point.id, point.provenance_count, point.is_valid)).collect();
    let sql = "SELECT concat_ws(' ', id, provenance_count, is_valid::text) FROM checkpoints";
    same("checkpoints", &points, &rows(&client, sql).await);
    let of = |project: &dats::store::Project| {
        let (archived, paused) = (project.archived_at.is_some(), project.paused_at.is_some());
        format!("{} {} {archived} {paused}", project.id, project.version)
    };
    let projects = recovered.projects.iter().map(of).collect();
    let sql = "SELECT concat_ws(' ', id, version, (archived_at IS NOT NULL)::text, (paused_at IS NOT NULL)::text) \
               FROM projects";
    same("projects", &projects, &rows(&client, sql).await);
    let pauses = recovered.tier_pauses.iter().map(|(tier, pause)| format!("{tier} {}", pause.paused_at.is_some()));
    let sql = "SELECT concat_ws(' ', tier, (paused_at IS NOT NULL)::text) FROM tier_pauses";
    same("paused tiers", &pauses.collect(), &rows(&client, sql).await);
}

fn uuid(id: RecordId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

/// The lock may still be held for a moment by a process that was killed.
fn open(data_dir: &Path) -> Store {
    for _ in 0..500 {
        match Store::open(data_dir, CACHE_BYTES) {
            Err(Error::InUse(_)) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays in use", data_dir.display());
}

async fn rows(client: &Client, sql: &str) -> BTreeSet<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn same(what: &str, here: &BTreeSet<String>, there: &BTreeSet<String>) {
    let missing: Vec<&String> = here.difference(there).take(5).collect();
    let surplus: Vec<&String> = there.difference(here).take(5).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "{what}: only here {missing:#?}, only there {surplus:#?}");
}
