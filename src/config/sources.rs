//! The layers above the defaults: file, environment, flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Problem;
use super::tree::{Entry, Node, Origin, Value};

/// Prefix of the variables that name a setting by its path.
const PREFIX: &str = "DATS__";

/// The names DATS uses everywhere, and the settings they stand for.
const COMMON: [(&str, &str); 7] = [
    ("RABBITMQ_HOST", "events.rabbitmq.host"),
    ("RABBITMQ_PORT", "events.rabbitmq.port"),
    ("DATABASE_URL", "storage.database_url"),
    ("LOG_LEVEL", "telemetry.log_level"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "telemetry.otlp_traces_endpoint"),
    ("OTEL_SERVICE_NAME", "telemetry.service_name"),
];

/// Replaces only the port of `server.listen`.
const SERVICE_PORT: &str = "SERVICE_PORT";

/// Switches all of OpenTelemetry off.
const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
/// Where traces go: `otlp` or `none`.
const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";
/// Where they go by the specification when nothing else is said.
const DEFAULT_COLLECTOR: &str = "http://localhost:4318";

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
    pub(super) fn apply(&self, tree: &mut Node, problems: &mut Vec<Problem>, notices: &mut Vec<String>) {
        if let Some(path) = &self.file {
            match read_file(path) {
                Ok(layer) => tree.overlay(layer, problems),
                Err(problem) => problems.push(problem),
            }
        }
        for (name, key) in COMMON {
            if let Some(value) = self.setting(name, notices) {
                let origin = Origin::Environment(name.into());
                tree.overlay(branch(key, Value::Text(value.to_owned()), &origin), problems);
            }
        }
        self.apply_service_port(tree, problems, notices);
        self.apply_named(tree, problems);
        for flag in &self.flags {
            let origin = Origin::Flag(flag.name.into());
            tree.overlay(branch(flag.key, Value::Text(flag.value.clone()), &origin), problems);
        }
        self.apply_trace_switches(tree, problems, notices);
    }

    /// A variable that is set to a setting. For a service of the name
    /// `rabbitmq` Kubernetes sets `RABBITMQ_PORT`, and so on, to an address:
    /// nobody has asked for that, so it is passed over.
    fn setting(&self, name: &str, notices: &mut Vec<String>) -> Option<&str> {
        let value = self.variable(name)?;
        if name.ends_with("_PORT") && is_link(value) {
            notices.push(format!("{name}={value} is an address that Kubernetes sets for a service, and is not used"));
            return None;
        }
        Some(value)
    }

    /// What the variables of OpenTelemetry say about traces as a whole. Words
    /// that mean nothing are passed over, as its specification asks.
    fn apply_trace_switches(&self, tree: &mut Node, problems: &mut Vec<Problem>, notices: &mut Vec<String>) {
        let is = |value: &str, word: &str| value.trim().eq_ignore_ascii_case(word);
        let mut off = None;
        match self.variable(SDK_DISABLED) {
            Some(value) if is(value, "true") => off = Some(SDK_DISABLED),
            Some(value) if !is(value, "false") => {
                notices.push(format!("{SDK_DISABLED}={value:?} is neither true nor false, and is not used"));
            }
            Some(_) | None => {}
        }
        let exporters: Vec<&str> =
            self.variable(TRACES_EXPORTER).unwrap_or_default().split(',').map(str::trim).collect();
        let has = |word| exporters.iter().any(|exporter| is(exporter, word));
        for other in exporters.iter().filter(|other| !other.is_empty() && !is(other, "otlp") && !is(other, "none")) {
            notices
                .push(format!("{TRACES_EXPORTER} names {other:?}; only otlp and none are known, and it is not used"));
        }
        if has("none") && !has("otlp") {
            off = off.or(Some(TRACES_EXPORTER));
        }
        let is_null = |key| tree.at(key).is_none_or(|node| node.value == Value::Null);
        if let Some(name) = off {
            let origin = Origin::Environment(name.into());
            for key in ["telemetry.otlp_endpoint", "telemetry.otlp_traces_endpoint", "telemetry.ca_file"] {
                tree.overlay(branch(key, Value::Null, &origin), problems);
            }
        } else if has("otlp") && is_null("telemetry.otlp_endpoint") && is_null("telemetry.otlp_traces_endpoint") {
            let origin = Origin::Environment(TRACES_EXPORTER.into());
            let value = Value::Text(DEFAULT_COLLECTOR.to_owned());
            tree.overlay(branch("telemetry.otlp_endpoint", value, &origin), problems);
        }
    }

    /// A variable that is set to something.
    fn variable(&self, name: &str) -> Option<&str> {
        let (_, value) = self.environment.iter().find(|(given, _)| given == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn apply_service_port(&self, tree: &mut Node, problems: &mut Vec<Problem>, notices: &mut Vec<String>) {
        let Some(port) = self.setting(SERVICE_PORT, notices) else {
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

/// Whether a value is the address of a service as container platforms give
/// it, such as `tcp://10.0.0.1:5672`.
fn is_link(value: &str) -> bool {
    let address = ["tcp://", "udp://", "sctp://"].into_iter().find_map(|scheme| value.strip_prefix(scheme));
    address
        .and_then(|address| address.rsplit_once(':'))
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
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
