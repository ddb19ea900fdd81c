//! Faults put into small crates by hand: each is caught.

use std::collections::BTreeSet;

use super::arrows::{self, Row};
use super::circles;
use super::collect::{Sources, read_crate};
use super::tree::Tree;
use super::{doc_comments, map, types};

const LAYERS: &[Row] = &[("low", &[]), ("middle", &["low"]), ("high", &["low", "middle"])];
const ROOMS: &[(&str, &[Row])] = &[("high", &[("below", &[]), ("above", &["below"])])];

const LIB: (&str, &str) = ("src/lib.rs", "pub mod low; pub mod middle; pub mod high;");
const HIGH: (&str, &str) = ("src/high/mod.rs", "mod below; mod above; mod flat; pub use below::Thing;");

/// A crate of the usual modules, with some of its files changed.
fn crate_with(changed: &[(&str, &str)]) -> Tree {
    let usual = [
        LIB,
        HIGH,
        ("src/low.rs", "pub struct Grain; pub fn grind() {}"),
        ("src/middle/mod.rs", "mod first; mod second; pub use first::First; pub use second::Second;"),
        ("src/middle/first.rs", "use crate::low::Grain; pub struct First(Grain);"),
        ("src/middle/second.rs", "use super::First; pub struct Second { first: First }"),
        ("src/high/below.rs", "pub struct Thing;"),
        ("src/high/above.rs", "use super::Thing; pub fn make() -> Thing { Thing }"),
        ("src/high/flat.rs", ""),
    ];
    let files = usual.iter().chain(changed).map(|(file, source)| ((*file).to_owned(), (*source).to_owned()));
    read_crate(&files.collect::<Sources>(), "src/lib.rs")
}

fn wrong_arrows(changed: &[(&str, &str)]) -> Vec<String> {
    arrows::wrong_arrows(&crate_with(changed), LAYERS, ROOMS).into_iter().collect()
}

fn files_in_circles(changed: &[(&str, &str)]) -> Vec<Vec<String>> {
    circles::circles(&circles::file_graph(&crate_with(changed)))
}

/// Asserts that one file with one fault has one wrong arrow.
fn assert_caught(file: &str, source: &str, expected: &str) {
    assert_eq!(wrong_arrows(&[(file, source)]), [format!("{file}:{expected}")]);
}

#[test]
fn a_crate_without_faults_has_none() {
    assert_eq!(wrong_arrows(&[]), Vec::<String>::new());
    assert_eq!(files_in_circles(&[]), Vec::<Vec<String>>::new());
    assert_eq!(arrows::missing_rows(&crate_with(&[]), LAYERS), ["planted"]);
    assert_eq!(arrows::rows_out_of_order(LAYERS), Vec::<&str>::new());
}

#[test]
fn an_upward_import() {
    assert_caught("src/low.rs", "use crate::high::Thing;", "1 names crate::high::Thing, but low may not name high");
}

#[test]
fn an_upward_import_in_a_nested_group() {
    let source = "use std::{fmt, io};\nuse crate::{low::{Grain, grind}, high::{self as top, Thing as Other}};";
    let wrong = wrong_arrows(&[("src/middle/first.rs", source)]);
    assert_eq!(
        wrong,
        [
            "src/middle/first.rs:2 names crate::high, but middle may not name high",
            "src/middle/first.rs:2 names crate::high::Thing, but middle may not name high"
        ]
    );
}

#[test]
fn an_upward_path_by_super() {
    let source = "pub struct First;\nuse super::super::high::Thing;";
    let expected = "2 names super::super::high::Thing, but middle may not name high";
    assert_caught("src/middle/first.rs", source, expected);
}

#[test]
fn an_upward_path_in_an_expression() {
    let source = "pub fn grind() {\n    let _ = crate::high::make();\n}";
    assert_caught("src/low.rs", source, "2 names crate::high::make, but low may not name high");
}

#[test]
fn an_upward_path_in_a_type_a_macro_and_an_attribute() {
    let wrong = wrong_arrows(&[(
        "src/low.rs",
        "pub struct Grain(Option<crate::high::Thing>);\n\
         fn text() { format!(\"{}\", crate::high::SIZE); }\n\
         struct Row { #[serde(with = \"crate::high::form\")] field: u8 }",
    )]);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}

#[test]
fn an_upward_path_by_an_alias() {
    let source = "use crate as root; fn grind() { root::high::make(); }";
    assert_caught("src/low.rs", source, "1 names root::high::make, but low may not name high");
}

#[test]
fn code_of_unit_tests_does_not_count() {
    let source = "#[cfg(test)] mod tests { use crate::high::Thing; } #[cfg(test)] use crate::high::Thing;";
    assert_eq!(wrong_arrows(&[("src/low.rs", source)]), Vec::<String>::new());
}

#[test]
fn an_upward_path_inside_of_a_module() {
    let source = "use super::above::make; pub struct Thing;";
    let expected = "1 names super::above::make, but below may not name above";
    assert_caught("src/high/below.rs", source, expected);
}

#[test]
fn an_upward_path_inside_of_a_module_by_a_re_export() {
    let module = ("src/high/mod.rs", "mod below; mod above; mod flat; pub use above::make; pub use below::Thing;");
    let below = ("src/high/below.rs", "use crate::high::make; pub struct Thing;");
    let expected = "src/high/below.rs:1 names crate::high::make, but below may not name above";
    assert_eq!(wrong_arrows(&[module, below]), [expected]);
}

