//! `dats provenance`: how a result came about, and what was made of it.

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Cell, Color};
use serde_json::Value;

use super::exit::Failure;
use super::list::{Page, show_pages};
use super::output::{Screen, line, text};
use super::session::Session;
use crate::client::{segment, with_query};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Show a record.
    Show {
        /// The record, or an artifact it made.
        id: String,
    },
    /// List records, newest first.
    List(Filter),
    /// List what was made out of a record, directly or not.
    Dependents(Walk),
    /// List what a record was made out of, directly or not.
    Dependencies(Walk),
    /// Show how far a record reaches.
    Impact(Reach),
    /// Show the taints that a record's suspicion comes from.
    RootCause(Reach),
    /// Show the shortest path from a record to one made out of it.
    Path {
        /// What was used: a record, or an artifact it made.
        from: String,
        /// What was made of it.
        to: String,
        #[command(flatten)]
        page: Page,
    },
    /// Print a record with what is around it as a document.
    Export {
        /// The record, or an artifact it made.
        id: String,
        /// Form of the document.
        #[arg(long, value_enum, default_value = "dot")]
        format: Document,
        /// How far it goes; 3 without it.
        #[arg(long)]
        depth: Option<u32>,
        /// Only what it was made out of, or only what was made out of it.
        #[arg(long, value_enum, default_value = "both")]
        direction: Direction,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Direction {
    /// Both.
    Both,
    /// What it was made out of.
    Dependencies,
    /// What was made out of it.
    Dependents,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Document {
    /// Graphviz.
    Dot,
    /// W3C PROV-JSON.
    Prov,
    /// The record alone, as a file of the old program.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Walk {
    /// The record, or an artifact it made.
    id: String,
    /// How far to go; to the end without it.
    #[arg(long)]
    depth: Option<u32>,
    /// Only the nearest.
    #[arg(long, conflicts_with = "depth")]
    direct: bool,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, Args)]
pub(super) struct Reach {
    /// The record, or an artifact it made.
    id: String,
    /// How far to go; to the end without it.
    #[arg(long)]
    depth: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only of this project.
    #[arg(long)]
    project: Option<String>,
    /// Only of this task.
    #[arg(long)]
    task: Option<String>,
    /// Only with this verdict.
    #[arg(long, value_parser = ["pending", "passed", "failed", "human_approved"])]
    status: Option<String>,
    /// Only tainted ones.
    #[arg(long)]
    tainted: bool,
    /// Only suspect ones.
    #[arg(long)]
    suspect: bool,
    /// Only made by this model.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    page: Page,
}

/// The fields of a record worth seeing first.
pub(super) const RECORD_FIELDS: [&str; 14] = [
    "id",
    "provenance_id",
    "task_id",
    "project_id",
    "status",
    "flag",
    "tainted_at",
    "tainted_reason",
    "model_used",
    "worker_id",
    "tier",
    "domain",
    "attempt",
    "artifacts",
];

pub(super) async fn run(session: &Session, action: &Action) -> Result<(), Failure> {
    let path = |id: &str, rest: &str| format!("/provenance/{}{rest}", segment(id));
    match action {
        Action::Show { id } => {
            let answer = session.client.get(&path(id, "")).await?;
            session.screen.show(&answer, |screen, record| screen.details(record, &RECORD_FIELDS))
        }
        Action::List(filter) => show_pages(session, "/provenance", filter.query(), &filter.page, record_table).await,
        Action::Dependents(walk) => around(session, &path(&walk.id, "/dependents"), "dependents", walk).await,
        Action::Dependencies(walk) => around(session, &path(&walk.id, "/dependencies"), "dependencies", walk).await,
        Action::Impact(reach) => {
            let answer = session.client.get(&reach.path("/impact")).await?;
            session.screen.show(&answer, |screen, impact| screen.details(impact, &RECORD_FIELDS))
        }
        Action::RootCause(reach) => {
            let answer = session.client.get(&reach.path("/root-cause")).await?;
            session.screen.show(&answer, causes)
        }
        Action::Path { from, to, page } => {
            let ends = vec![("from", Some(from.clone())), ("to", Some(to.clone()))];
            show_pages(session, "/provenance/path", ends, page, |_, page| tree(items(&page["path"]))).await
        }
        Action::Export { id, format, depth, direction } => {
            let format = match format {
                Document::Dot => "dot",
                Document::Prov => "prov",
                Document::Json => "json",
            };
            let direction = match direction {
                Direction::Both => None,
                Direction::Dependencies => Some("dependencies".to_owned()),
                Direction::Dependents => Some("dependents".to_owned()),
            };
            let depth = depth.map(|depth| depth.to_string());
            let query = [("format", Some(format.to_owned())), ("depth", depth), ("direction", direction)];
            let document = session.client.get_text(&with_query(&path(id, "/export"), &query)).await?;
            line(document.trim_end())
        }
    }
}

impl Action {
    /// The same as a drawing; none where nothing can be drawn.
    pub(super) fn drawn(self) -> Option<Self> {
        let draw = |id, depth, direction| Some(Self::Export { id, format: Document::Dot, depth, direction });
        let side = |walk: Walk, direction| {
            let depth = if walk.direct { 1 } else { walk.depth.unwrap_or(u32::MAX) };
            draw(walk.id, Some(depth), direction)
        };
        match self {
            Self::Show { id } => draw(id, None, Direction::Both),
            Self::Dependents(walk) => side(walk, Direction::Dependents),
            Self::Dependencies(walk) => side(walk, Direction::Dependencies),
            Self::Export { id, depth, direction, .. } => draw(id, depth, direction),
            Self::List(_) | Self::Impact(_) | Self::RootCause(_) | Self::Path { .. } => None,
        }
    }
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, Option<String>)> {
        let yes = |wanted: bool| wanted.then(|| "true".to_owned());
        vec![
            ("project_id", self.project.clone()),
            ("task_id", self.task.clone()),
            ("status", self.status.clone()),
            ("tainted", yes(self.tainted)),
            ("suspect", yes(self.suspect)),
            ("model", self.model.clone()),
        ]
    }
}

