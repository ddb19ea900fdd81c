//! Holds the shape of the source: which module and file may name which, sizes, and headers.
//!
//! `cargo test --locked --test it tidy -- --nocapture` also prints the circles that are still
//! there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

mod arrows;
mod caught;
mod circles;
mod collect;
mod doc_comments;
mod map;
mod shape;
mod tree;
mod types;

use arrows::{LAYERS, ROOMS};
use collect::Sources;
use tree::Tree;

/// Files that still stand in a circle. This list and the next two only shrink: a line that is no
/// longer needed fails the test.
const STILL_IN_CIRCLES: &str = include_str!("still_in_circles.txt");

/// Types whose `impl` blocks still stand in too many files.
const STILL_SCATTERED: &str = include_str!("still_scattered.txt");

/// Large structs that more than one file may still change.
const STILL_SHARED: &str = include_str!("still_shared.txt");

/// Doc comments that only repeat the name below them. The number only falls.
const REPEATED_NAMES: usize = 75;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust sources of the repository.
fn sources() -> Sources {
    let mut sources = Sources::new();
    for folder in ["src", "tests", "benches"] {
        add_sources(&root().join(folder), &mut sources);
    }
    sources
}

fn add_sources(folder: &Path, sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            sources.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn tree() -> &'static Tree {
    static TREE: LazyLock<Tree> = LazyLock::new(|| collect::read_crate(&sources(), "src/lib.rs"));
    &TREE
}

fn architecture() -> map::Map {
    map::read(&fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap())
}

/// Compares what is found with the list of what is still allowed, both ways.
fn assert_only_listed<'a>(found: impl IntoIterator<Item = &'a String>, list: &str, what: &str) {
    let found: BTreeSet<&str> = found.into_iter().map(String::as_str).collect();
    let listed: BTreeSet<&str> = list.lines().collect();
    let new: Vec<&&str> = found.difference(&listed).collect();
    let stale: Vec<&&str> = listed.difference(&found).collect();
    assert!(new.is_empty(), "{what}: {new:#?}");
    assert!(stale.is_empty(), "no longer {what}, take them out of the list: {stale:#?}");
}

#[test]
fn arrows_go_one_way() {
    let missing = arrows::missing_rows(tree(), LAYERS);
    assert!(missing.is_empty(), "modules and rows of LAYERS without each other: {missing:?}");
    let wrong = arrows::wrong_arrows(tree(), LAYERS, ROOMS);
    assert!(wrong.is_empty(), "arrows against the order of modules: {wrong:#?}");
    for rows in ROOMS.iter().map(|(_, rows)| *rows).chain([LAYERS]) {
        assert_eq!(arrows::rows_out_of_order(rows), Vec::<&str>::new(), "a row names one below itself");
    }
}

#[test]
fn the_map_says_the_same_arrows() {
    let map = architecture();
    let wrong = map::table_differences(&map, LAYERS);
    assert!(wrong.is_empty(), "the table in src/ARCHITECTURE.md: {wrong:#?}");
    assert!(map.arrows.contains_key(""), "src/ARCHITECTURE.md has no diagram of the modules");
    let mut wrong = map::arrows_against(&map, "", LAYERS);
    for (module, rows) in ROOMS {
        wrong.extend(map::arrows_against(&map, module, rows));
        wrong.extend(map::arrows_without_diagram(&map, module, rows));
    }
    assert!(wrong.is_empty(), "the diagrams in src/ARCHITECTURE.md: {wrong:#?}");
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let graph = circles::file_graph(tree());
    let found = circles::circles(&graph);
    for circle in &found {
        println!("a circle of {}: {circle:#?} {:#?}", circle.len(), circles::lines_within(&graph, circle));
    }
    assert_only_listed(found.iter().flatten(), STILL_IN_CIRCLES, "in a circle of files");
}

#[test]
fn a_type_has_its_impl_blocks_in_few_files() {
    let found = types::scattered_impls(tree());
    println!("{found:#?}");
    assert_only_listed(found.keys(), STILL_SCATTERED, "types with `impl` blocks in too many files");
}

#[test]
fn a_large_struct_is_changed_by_one_file() {
    let found = types::shared_structs(tree());
    println!("{found:#?}");
    assert_only_listed(found.keys(), STILL_SHARED, "large structs that many files may change");
}

#[test]
fn doc_comments_that_repeat_a_name_become_fewer() {
    let found = doc_comments::repeated_names(&sources());
    println!("{found:#?}");
    assert!(found.len() <= REPEATED_NAMES, "{} of {REPEATED_NAMES} allowed doc comments repeat a name", found.len());
}
