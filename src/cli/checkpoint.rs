//! `dats checkpoint`: creates and lists points in time to which a project can be rolled
//! back.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::{Map, Value};

use super::exit::Failure;
use super::list::{Page, show_pages};
use super::output::{Screen, shortened, text};
use super::provenance::items;
use super::session::Session;
use crate::client::segment;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Create a checkpoint of a project as it is now.
    #[command(after_help = "Example:\n  dats checkpoint create billing --description \"before the migration\"")]
    Create {
        /// Id of the project.
        project: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// List the checkpoints of a project, newest first.
    #[command(after_help = "Example:\n  dats checkpoint list billing")]
    List {
        /// Id of the project.
        project: String,
        #[command(flatten)]
        page: Page,
    },
    /// Show a checkpoint.
    #[command(after_help = "Example:\n  dats checkpoint show 01890a5d-ac96-774b-bcce-b302099a8057")]
    Show {
        /// Id of the checkpoint.
        checkpoint: String,
    },
}

/// Fields of a new checkpoint.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// Purpose of the checkpoint.
    #[arg(long)]
    description: Option<String>,
    /// Commit or tag that belongs to it.
    #[arg(long, value_name = "REF")]
    git_ref: Option<String>,
    /// State of the RAG service that belongs to it.
    #[arg(long, value_name = "REF")]
    rag_state_ref: Option<String>,
    /// State of the work products that belongs to it.
    #[arg(long, value_name = "REF")]
    work_product_ref: Option<String>,
}

impl Fields {
    fn body(&self) -> Value {
        let fields = [
            ("description", &self.description),
            ("git_ref", &self.git_ref),
            ("rag_state_ref", &self.rag_state_ref),
            ("work_product_ref", &self.work_product_ref),
        ];
        let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.as_deref()?.into())));
        Value::Object(given.collect::<Map<_, _>>())
    }
}

pub(super) async fn run(session: &Session, action: &Action) -> Result<(), Failure> {
    let path = |project: &str| format!("/projects/{}/checkpoints", segment(project));
    let answer = match action {
        Action::List { project, page } => return show_pages(session, &path(project), Vec::new(), page, table).await,
        Action::Create { project, fields } => session.client.post(&path(project), &fields.body()).await?,
        Action::Show { checkpoint } => session.client.get(&format!("/checkpoints/{}", segment(checkpoint))).await?,
    };
    let first = ["id", "project_id", "created_at", "is_valid", "trigger", "description"];
    session.screen.show(&answer, |screen, checkpoint| screen.details(checkpoint, &first))
}

fn table(screen: &Screen, page: &Value) -> String {
    let checkpoints = items(&page["checkpoints"]);
    if checkpoints.is_empty() {
        return "no checkpoints".to_owned();
    }
    let rows = checkpoints.iter().map(|checkpoint| {
        let is_valid = checkpoint["is_valid"].as_bool().unwrap_or(false);
        vec![
            Cell::new(text(&checkpoint["id"])),
            Cell::new(screen.time(&checkpoint["created_at"])),
            Cell::new(if is_valid { "yes" } else { "no" }),
            Cell::new(text(&checkpoint["trigger"])),
            Cell::new(text(&checkpoint["provenance_count"])),
            Cell::new(text(&checkpoint["git_ref"])),
            Cell::new(shortened(checkpoint["description"].as_str().unwrap_or_default())),
        ]
    });
    let headers = ["CHECKPOINT", "CREATED", "VALID", "TRIGGER", "RECORDS", "GIT REF", "DESCRIPTION"];
    screen.table(&headers, rows.collect(), &["GIT REF", "RECORDS", "TRIGGER"])
}