impl Reach {
    fn path(&self, rest: &str) -> String {
        let depth = self.depth.map(|depth| depth.to_string());
        with_query(&format!("/provenance/{}{rest}", segment(&self.id)), &[("depth", depth)])
    }
}

async fn around(session: &Session, path: &str, name: &'static str, walk: &Walk) -> Result<(), Failure> {
    let depth = if walk.direct { Some(1) } else { walk.depth };
    let query = vec![("depth", depth.map(|depth| depth.to_string()))];
    show_pages(session, path, query, &walk.page, move |screen, page| entry_table(screen, items(&page[name]), name))
        .await
}

/// A line of ids, and how many there are in `total` beside those that an answer
/// lists; none where there are none.
pub(super) fn list_line(what: &str, listed: &[Value], total: &Value) -> Option<String> {
    let ids: Vec<String> = listed.iter().map(text).collect();
    let count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    let more = match total.as_u64().unwrap_or(0).saturating_sub(count) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (count > 0).then(|| format!("{what}: {}{more}", ids.join(", ")))
}

/// The entries of a list.
pub(super) fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn names(artifacts: &Value) -> String {
    let names: Vec<String> = items(artifacts).iter().map(text).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

/// What a record is now, in the colour of it.
fn flag_of(entry: &Value) -> Cell {
    let is = |key: &str| entry[key].as_bool() == Some(true);
    if is("is_tainted") {
        Cell::new("tainted").fg(Color::Red)
    } else if is("is_suspect") {
        Cell::new("suspect").fg(Color::Yellow)
    } else {
        Cell::new("clean")
    }
}

fn entry_table(screen: &Screen, entries: &[Value], name: &str) -> String {
    if entries.is_empty() {
        return format!("no {name}");
    }
    let rows = entries.iter().map(|entry| {
        vec![
            Cell::new(text(&entry["depth"])),
            Cell::new(names(&entry["artifacts"])),
            flag_of(entry),
            Cell::new(text(&entry["status"])),
            Cell::new(names(&entry["through"]["artifacts"])),
            Cell::new(text(&entry["dependency_type"])),
            Cell::new(text(&entry["project_id"])),
            Cell::new(text(&entry["provenance_id"])),
        ]
    });
    screen.table(
        &["DEPTH", "ARTIFACTS", "FLAG", "STATUS", "THROUGH", "TYPE", "PROJECT", "RECORD"],
        rows.collect(),
        &["TYPE", "PROJECT", "STATUS"],
    )
}

/// Records whose flag changes.
pub(super) fn change_table(screen: &Screen, changes: &[Value]) -> String {
    let rows = changes.iter().map(|change| {
        vec![
            Cell::new(text(&change["depth"])),
            Cell::new(names(&change["artifacts"])),
            Cell::new(text(&change["from"])),
            flag_of(change),
            Cell::new(names(&change["through"]["artifacts"])),
            Cell::new(text(&change["project_id"])),
            Cell::new(text(&change["provenance_id"])),
        ]
    });
    screen.table(&["DEPTH", "ARTIFACTS", "FROM", "TO", "THROUGH", "PROJECT", "RECORD"], rows.collect(), &["PROJECT"])
}

fn record_table(screen: &Screen, page: &Value) -> String {
    let records = items(&page["records"]);
    if records.is_empty() {
        return "no records".to_owned();
    }
    let rows = records.iter().map(|record| {
        let artifacts: Vec<String> =
            items(&record["outputs"]).iter().map(|output| text(&output["artifact_id"])).collect();
        vec![
            Cell::new(text(&record["id"])),
            Cell::new(artifacts.join(", ")),
            flag_of(record),
            Cell::new(text(&record["status"])),
            Cell::new(text(&record["model_used"])),
            Cell::new(text(&record["project_id"])),
            Cell::new(screen.time(&record["created_at"])),
        ]
    });
    screen.table(
        &["RECORD", "ARTIFACTS", "FLAG", "STATUS", "MODEL", "PROJECT", "CREATED"],
        rows.collect(),
        &["PROJECT", "MODEL", "CREATED"],
    )
}

/// Each record below the one that it was made out of.
fn tree(path: &[Value]) -> String {
    let line = |(depth, record): (usize, &Value)| {
        let branch = if depth == 0 { String::new() } else { format!("{}└─ ", "   ".repeat(depth - 1)) };
        format!("{branch}{}  {}", names(&record["artifacts"]), text(&record["provenance_id"]))
    };
    path.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn causes(screen: &Screen, answer: &Value) -> String {
    let causes = items(&answer["causes"]);
    if causes.is_empty() {
        return "nothing above it is tainted".to_owned();
    }
    let shown = causes.iter().map(|cause| {
        let (at, why) = (screen.time(&cause["tainted_at"]), text(&cause["tainted_reason"]));
        let cut = if cause["truncated"].as_bool() == Some(true) { "\n   …" } else { "" };
        format!("tainted {at}: {why}\n{}{cut}", tree(items(&cause["path"])))
    });
    let mut lines: Vec<String> = shown.collect();
    if answer["truncated"].as_bool() == Some(true) {
        lines.push(format!("{} causes in all", text(&answer["total"])));
    }
    lines.join("\n\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_is_a_tree() {
        let path = [json!({"artifacts": ["a"], "provenance_id": "1"}), json!({"artifacts": [], "provenance_id": "2"})];
        assert_eq!(tree(&path), "a  1\n└─ -  2");
    }

    #[test]
    fn a_list_says_what_it_leaves_out() {
        let ids = [json!("1"), json!("2")];
        assert_eq!(list_line("running", &ids, &json!(2)).unwrap(), "running: 1, 2");
        assert_eq!(list_line("running", &ids, &json!(7)).unwrap(), "running: 1, 2 and 5 more");
        assert_eq!(list_line("running", &[], &Value::Null), None);
    }
}
