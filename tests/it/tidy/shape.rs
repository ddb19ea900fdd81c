//! Rules that the text of a file shows: sizes, headers, words that a folder may not use, and
//! containers that the writer may not keep.

use std::collections::BTreeSet;

use super::{sources, tree};

#[test]
fn the_core_reads_no_clock_and_does_no_io() {
    for (path, source) in sources() {
        if path.starts_with("src/task/") || path.starts_with("src/lineage/") {
            for word in ["std::fs", "std::net", "std::io", "std::thread", "tokio", "redb", "SystemTime", "Instant"] {
                assert!(!source.contains(word), "{path} names {word}");
            }
        }
    }
}

/// So the simulated disk has all of them.
#[test]
fn the_store_makes_its_file_operations_in_one_place() {
    // The ballast holds nothing, the room is the free space of the real disk, and the file
    // past the cache is one of the system's own.
    let own = ["/files.rs", "/direct_file.rs", "/ballast.rs", "/room.rs"];
    for (path, source) in sources() {
        let is_own = own.iter().any(|name| path.ends_with(name)) || path.ends_with("tests.rs");
        if path.starts_with("src/store/") && !is_own {
            for word in ["fs::read", "fs::write", "fs::remove", "fs::rename", "fs::create", " File::", "OpenOptions"] {
                assert!(!source.contains(word), "{path} names {word}");
            }
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (path, source) in sources() {
        let lines = source.lines().count();
        assert!(lines <= 500, "{path} has {lines} lines");
        assert!(source.starts_with("//!"), "{path} does not begin with `//!`");
    }
}

#[test]
fn no_lint_is_switched_off_without_a_reason() {
    for (path, source) in sources() {
        for (number, line) in source.lines().enumerate() {
            let switch = ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|each| line.contains(each));
            let quoted = path.ends_with("tidy/shape.rs");
            assert!(!switch || quoted || line.contains("reason"), "{path}:{} has no reason", number + 1);
        }
    }
}

/// Structs under `src/engine`, and these files of the core, keep what clients can make grow.
const STATE_OF_THE_WRITER: [&str; 3] = ["src/engine/", "src/task/admission.rs", "src/task/line.rs"];

/// Fields that may be containers which move all their content when they grow: they stay small, or
/// live for a moment.
const SMALL_CONTAINERS: [&str; 24] = [
    // Changes of one group of commands, and of one plan.
    "AffectedTasks.by_artifact",
    "IdempotencyKeys.new_answers",
    "ImportedEvents.digests",
    "Projects.counted",
    "ProvenanceGraph.changed",
    "Records.changed",
    "Records.findings",
    "Records.unlisted",
    "RemovedTasks.ids",
    "Statements.cascades",
    "Statements.changed",
    "Tasks.changed",
    "Tasks.stored",
    // Values looked up by one walk or one preview.
    "RolledBack.known",
    "Roots.known",
    "StatementLookup.is_same",
    // Has its capacity of 16 384 tasks from the beginning.
    "RecentUsers.tasks",
    // At most 4096 tasks.
    "OpenTasks.decoded",
    "OpenTasks.kept",
    // At most 10 000 entries of the audit trail.
    "DeadLetters.removals",
    // At most 16 384 verdicts.
    "Parking.by_task",
    // Addresses of chunks: 8 bytes for many items.
    "ChunkedQueue.chunks",
    // The minutes of a day.
    "RecentEnds.minutes",
    // Ids of projects, each once.
    "FairLine.turns",
];

#[test]
fn what_the_writer_keeps_grows_without_being_moved() {
    let tree = tree();
    let (mut moving, mut wrong) = (BTreeSet::new(), Vec::new());
    for item in &tree.structs {
        let file = tree.file(item.module);
        if !STATE_OF_THE_WRITER.iter().any(|kept| file.starts_with(kept)) {
            continue;
        }
        for field in &item.fields {
            let Some(outermost) = field.type_names.first() else { continue };
            if ["HashMap", "HashSet", "VecDeque"].contains(&outermost.as_str()) && !field.is_reference {
                let name = format!("{}.{}", item.name, field.name);
                if !SMALL_CONTAINERS.contains(&name.as_str()) {
                    wrong.push(format!("{file}: {name}"));
                }
                moving.insert(name);
            }
        }
    }
    assert!(wrong.is_empty(), "these move all their content when they grow: {wrong:#?}");
    let stale: Vec<_> = SMALL_CONTAINERS.iter().filter(|name| !moving.contains(**name)).collect();
    assert!(stale.is_empty(), "no longer fields that move their content: {stale:?}");
}
