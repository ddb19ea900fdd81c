//! Planted faults: each has a test that must notice it, and no other build has any.

use std::fs;
use std::path::Path;

/// The names of all faults, from their source.
fn names() -> Vec<String> {
    let source = read("src/planted.rs");
    let quoted = source.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split('"').nth(1));
    quoted.map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn each_fault_has_a_test_that_must_notice_it() {
    let script = read("scripts/planted");
    let rows: Vec<Vec<&str>> = script.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    let names = names();
    assert!(names.len() > 5, "{names:?}");
    for name in &names {
        let found = rows.iter().filter(|row| row.len() == 3 && row[0] == name && !row[2].is_empty()).count();
        assert_eq!(found, 1, "rows for {name} in scripts/planted");
    }
}

#[test]
#[cfg(not(feature = "planted"))]
fn a_build_without_the_feature_has_nothing_of_them() {
    let program = fs::read(crate::support::process::BINARY).unwrap();
    for name in names().iter().map(String::as_str).chain(["DATS_PLANTED"]) {
        assert!(memchr::memmem::find(&program, name.as_bytes()).is_none(), "the program contains {name}");
    }
}
