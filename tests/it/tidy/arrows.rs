//! Which module may name which: the table, and the check of every path against it.

use std::collections::BTreeSet;

use super::tree::{Target, Tree};

/// The modules that a module may name, beside itself.
pub(super) type Row = (&'static str, &'static [&'static str]);

/// Modules of the crate, each after those that it may name. `src/ARCHITECTURE.md` shows the same.
pub(super) const LAYERS: &[Row] = &[
    ("task", &[]),
    ("clock", &["task"]),
    ("tls", &[]),
    ("client", &[]),
    ("workload", &["task", "clock", "client"]),
    ("address", &["tls"]),
    ("telemetry", &["task", "clock", "tls", "address"]),
    ("json", &[]),
    ("schema", &["task"]),
    ("legacy", &["task", "json"]),
    ("lineage", &["task"]),
    ("store", &["task", "lineage"]),
    ("wire", &["task", "store", "schema"]),
    ("engine", &["task", "lineage", "clock", "store", "wire"]),
    ("events", &["task", "lineage", "store", "wire", "engine", "json", "schema"]),
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
            "wire",
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
    (
        "cli",
        &[
            "task",
            "lineage",
            "clock",
            "telemetry",
            "tls",
            "address",
            "json",
            "legacy",
            "client",
            "workload",
            "store",
            "engine",
            "events",
            "amqp",
            "routing",
            "transfer",
            "replica",
            "http",
            "config",
            "service",
        ],
    ),
];

/// Modules that every other may name and that name none: they stand outside of the table.
const OPEN_TO_ALL: [&str; 1] = ["planted"];

/// The same inside of a module: its folders, and which of the others each may name. Files beside
/// the folders, but for `mod.rs`, are not held by this.
pub(super) const ROOMS: &[(&str, &[Row])] = &[
    (
        "engine",
        &[
            ("api", &[]),
            ("shared", &["api"]),
            ("state", &["api", "shared"]),
            ("read", &["api", "shared"]),
            ("writer", &["api", "shared", "state", "read"]),
            ("handle", &["api", "shared", "state", "read", "writer"]),
        ],
    ),
    ("http", &[("server", &[]), ("openapi", &["server"]), ("api", &["server", "openapi"])]),
];

/// Paths that name a module which the one they stand in may not name.
pub(super) fn wrong_arrows(tree: &Tree, layers: &[Row], rooms: &[(&str, &[Row])]) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for reference in &tree.references {
        let Some(named) = tree.named_module(reference) else { continue };
        let from = &tree.modules[reference.module];
        let mut tables = vec![layers];
        if let (Some(outer), Some(named_outer)) = (from.path.first(), named.first()) {
            let room = rooms.iter().find(|(name, _)| name == outer && outer == named_outer);
            tables.extend(room.map(|(_, rows)| *rows));
        }
        // Inside of a module a re-export does not hide the folder that defines the item.
        let defined = match tree.resolve(reference) {
            Target::Item(module, _) => Some(&tree.modules[module].path[..]),
            Target::Module(_) | Target::Outside => None,
        };
        let named = defined.filter(|defined| named.len() < 2 && defined.starts_with(named)).unwrap_or(named);
        for (depth, rows) in tables.iter().enumerate() {
            if let (Some(own), Some(other)) = (from.path.get(depth), named.get(depth))
                && !may_name(rows, own, other)
            {
                let place = format!("{}:{} names {}", from.file, reference.line, reference.written());
                wrong.insert(format!("{place}, but {own} may not name {other}"));
            }
        }
    }
    wrong
}

fn may_name(rows: &[Row], own: &str, other: &str) -> bool {
    let Some((_, allowed)) = rows.iter().find(|(name, _)| *name == own) else { return true };
    let is_held = rows.iter().any(|(name, _)| *name == other);
    own == other || !is_held || allowed.contains(&other)
}

/// Modules of the crate that the table does not have, and rows without a module.
pub(super) fn missing_rows(tree: &Tree, layers: &[Row]) -> Vec<String> {
    let modules: BTreeSet<&str> = tree.modules[0].children.keys().map(String::as_str).collect();
    let rows: BTreeSet<&str> = layers.iter().map(|(name, _)| *name).chain(OPEN_TO_ALL).collect();
    modules.symmetric_difference(&rows).map(|&name| name.to_owned()).collect()
}

/// Rows that name a row below themselves: the table would have a circle.
pub(super) fn rows_out_of_order(layers: &[Row]) -> Vec<&'static str> {
    let mut above = BTreeSet::new();
    let mut wrong = Vec::new();
    for (name, allowed) in layers {
        if !allowed.iter().all(|each| above.contains(each)) {
            wrong.push(*name);
        }
        above.insert(*name);
    }
    wrong
}
