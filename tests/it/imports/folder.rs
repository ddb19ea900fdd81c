//! Whole folders through the command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dats::legacy::Line;
use dats::store::Store;
use serde_json::{Value, json};

use crate::support::fixtures::CACHE_BYTES;
use crate::support::invariants;
use crate::support::old_files::{OldFiles, Sizes};
use crate::support::process::{Setup, run};
use crate::support::random::from_environment;

/// The records of a folder by id.
fn records(folder: &Path) -> BTreeMap<String, Value> {
    let mut records = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|extension| extension != "json")
            || name == "taint_events.json"
            || name == "checkpoints.json"
        {
            continue;
        }
        if let Ok(Line::Record(record)) = Line::parse(&fs::read(&path).unwrap()) {
            records.insert(record.name.clone(), Value::Object(record.original.unwrap()));
        }
    }
    records
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Whether a record is suspect, tainted and the rest of it without what the
/// rule may change: the suspicion, and the word for it in the status.
fn taken_apart(record: &Value) -> (bool, bool, Value) {
    let Ok(Line::Record(typed)) = Line::parse(record.to_string().as_bytes()) else { panic!("{record} is a record") };
    let mut rest = record.clone();
    let changed = rest.as_object_mut().unwrap();
    changed.remove("verification_status");
    for (outer, inner) in
        [("verification", "status"), ("taint", "is_suspect"), ("taint", "suspect_since"), ("taint", "suspect_source")]
    {
        if let Some(Value::Object(members)) = changed.get_mut(outer) {
            members.remove(inner);
        }
    }
    // What the record has no words for can have been added.
    if changed.get("verification") == Some(&json!({})) || changed.get("verification") == Some(&Value::Null) {
        changed.remove("verification");
    }
    (typed.taint.is_suspect, typed.taint.is_tainted, rest)
}

