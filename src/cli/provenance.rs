//! `dats provenance`: shows the inputs and the dependents of results.

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
    #[command(after_help = "Example:\n  dats provenance show report-7")]
    Show {
        /// Id of the record, or of one of its artifacts.
        id: String,
    },
    /// List records, newest first.
    #[command(after_help = "Example:\n  dats provenance list --project billing --tainted")]
    List(Filter),
    /// List the direct and indirect dependents of a record.
    #[command(after_help = "Example:\n  dats provenance dependents report-7 --depth 2")]
    Dependents(Walk),
    /// List the direct and indirect dependencies of a record.
    #[command(after_help = "Example:\n  dats provenance dependencies report-7 --direct")]
    Dependencies(Walk),
    /// Show how many records, tasks and projects depend on a record.
    #[command(after_help = "Example:\n  dats provenance impact report-7")]
    Impact(Reach),
    /// Show the tainted records because of which a record is suspect.
    #[command(after_help = "Example:\n  dats provenance root-cause report-7")]
    RootCause(Reach),
    /// Show the shortest path from a record to one of its dependents.
    #[command(after_help = "Example:\n  dats provenance path report-7 summary-9")]
    Path {
        /// Id of the record that was used, or of one of its artifacts.
        from: String,
        /// Id of the dependent record, or of one of its artifacts.
        to: String,
        #[command(flatten)]
        page: Page,
    },
    /// Print a record with its dependencies and dependents as a document.
    #[command(after_help = "Example:\n  dats provenance export report-7 --format dot | dot -Tsvg > report-7.svg")]
    Export {
        /// Id of the record, or of one of its artifacts.
        id: String,
        /// Format of the document.
        #[arg(long, value_enum, default_value = "dot")]
        format: Document,
        /// Most steps from the record; 3 if not given.
        #[arg(long)]
        depth: Option<u32>,
        /// Restrict the document to dependencies or to dependents.
        #[arg(long, value_enum, default_value = "both")]
        direction: Direction,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Direction {
    /// Dependencies and dependents.
    Both,
    /// Dependencies only.
    Dependencies,
    /// Dependents only.
    Dependents,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Document {
    /// Graphviz.
    Dot,
    /// W3C PROV-JSON.
    Prov,
    /// The record only, as a file of the old program.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Walk {
    /// Id of the record, or of one of its artifacts.
    id: String,
    /// Most steps from the record; without a limit if not given.
    #[arg(long)]
    depth: Option<u32>,
    /// Show direct ones only.
    #[arg(long, conflicts_with = "depth")]
    direct: bool,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, Args)]
pub(super) struct Reach {
    /// Id of the record, or of one of its artifacts.
    id: String,
    /// Most steps from the record; without a limit if not given.
    #[arg(long)]
    depth: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only records of this project.
    #[arg(long)]
    project: Option<String>,
    /// Only records of this task.
    #[arg(long)]
    task: Option<String>,
    /// Only records with this verdict.
    #[arg(long, value_parser = ["pending", "passed", "failed", "human_approved"])]
    status: Option<String>,
    /// Only tainted records.
    #[arg(long)]
    tainted: bool,
    /// Only suspect records.
    #[arg(long)]
    suspect: bool,
    /// Only records of this model.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    page: Page,
}

/// Fields of a record that are shown first.
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
        Action::Dependents(walk) => show_walk(session, &path(&walk.id, "/dependents"), "dependents", walk).await,
        Action::Dependencies(walk) => show_walk(session, &path(&walk.id, "/dependencies"), "dependencies", walk).await,
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
    /// Returns the action that prints the same as a graph; `None` if there is none.
    pub(super) fn into_graph(self) -> Option<Self> {
        let graph = |id, depth, direction| Some(Self::Export { id, format: Document::Dot, depth, direction });
        let side = |walk: Walk, direction| {
            let depth = if walk.direct { 1 } else { walk.depth.unwrap_or(u32::MAX) };
            graph(walk.id, Some(depth), direction)
        };
        match self {
            Self::Show { id } => graph(id, None, Direction::Both),
            Self::Dependents(walk) => side(walk, Direction::Dependents),
            Self::Dependencies(walk) => side(walk, Direction::Dependencies),
            Self::Export { id, depth, direction, .. } => graph(id, depth, direction),
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

async fn show_walk(session: &Session, path: &str, name: &'static str, walk: &Walk) -> Result<(), Failure> {
    let depth = if walk.direct { Some(1) } else { walk.depth };
    let query = vec![("depth", depth.map(|depth| depth.to_string()))];
    show_pages(session, path, query, &walk.page, move |screen, page| entry_table(screen, items(&page[name]), name))
        .await
}

/// Formats a line of ids, with the number of those in `total` that the answer does not list;
/// `None` if there are none.
pub(super) fn list_line(what: &str, listed: &[Value], total: &Value) -> Option<String> {
    let ids: Vec<String> = listed.iter().map(text).collect();
    let count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    let more = match total.as_u64().unwrap_or(0).saturating_sub(count) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (count > 0).then(|| format!("{what}: {}{more}", ids.join(", ")))
}

/// Returns the entries of a list; empty if it is not a list.
pub(super) fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn names(artifacts: &Value) -> String {
    let names: Vec<String> = items(artifacts).iter().map(text).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

/// Returns the cell of a record's flag, in its colour.
fn flag_cell(entry: &Value) -> Cell {
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
            flag_cell(entry),
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

/// Formats records whose flag changes.
pub(super) fn change_table(screen: &Screen, changes: &[Value]) -> String {
    let rows = changes.iter().map(|change| {
        vec![
            Cell::new(text(&change["depth"])),
            Cell::new(names(&change["artifacts"])),
            Cell::new(text(&change["from"])),
            flag_cell(change),
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
            flag_cell(record),
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

/// Formats a path as a tree, with each record below its dependency.
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
        return "none of its dependencies is tainted".to_owned();
    }
    let shown = causes.iter().map(|cause| {
        let (at, why) = (screen.time(&cause["tainted_at"]), text(&cause["tainted_reason"]));
        let cut = if cause["truncated"].as_bool() == Some(true) { "\n   …" } else { "" };
        format!("tainted {at}: {why}\n{}{cut}", tree(items(&cause["path"])))
    });
    let mut lines: Vec<String> = shown.collect();
    if answer["truncated"].as_bool() == Some(true) {
        lines.push(format!("{} causes in total", text(&answer["total"])));
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
    fn a_list_shows_how_many_it_omits() {
        let ids = [json!("1"), json!("2")];
        assert_eq!(list_line("running", &ids, &json!(2)).unwrap(), "running: 1, 2");
        assert_eq!(list_line("running", &ids, &json!(7)).unwrap(), "running: 1, 2 and 5 more");
        assert_eq!(list_line("running", &[], &Value::Null), None);
    }
}
