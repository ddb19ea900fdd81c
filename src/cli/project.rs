//! `dats project`: manages projects.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use http::Method;
use serde_json::{Map, Value};

use super::args;
use super::exit::Failure;
use super::list::{Page, show_pages};
use super::output::{Format, Screen, line, shortened, text};
use super::session::Session;
use crate::client::{Call, segment};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List projects.
    #[command(after_help = "Example:\n  dats project list --all")]
    List(Page),
    /// Show a project.
    #[command(after_help = "Example:\n  dats project show billing")]
    Show {
        /// Id of the project.
        id: String,
    },
    /// Create a project. Its first submission would create it too, with default settings.
    #[command(after_help = "Example:\n  dats project create billing --name Billing --max-concurrent 4")]
    Create {
        /// Id of the project.
        id: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Change the given fields of a project.
    #[command(after_help = "Example:\n  dats project update billing --max-concurrent 8")]
    Update {
        /// Id of the project.
        id: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Archive a project without open tasks. Its provenance stays.
    #[command(after_help = "Example:\n  dats project delete billing")]
    Delete {
        /// Id of the project.
        id: String,
    },
    /// Pause a project: none of its tasks is dispatched or leased, running ones continue.
    #[command(after_help = "Example:\n  dats project pause billing")]
    Pause {
        /// Id of the project.
        id: String,
    },
    /// Resume a paused project.
    #[command(after_help = "Example:\n  dats project resume billing")]
    Resume {
        /// Id of the project.
        id: String,
    },
    /// Show the number of a project's tasks by status.
    #[command(after_help = "Example:\n  dats project status billing")]
    Status {
        /// Id of the project.
        id: String,
    },
}

/// Fields of a project.
#[derive(Debug, Args)]
pub(super) struct Fields {
    /// Display name.
    #[arg(long)]
    name: Option<String>,
    /// Description.
    #[arg(long)]
    description: Option<String>,
    /// QA profile of its tasks.
    #[arg(long)]
    qa_profile: Option<String>,
    /// Rules for its workers, as a JSON object.
    #[arg(long, value_parser = args::json_object, value_name = "JSON")]
    constitution: Option<Value>,
    /// Most tasks under way at once.
    #[arg(long)]
    max_concurrent: Option<u32>,
}

impl Fields {
    fn body(&self) -> Map<String, Value> {
        let fields = [
            ("name", self.name.as_deref().map(Value::from)),
            ("description", self.description.as_deref().map(Value::from)),
            ("qa_profile", self.qa_profile.as_deref().map(Value::from)),
            ("constitution", self.constitution.clone()),
            ("max_concurrent", self.max_concurrent.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

pub(super) async fn run(session: &Session, action: &Action) -> Result<(), Failure> {
    let path = |id: &str| format!("/projects/{}", segment(id));
    let call = match action {
        Action::List(page) => return show_pages(session, "/projects", Vec::new(), page, table).await,
        Action::Show { id } => Call::new(Method::GET, path(id)),
        Action::Status { id } => Call::new(Method::GET, format!("{}/status", path(id))),
        Action::Delete { id } => Call::new(Method::DELETE, path(id)),
        Action::Pause { id } => Call::new(Method::POST, format!("{}/pause", path(id))),
        Action::Resume { id } => Call::new(Method::POST, format!("{}/resume", path(id))),
        Action::Create { id, fields } => {
            let mut body = fields.body();
            body.insert("project_id".to_owned(), Value::from(id.as_str()));
            Call::new(Method::POST, "/projects").json(&Value::Object(body))
        }
        Action::Update { id, fields } => Call::new(Method::PATCH, path(id)).json(&Value::Object(fields.body())),
    };
    let answer = session.client.call(call).await?;
    if let Action::Delete { id } = action {
        return if session.screen.format == Format::Json { Ok(()) } else { line(&format!("deleted project {id}")) };
    }
    session.screen.show(&answer, |screen, project| screen.details(project, &["project_id", "name", "description"]))
}

fn table(screen: &Screen, page: &Value) -> String {
    let projects = page["projects"].as_array().map_or(&[][..], Vec::as_slice);
    if projects.is_empty() {
        return "no projects".to_owned();
    }
    let rows = projects.iter().map(|project| {
        vec![
            Cell::new(text(&project["project_id"])),
            Cell::new(text(&project["name"])),
            Cell::new(text(&project["qa_profile"])),
            Cell::new(text(&project["max_concurrent"])),
            Cell::new(screen.time(&project["created_at"])),
            Cell::new(shortened(project["description"].as_str().unwrap_or_default())),
        ]
    });
    screen.table(
        &["PROJECT", "NAME", "QA PROFILE", "LIMIT", "CREATED", "DESCRIPTION"],
        rows.collect(),
        &["NAME", "CREATED"],
    )
}