/// Every value came back, save suspicion that the rule corrects.
fn assert_same(old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>) -> usize {
    assert_eq!(old.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
    let mut corrected = 0;
    for (id, before) in old {
        let after = &new[id];
        let (was_suspect, was_tainted, mut rest_before) = taken_apart(before);
        let (is_suspect, is_tainted, mut rest_after) = taken_apart(after);
        assert_eq!(was_tainted, is_tainted, "{id}");
        if was_suspect == is_suspect {
            assert_eq!(before, after, "{id}");
            continue;
        }
        corrected += 1;
        if before.get("taint").is_none_or(|taint| !taint.is_object()) {
            // There was no place for the flag.
            rest_before.as_object_mut().unwrap().remove("taint");
            rest_after.as_object_mut().unwrap().remove("taint");
        }
        assert_eq!(rest_before, rest_after, "{id}");
    }
    corrected
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn summary(stdout: &str) -> Value {
    serde_json::from_str::<Value>(stdout).unwrap()["summary"].clone()
}

#[test]
fn what_goes_in_comes_out_with_the_same_values() {
    let mut files = OldFiles::new(from_environment("DATS_SEED", 20_260_201));
    let root = tempfile::tempdir().unwrap();
    let (old, new, third) = (root.path().join("old"), root.path().join("new"), root.path().join("third"));
    let made = files.write(&old, Sizes { records: 250, bad: 12, events: 40, checkpoints: 6 });
    for _ in 0..150 {
        let record = files.any_record();
        let name = format!("{}.json", record["id"].as_str().unwrap());
        fs::write(old.join(name), serde_json::to_string_pretty(&record).unwrap()).unwrap();
    }
    let setup = Setup::new();
    let server = setup.start();
    let ran = run(&server.address, &[], &["import", text(&old), "--output", "json"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let bad: Vec<_> = report["bad"].as_array().unwrap().iter().map(|bad| bad["file"].as_str().unwrap()).collect();
    let mut spoilt: Vec<_> = made.bad.iter().map(|(name, _)| name.as_str()).collect();
    let cycles = report["bad"].as_array().unwrap().iter().filter(|bad| bad["reason"] == "cycle").count();
    let taken = &report["summary"];
    let sent = made.records.len() + 150 + 40 + 6;
    assert_eq!(taken["created"], sent - cycles, "{taken}");
    assert_eq!(taken["unreadable"], spoilt.len());
    spoilt.retain(|name| !bad.contains(name));
    assert!(spoilt.is_empty(), "{spoilt:?} were not told of");

    let ran = run(&server.address, &[], &["export", text(&new)]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    let mut before = records(&old);
    let after = records(&new);
    let left_out: Vec<String> = before.keys().filter(|id| !after.contains_key(*id)).cloned().collect();
    assert_eq!(left_out.len(), cycles);
    before.retain(|id, _| after.contains_key(id));
    let corrected = assert_same(&before, &after);
    assert!(corrected > 0, "nothing was suspect");
    assert_eq!(read(&new.join("taint_events.json")), json!(made.events));
    assert_eq!(read(&new.join("checkpoints.json")), read(&old.join("checkpoints.json")));

    // Again: nothing changes, neither there nor here.
    let again = run(&server.address, &[], &["import", text(&old), "--output", "json"]);
    let second = summary(&again.stdout);
    assert_eq!((&second["created"], &second["updated"]), (&json!(0), &json!(0)));
    assert_eq!(second["unchanged"], sent - cycles);
    let ran = run(&server.address, &[], &["export", text(&new), "--output", "json"]);
    let written: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&written["created"], &written["updated"]), (&json!(0), &json!(0)));

    // The store of the stopped service says the same.
    drop(server);
    let ran = run("nobody", &[], &["export", text(&third), "--data-dir", text(&setup.data_dir())]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    assert_eq!(records(&third), after);
    let store = Store::open(&setup.data_dir(), CACHE_BYTES).unwrap();
    invariants::check(&store, &|_| u32::MAX).unwrap();
    drop(store);

    // And what was exported, imported elsewhere, is the same once more.
    let other = Setup::new();
    let fourth = root.path().join("fourth");
    let ran = run("nobody", &[], &["import", text(&third), "--data-dir", text(&other.data_dir()), "--output", "json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(summary(&ran.stdout)["newly_suspect"], 0);
    let ran = run("nobody", &[], &["export", text(&fourth), "--data-dir", text(&other.data_dir())]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(records(&fourth), after);
}

#[test]
fn an_import_that_was_killed_is_finished_by_the_next() {
    let mut files = OldFiles::new(from_environment("DATS_SEED", 20_260_202));
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    let made = files.write(&old, Sizes { records: 1500, bad: 0, events: 100, checkpoints: 0 });
    let setup = Setup::new();
    let mut server = setup.start();
    let (address, folder) = (server.address.clone(), text(&old).to_owned());
    let importing = std::thread::spawn(move || run(&address, &[], &["import", &folder]));
    let client = crate::support::client::Client::new(&server.address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        while client.get("provenance?limit=1").await.json()["total"].as_u64().unwrap() < 100 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    });
    server.kill();
    let interrupted = importing.join().unwrap();
    assert_eq!(interrupted.code, 3, "{}", interrupted.stderr);
    let store = Store::open(&setup.data_dir(), CACHE_BYTES).unwrap();
    invariants::check(&store, &|_| u32::MAX).unwrap();
    drop(store);

    let server = setup.start();
    let ran = run(&server.address, &[], &["import", text(&old), "--output", "json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let taken = summary(&ran.stdout);
    let unchanged = taken["unchanged"].as_u64().unwrap();
    assert!((100..1600).contains(&unchanged), "{taken}");
    assert_eq!(unchanged + taken["created"].as_u64().unwrap(), 1600);
    assert_eq!(run(&server.address, &[], &["export", text(&new)]).code, 0);
    assert_same(&records(&old), &records(&new));
    assert_eq!(read(&new.join("taint_events.json")), json!(made.events));
}
