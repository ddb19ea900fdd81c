//! The layers above the defaults: file, environment, flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Problem;
use super::tree::{Entry, Node, Origin, Value};

/// Prefix of the variables that name a setting by its path.
const PREFIX: &str = "DATS__";

/// The names DATS uses everywhere, and the settings they stand for.
const COMMON: [(&str, &str); 6] = [
    ("RABBITMQ_HOST", "events.rabbitmq.host"),
    ("RABBITMQ_PORT", "events.rabbitmq.port"),
    ("DATABASE_URL", "storage.database_url"),
    ("LOG_LEVEL", "telemetry.log_level"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("OTEL_SERVICE_NAME", "telemetry.service_name"),
];

/// Replaces only the port of `server.listen`.
const SERVICE_PORT: &str = "SERVICE_PORT";

/// Everything beside the defaults that settings are read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file given with `--config`.
    pub file: Option<PathBuf>,
    /// Names and values of the environment; others than ours are passed over.
    pub environment: Vec<(String, String)>,
    /// Command line flags.
    pub flags: Vec<Flag>,
}

/// A setting given on the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag's name for messages, such as `--listen`.
    pub name: &'static str,
    /// The dotted path of the setting.
    pub key: &'static str,
    /// The value as typed.
    pub value: String,
}

impl Sources {
    /// The process's environment and, if given, a file.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Self { file, environment, flags: Vec::new() }
    }

    /// Lays all layers over `tree` in their order.
    pub(super) fn apply(&self, tree: &mut Node, problems: &mut Vec<Problem>) {
        if let Some(path) = &self.file {
            match read_file(path) {
                Ok(layer) => tree.overlay(layer, problems),
                Err(problem) => problems.push(problem),
            }
        }
        for (name, key) in COMMON {
            if let Some(value) = self.variable(name) {
                let origin = Origin::Environment(name.into());
                tree.overlay(branch(key, Value::Text(value.to_owned()), &origin), problems);
            }
        }
        self.apply_service_port(tree, problems);
        self.apply_named(tree, problems);
        for flag in &self.flags {
            let origin = Origin::Flag(flag.name.into());
            tree.overlay(branch(flag.key, Value::Text(flag.value.clone()), &origin), problems);
        }
    }

    /// A variable that is set to something.
    fn variable(&self, name: &str) -> Option<&str> {
        let (_, value) = self.environment.iter().find(|(given, _)| given == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn apply_service_port(&self, tree: &mut Node, problems: &mut Vec<Problem>) {
        let Some(port) = self.variable(SERVICE_PORT) else {
            return;
        };
        let origin = Origin::Environment(SERVICE_PORT.into());
        if port.parse::<u16>().is_err() {
            let message = format!("can't take {port:?} as its port: expected 0 to 65535");
            problems.push(Problem::at(&origin, "server.listen", message));
            return;
        }
        let listen = match tree.at("server.listen").map(|node| &node.value) {
            Some(Value::Text(listen)) => listen.as_str(),
            _ => "",
        };
        let host = listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
        let value = Value::Text(format!("{host}:{port}"));
        tree.overlay(branch("server.listen", value, &origin), problems);
    }

    fn apply_named(&self, tree: &mut Node, problems: &mut Vec<Problem>) {
        for (name, value) in &self.environment {
            let Some(path) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let key = path.to_lowercase().replace("__", ".");
            let origin = Origin::Environment(name.as_str().into());
            let is_collection = tree.at(&key).is_some_and(|node| matches!(node.value, Value::List(_) | Value::Map(_)));
            match variable_value(value, is_collection, &origin) {
                Ok(value) => tree.overlay(branch(&key, value, &origin), problems),
                Err(message) => problems.push(Problem::at(&origin, &key, message)),
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Node, Problem> {
    let shown: Arc<str> = path.display().to_string().into();
    let text =
        std::fs::read_to_string(path).map_err(|error| Problem::source(&*shown, format!("can't be read: {error}")))?;
    let origin = |line| Origin::File { path: Arc::clone(&shown), line };
    Node::parse(&text, &origin).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        // Without the snippet, which could hold a secret.
        let reason = error.without_snippet();
        Problem::source(format!("{shown}:{line}"), format!("is not valid YAML: {reason}"))
    })
}

/// Text as it stands, or, for lists and maps, YAML in one line.
fn variable_value(text: &str, is_collection: bool, origin: &Origin) -> Result<Value, String> {
    match text.trim() {
        "" | "null" => Ok(Value::Null),
        yaml if is_collection => Node::parse(yaml, &|_| origin.clone())
            .map(|node| node.value)
            .map_err(|_| "is not a list or map in one line of YAML".to_owned()),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

/// A tree with one setting.
fn branch(path: &str, value: Value, origin: &Origin) -> Node {
    let leaf = Node { value, origin: origin.clone() };
    path.rsplit('.').fold(leaf, |node, key| {
        let entry = Entry { key: key.to_owned(), origin: origin.clone(), node };
        Node { value: Value::Map(vec![entry]), origin: origin.clone() }
    })
}
