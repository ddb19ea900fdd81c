//! Reads the map in `src/ARCHITECTURE.md`: the diagrams with arrows, and the table of what each
//! module may name.

use std::collections::{BTreeMap, BTreeSet};

use super::arrows::Row;

/// What the section "The map" says.
#[derive(Default)]
pub(super) struct Map {
    /// The table: each module with those that it may name.
    pub(super) table: BTreeMap<String, BTreeSet<String>>,
    /// Diagrams: the module whose inside a diagram shows, or `""` for the crate; and its arrows,
    /// from the module that names to the one that is named.
    pub(super) arrows: BTreeMap<String, BTreeSet<(String, String)>>,
}

/// Reads the section.
///
/// A line of a diagram is `a ← b` (`b` may name `a`) or `b → a`, in any length, with `{ b, c }` for
/// modules side by side. `engine: b → a` shows the inside of `engine`. In the table, "nothing",
/// "all above", "all" and "all but" have their meaning.
pub(super) fn read(document: &str) -> Map {
    let section = document.split("\n## ").find(|section| section.starts_with("The map")).unwrap_or_default();
    let mut map = Map::default();
    let mut rows: Vec<(String, String)> = Vec::new();
    for line in section.lines() {
        if let Some(row) = line.strip_prefix("| ") {
            let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").collect();
            if let (Some(name), Some(last)) = (quoted(cells[0]).first(), cells.last()) {
                rows.push((name.clone(), (*last).to_owned()));
            }
        } else if line.contains(['←', '→']) && !line.contains(['│', '▼']) {
            let (module, diagram) = line.split_once(':').map_or(("", line), |(module, rest)| (module.trim(), rest));
            map.arrows.entry(module.to_owned()).or_default().extend(arrows(diagram));
        }
    }
    let all: Vec<String> = rows.iter().map(|(name, _)| name.clone()).collect();
    for (index, (name, cell)) in rows.into_iter().enumerate() {
        let named: BTreeSet<String> = quoted(&cell).into_iter().collect();
        let allowed = if cell.contains("all but") {
            all.iter().filter(|each| !named.contains(*each) && **each != name).cloned().collect()
        } else if cell.contains("all above") {
            all[..index].iter().cloned().collect()
        } else if cell.trim() == "all" {
            all.iter().filter(|each| **each != name).cloned().collect()
        } else {
            named
        };
        map.table.insert(name, allowed);
    }
    map
}

/// Words in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Arrows of one line, from the module that names to the one that is named.
fn arrows(diagram: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    chain(&tokens(diagram), &mut 0, &mut found);
    found
}

fn tokens(diagram: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in diagram.chars() {
        let belongs = c.is_ascii_lowercase() || c == '_';
        match tokens.last_mut() {
            Some(last) if belongs && in_word => last.push(c),
            _ if belongs || matches!(c, '←' | '→' | '{' | '}' | ',') => tokens.push(c.to_string()),
            _ => {}
        }
        in_word = belongs;
    }
    tokens
}

/// Reads `a ← { b ← c, d } ← e` up to the end or a closing brace, and returns all its modules.
fn chain(tokens: &[String], at: &mut usize, found: &mut BTreeSet<(String, String)>) -> Vec<String> {
    let mut all = Vec::new();
    let mut left: Vec<String> = Vec::new();
    let mut arrow = String::new();
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        let right = match token.as_str() {
            "}" => break,
            "{" => chain(tokens, at, found),
            "←" | "→" => {
                arrow.clone_from(token);
                continue;
            }
            "," => {
                arrow.clear();
                left.clear();
                continue;
            }
            word => vec![word.to_owned()],
        };
        for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
            match arrow.as_str() {
                "←" => found.insert((b.clone(), a.clone())),
                "→" => found.insert((a.clone(), b.clone())),
                _ => false,
            };
        }
        all.extend(right.iter().cloned());
        left = right;
    }
    all
}

/// Differences between the map's table and the tests' own.
pub(super) fn table_differences(map: &Map, layers: &[Row]) -> Vec<String> {
    let ours: BTreeMap<&str, BTreeSet<&str>> =
        layers.iter().map(|(name, allowed)| (*name, allowed.iter().copied().collect())).collect();
    let names: BTreeSet<&str> = ours.keys().copied().chain(map.table.keys().map(String::as_str)).collect();
    let mut wrong = Vec::new();
    for name in names {
        let in_map: BTreeSet<&str> = map.table.get(name).into_iter().flatten().map(String::as_str).collect();
        let in_test = ours.get(name).cloned().unwrap_or_default();
        if in_map != in_test || map.table.contains_key(name) != ours.contains_key(name) {
            wrong.push(format!("{name}: the map says {in_map:?}, tidy says {in_test:?}"));
        }
    }
    wrong
}

/// Arrows of a diagram that the table does not have, be it by way of others.
pub(super) fn arrows_against(map: &Map, module: &str, rows: &[Row]) -> Vec<String> {
    let arrows = map.arrows.get(module).into_iter().flatten();
    let wrong = arrows.filter(|(from, to)| !reaches(rows, from, to) || reaches(rows, to, from));
    wrong.map(|(from, to)| format!("the map of {module:?} says {from} may name {to}")).collect()
}

/// Arrows of a table that the diagram does not have, be it by way of others.
pub(super) fn arrows_without_diagram(map: &Map, module: &str, rows: &[Row]) -> Vec<String> {
    let Some(arrows) = map.arrows.get(module) else { return vec![format!("no diagram of {module}")] };
    let mut wrong = Vec::new();
    for (from, allowed) in rows {
        for to in *allowed {
            if !follows(arrows, from, to) {
                wrong.push(format!("the map of {module} does not say that {from} may name {to}"));
            }
        }
    }
    wrong
}

fn reaches(rows: &[Row], from: &str, to: &str) -> bool {
    let Some((_, allowed)) = rows.iter().find(|(name, _)| *name == from) else { return false };
    allowed.contains(&to) || allowed.iter().any(|next| reaches(rows, next, to))
}

fn follows(arrows: &BTreeSet<(String, String)>, from: &str, to: &str) -> bool {
    arrows.iter().any(|(a, b)| a == from && (b == to || follows(arrows, b, to)))
}
