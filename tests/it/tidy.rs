//! The shape of the source holds: sizes, headers, and the direction in which
//! modules may know of each other.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules in the order of the arrows: each may name those before it, and
/// itself. `clock`, `telemetry`, `json`, `schema` and `tls` are leaves beside `task`.
const LAYERS: [(&str, &[&str]); 20] = [
    ("task", &[]),
    ("clock", &["task"]),
    ("tls", &[]),
    ("workload", &[]),
    ("address", &["tls"]),
    ("telemetry", &["task", "clock", "tls", "address"]),
    ("json", &[]),
    ("schema", &["task"]),
    ("legacy", &["task", "json"]),
    ("lineage", &["task"]),
    ("store", &["task", "lineage"]),
    ("engine", &["task", "lineage", "clock", "store"]),
    ("events", &["task", "lineage", "store", "engine", "json", "schema"]),
    ("amqp", &["task", "clock", "telemetry", "store", "engine", "events", "json", "tls"]),
    ("routing", &["task", "clock", "telemetry", "engine", "json", "tls", "address"]),
    ("transfer", &["task", "lineage", "store", "engine", "json", "legacy"]),
    ("replica", &["task", "lineage", "clock", "store", "engine", "tls"]),
    (
        "http",
        &[
            "task",
            "lineage",
            "clock",
            "telemetry",
            "store",
            "engine",
            "events",
            "amqp",
            "routing",
            "replica",
            "transfer",
            "json",
            "schema",
            "legacy",
        ],
    ),
    ("config", &["task", "address", "amqp", "routing", "replica"]),
    (
        "service",
        &[
            "task",
            "address",
            "clock",
            "telemetry",
            "store",
            "engine",
            "events",
            "amqp",
            "routing",
            "replica",
            "http",
            "config",
            "tls",
        ],
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<(PathBuf, String)> {
    let dirs = ["src", "tests", "benches"].map(|dir| root().join(dir));
    let files = dirs.iter().filter(|dir| dir.exists()).flat_map(|dir| rust_files(dir));
    files.map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

/// The first path segment after each `crate::` of a source.
fn named_modules(source: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.collect::<Vec<_>>().join("\n");
    let segments = code.split("crate::").skip(1);
    segments.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn arrows_go_one_way() {
    let mut wrong = Vec::new();
    for (path, source) in sources() {
        let Ok(inside) = path.strip_prefix("src") else { continue };
        let module = inside.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else { continue };
        for named in named_modules(&source) {
            let is_module = LAYERS.iter().any(|(name, _)| *name == named) || named == "cli";
            if is_module && named != module && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{} names crate::{named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows against the order of modules:\n{}", wrong.join("\n"));
}

#[test]
fn the_core_reads_no_clock_and_does_no_io() {
    for (path, source) in sources() {
        if path.starts_with("src/task") || path.starts_with("src/lineage") {
            for word in ["std::fs", "std::net", "std::io", "std::thread", "tokio", "redb", "SystemTime", "Instant"] {
                assert!(!source.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

/// So the simulated disk has all of them.
#[test]
fn the_store_makes_its_file_operations_in_one_place() {
    // The ballast holds nothing, the room is the free space of the real disk, and the file
    // past the cache is one of the system's own.
    let own = ["files.rs", "direct.rs", "ballast.rs", "room.rs"];
    for (path, source) in sources() {
        let is_own = own.iter().any(|name| path.ends_with(name)) || path.to_string_lossy().ends_with("tests.rs");
        if path.starts_with("src/store") && !is_own {
            for word in ["fs::read", "fs::write", "fs::remove", "fs::rename", "fs::create", " File::", "OpenOptions"] {
                assert!(!source.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (path, source) in sources() {
        let lines = source.lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
        assert!(source.starts_with("//!"), "{} does not begin with `//!`", path.display());
    }
}

#[test]
fn no_lint_is_switched_off_without_a_reason() {
    for (path, source) in sources() {
        for (number, line) in source.lines().enumerate() {
            let switch = ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|each| line.contains(each));
            let quoted = path.ends_with("tidy.rs");
            assert!(!switch || quoted || line.contains("reason"), "{}:{} has no reason", path.display(), number + 1);
        }
    }
}

/// Where the writer keeps what others can make grow.
const STATE_OF_THE_WRITER: [&str; 16] = [
    "src/engine/checkpoint.rs",
    "src/engine/dead_letters.rs",
    "src/engine/hot.rs",
    "src/engine/lines.rs",
    "src/engine/machine.rs",
    "src/engine/memory.rs",
    "src/engine/open.rs",
    "src/engine/parking.rs",
    "src/engine/plan.rs",
    "src/engine/provenance.rs",
    "src/engine/routing.rs",
    "src/engine/shown.rs",
    "src/engine/users.rs",
    "src/engine/workers.rs",
    "src/task/admission.rs",
    "src/task/line.rs",
];

/// Fields of these files that may be containers which move what they hold when they
/// grow, since they stay small.
const SMALL_CONTAINERS: [&str; 9] = [
    // What one group, or one plan, changes.
    "src/engine/machine.rs: changed",
    "src/engine/provenance.rs: changed",
    "src/engine/users.rs: by_artifact",
    // 4096 tasks at most.
    "src/engine/open.rs: decoded",
    "src/engine/open.rs: kept",
    // 16 384 verdicts at most.
    "src/engine/parking.rs: by_task",
    // Has its whole room from the beginning.
    "src/engine/plan.rs: tasks",
    // The minutes of a day.
    "src/engine/memory.rs: minutes",
    // The id of each project, once at most.
    "src/task/line.rs: turns",
];

#[test]
fn what_the_writer_keeps_grows_without_being_moved() {
    let moving = ["HashMap<", "HashSet<", "VecDeque<"];
    let mut wrong = Vec::new();
    for file in STATE_OF_THE_WRITER {
        let source = fs::read_to_string(root().join(file)).unwrap();
        // A field, and not a part of a function.
        let fields = source.lines().take_while(|line| !line.contains("#[cfg(test)]")).filter(|line| {
            line.starts_with("    ") && line.ends_with(',') && !line.contains('(') && !line.contains("papaya")
        });
        for line in fields {
            let Some((name, kind)) = line.trim().split_once(": ") else { continue };
            let field = format!("{file}: {}", name.rsplit(' ').next().unwrap());
            if moving.iter().any(|each| kind.starts_with(each)) && !SMALL_CONTAINERS.contains(&field.as_str()) {
                wrong.push(field);
            }
        }
    }
    assert!(wrong.is_empty(), "these move all they hold when they grow:\n{}", wrong.join("\n"));
}