#[test]
fn a_circle_by_way_of_a_re_export() {
    let first = "use super::Second; pub struct First(Option<Box<Second>>);";
    let found = files_in_circles(&[("src/middle/first.rs", first)]);
    assert_eq!(found, [["src/middle/first.rs", "src/middle/second.rs"]]);
}

#[test]
fn a_circle_by_way_of_a_glob() {
    let second = "use super::*; pub struct Second { first: First }";
    let first = "pub struct First; fn next() -> Option<super::second::Second> { None }";
    let found = files_in_circles(&[("src/middle/first.rs", first), ("src/middle/second.rs", second)]);
    assert_eq!(found, [["src/middle/first.rs", "src/middle/second.rs"]]);
}

#[test]
fn a_circle_of_three_by_expressions() {
    let changed = [
        ("src/high/below.rs", "pub struct Thing; fn up() { super::flat::go(); }"),
        ("src/high/flat.rs", "pub fn go() { let _: fn() = || { crate::high::above::make(); }; }"),
    ];
    assert_eq!(files_in_circles(&changed), [["src/high/above.rs", "src/high/below.rs", "src/high/flat.rs"]]);
}

#[test]
fn a_circle_of_a_module_and_its_child() {
    let module = "mod first; mod second; pub use first::First; pub struct Own;";
    let first = "pub struct First(super::Own);";
    let found = files_in_circles(&[("src/middle/mod.rs", module), ("src/middle/first.rs", first)]);
    assert_eq!(found, [["src/middle/first.rs", "src/middle/mod.rs"]]);
}

#[test]
fn types_that_a_macro_defines_are_found() {
    let changed = [
        ("src/middle/first.rs", "text_id! { pub struct First; }"),
        ("src/middle/second.rs", "pub struct Second { first: super::First }"),
    ];
    let graph = circles::file_graph(&crate_with(&changed));
    assert!(graph["src/middle/second.rs"].contains_key("src/middle/first.rs"));
}

#[test]
fn impl_blocks_in_six_files() {
    let files: Vec<(String, String)> =
        ["a", "b", "c", "d", "e"].map(|name| (format!("src/{name}.rs"), "impl crate::low::Grain {}".to_owned())).into();
    let mut sources: Sources = files.into_iter().collect();
    sources.insert("src/low.rs".to_owned(), "pub struct Grain;".to_owned());
    sources.insert("src/lib.rs".to_owned(), "mod low; mod a; mod b; mod c; mod d; mod e;".to_owned());
    assert!(types::scattered_impls(&read_crate(&sources, "src/lib.rs")).is_empty());
    sources.insert("src/low.rs".to_owned(), "pub struct Grain; impl Clone for Grain {}".to_owned());
    let found = types::scattered_impls(&read_crate(&sources, "src/lib.rs"));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["low::Grain"]);
}

#[test]
fn a_large_struct_that_two_files_change() {
    let fields = |visibility: &str| (0..11).map(|n| format!("{visibility} f{n}: u8,")).collect::<Vec<_>>().concat();
    let shared = |visibility: &str, changed_in: &str| {
        let own = format!("pub struct First {{ {} }} impl First {{ fn set(&mut self) {{}} }}", fields(visibility));
        let other = "pub struct Other; fn set(first: &mut crate::middle::First) {}";
        let tree = crate_with(&[("src/middle/first.rs", &own), (changed_in, other)]);
        types::shared_structs(&tree).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(shared("pub(super)", "src/middle/second.rs"), ["middle::first::First"]);
    assert_eq!(shared("pub(super)", "src/high/flat.rs"), Vec::<String>::new());
    assert_eq!(shared("pub(crate)", "src/high/flat.rs"), ["middle::first::First"]);
    assert_eq!(shared("", "src/middle/second.rs"), Vec::<String>::new());
}

#[test]
fn a_doc_comment_that_repeats_the_name() {
    let source = "/// Its id.\npub id: u8,\n/// When.\npub at: u8,\n/// The verdict.\npub status: u8,\n\
                  /// The id that the\n/// client chose.\npub id: u8,\n/// Removes rows.\npub fn remove_rows();\n";
    let sources = Sources::from([("src/low.rs".to_owned(), source.to_owned())]);
    let expected = ["src/low.rs:1: Its id.", "src/low.rs:3: When.", "src/low.rs:10: Removes rows."];
    assert_eq!(doc_comments::repeated_names(&sources), expected);
}

const MAP: &str = "
## The map

```text
low  ←  { middle ← aside }  ←  high
high: above → below
```

| module | duty | may name |
|---|---|---|
| [`low`] | corn | nothing |
| `middle` | flour | `low` |
| [`high`] | bread, `rolls` | all above |

## Afterwards
| `other` | none | all |
";

#[test]
fn a_map_that_agrees() {
    let map = map::read(MAP);
    assert_eq!(map::table_differences(&map, LAYERS), Vec::<String>::new());
    assert_eq!(map::arrows_without_diagram(&map, "high", ROOMS[0].1), Vec::<String>::new());
    let arrows = &map.arrows[""];
    let expected = [("aside", "middle"), ("high", "aside"), ("high", "middle"), ("middle", "low"), ("aside", "low")];
    assert_eq!(*arrows, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn a_map_that_disagrees() {
    let map = map::read(&MAP.replace("`low` |", "`low`, `high` |").replace("above → below", "below → above"));
    assert_eq!(map::table_differences(&map, LAYERS).len(), 1);
    assert_eq!(map::arrows_against(&map, "high", ROOMS[0].1).len(), 1);
    assert_eq!(map::arrows_without_diagram(&map, "high", ROOMS[0].1).len(), 1);
}
