//! Whole directories, read and written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use dats::legacy::{Folder, FolderWriter, Kind, Line, Reason, Written};
use serde_json::{Value, json};

use crate::support::old_files::{OldFiles, Sizes};
use crate::support::random::from_environment;

fn lines(folder: &Path, kind: Kind) -> Vec<Value> {
    let opened = Folder::open(folder).unwrap();
    let lines = opened.entries().flatten().map(|found| found.line).filter(|line| line.kind() == kind);
    lines.map(|line| Value::Object(line.original().unwrap().clone())).collect()
}

fn bad(folder: &Path) -> Vec<(String, Reason)> {
    let opened = Folder::open(folder).unwrap();
    opened.entries().filter_map(Result::err).map(|bad| (bad.file, bad.invalid.reason)).collect()
}

/// All files with their bytes and when they were written.
fn contents(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let read = |entry: fs::DirEntry| {
        let modified = entry.metadata().unwrap().modified().unwrap();
        (entry.file_name().into_string().unwrap(), (fs::read(entry.path()).unwrap(), modified))
    };
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

fn copy(from: &Path, to: &Path) -> Vec<Option<Written>> {
    let mut writer = FolderWriter::open(to).unwrap();
    let opened = Folder::open(from).unwrap();
    let mut written: Vec<_> = opened.entries().flatten().map(|found| writer.put(&found.line).unwrap()).collect();
    written.extend(writer.finish().unwrap().map(Some));
    written
}

#[test]
fn good_and_bad_files_come_in_order() {
    let mut files = OldFiles::new(from_environment("DATS_SEED", 20_260_117));
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("old");
    let made = files.write(&folder, Sizes { records: 300, bad: 40, events: 50, checkpoints: 7 });
    assert_eq!(lines(&folder, Kind::Record), made.records);
    assert_eq!(lines(&folder, Kind::TaintEvent), made.events);
    assert_eq!(lines(&folder, Kind::Checkpoint), made.checkpoints);
    assert_eq!(bad(&folder), made.bad);
    let opened = Folder::open(&folder).unwrap();
    let mut entries = opened.entries();
    assert_eq!((opened.file_count(), entries.by_ref().count()), (302, 357));
    assert_eq!(entries.files_read(), 302);
}

#[test]
fn what_was_read_is_written_with_the_same_values() {
    let mut files = OldFiles::new(from_environment("DATS_SEED", 20_260_118));
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    files.write(&old, Sizes { records: 100, bad: 0, events: 30, checkpoints: 4 });
    assert!(copy(&old, &new).iter().all(|written| written.is_none_or(|written| written == Written::Created)));
    for kind in [Kind::Record, Kind::TaintEvent, Kind::Checkpoint] {
        assert_eq!(lines(&old, kind), lines(&new, kind), "{kind:?}");
    }
    // Again, nothing is touched.
    let before = contents(&new);
    assert!(copy(&old, &new).iter().all(|written| written.is_none_or(|written| written == Written::Unchanged)));
    assert_eq!(before, contents(&new));
    assert_eq!(before.len(), 102);
    // What has changed is written, and nothing else.
    let (name, _) = before.first_key_value().unwrap();
    let mut changed: Value = serde_json::from_slice(&before[name].0).unwrap();
    changed["project_id"] = json!("another");
    fs::write(old.join(name), changed.to_string()).unwrap();
    let updated = copy(&old, &new).iter().filter(|written| **written == Some(Written::Updated)).count();
    assert_eq!(updated, 1);
    let after = contents(&new);
    let differ: Vec<_> = before.iter().filter(|(name, was)| after[*name] != **was).map(|(name, _)| name).collect();
    assert_eq!(differ, [name]);
}

#[test]
fn files_with_the_same_record_are_told_of() {
    let mut files = OldFiles::new(from_environment("DATS_SEED", 20_260_119));
    let root = tempfile::tempdir().unwrap();
    let (folder, record, other) = (root.path(), files.record(), files.record());
    let proper = format!("{}.json", record["id"].as_str().unwrap());
    for name in ["0 copy.json", &proper, "zz copy.json"] {
        fs::write(folder.join(name), record.to_string()).unwrap();
    }
    for name in ["first.json", "second.json"] {
        fs::write(folder.join(name), other.to_string()).unwrap();
    }
    let event = files.event(std::slice::from_ref(&record));
    fs::write(folder.join("taint_events.json"), json!([event, event]).to_string()).unwrap();
    let checkpoint = files.checkpoint();
    fs::write(folder.join("checkpoints.json"), json!({"another": checkpoint}).to_string()).unwrap();
    fs::create_dir(folder.join("directory.json")).unwrap();
    let expected = [
        ("0 copy.json", Reason::Duplicate),
        ("directory.json", Reason::Unreadable),
        ("second.json", Reason::Duplicate),
        ("zz copy.json", Reason::Duplicate),
        ("taint_events.json", Reason::Duplicate),
        ("checkpoints.json", Reason::BadValue),
    ];
    assert_eq!(bad(folder), expected.map(|(name, reason)| (name.to_owned(), reason)));
    assert_eq!(lines(folder, Kind::Record).len(), 2);
}

#[test]
fn a_list_takes_its_place_whole_or_not_at_all() {
    let mut files = OldFiles::new(from_environment("DATS_SEED", 20_260_120));
    let root = tempfile::tempdir().unwrap();
    let line = |value: &Value| Line::parse(value.to_string().as_bytes()).unwrap();
    let events: Vec<Value> = (0..3).map(|_| files.event(&[])).collect();
    let path = root.path().join("taint_events.json");
    let names = || fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();

    // Given up in the middle, nothing is left.
    let mut writer = FolderWriter::open(root.path()).unwrap();
    writer.put(&line(&events[0])).unwrap();
    assert_eq!(names().len(), 1);
    drop(writer);
    assert!(names().is_empty());

    // What nobody can read is put aside, not overwritten.
    fs::write(&path, "[{\"id\": \"e\", \"action\"").unwrap();
    let mut writer = FolderWriter::open(root.path()).unwrap();
    for event in &events {
        writer.put(&line(event)).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), [Written::Updated, Written::Unchanged]);
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap(), json!(events));
    assert_eq!(fs::read(root.path().join("taint_events.json.damaged")).unwrap(), b"[{\"id\": \"e\", \"action\"");

    // A list without elements replaces nothing.
    assert_eq!(FolderWriter::open(root.path()).unwrap().finish().unwrap(), [Written::Unchanged; 2]);
    assert!(path.exists());
}

/// The bytes are those that Python's `json.dump(..., indent=2)` writes, so a
/// directory that was imported and exported in its place is left alone.
#[test]
fn files_of_the_old_program_keep_their_bytes() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    fs::create_dir(&old).unwrap();
    let record = include_bytes!("../golden/old_record.json");
    let events = include_bytes!("../golden/old_taint_events.json");
    let checkpoints = include_bytes!("../golden/old_checkpoints.json");
    let name = "0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11.json";
    fs::write(old.join(name), record).unwrap();
    fs::write(old.join("taint_events.json"), events).unwrap();
    fs::write(old.join("checkpoints.json"), checkpoints).unwrap();
    assert!(bad(&old).is_empty(), "{:?}", bad(&old));
    copy(&old, &new);
    let bytes = |name: &str| String::from_utf8(fs::read(new.join(name)).unwrap()).unwrap();
    assert_eq!(bytes(name), String::from_utf8_lossy(record));
    assert_eq!(bytes("taint_events.json"), String::from_utf8_lossy(events));
    assert_eq!(bytes("checkpoints.json"), String::from_utf8_lossy(checkpoints));
}
