//! The layers above the defaults: file, environment, flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Problem;
use super::origin::Origin;
use super::tree::{Entry, Node, Value};

/// Prefix of the variables that name a setting by its path.
const PREFIX: &str = "DATS__";

/// Variables that all DATS services share, and the settings they set.
const COMMON: [(&str, &str); 7] = [
    ("RABBITMQ_HOST", "events.rabbitmq.host"),
    ("RABBITMQ_PORT", "events.rabbitmq.port"),
    ("DATABASE_URL", "storage.database_url"),
    ("LOG_LEVEL", "telemetry.log_level"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "telemetry.otlp_traces_endpoint"),
    ("OTEL_SERVICE_NAME", "telemetry.service_name"),
];

/// Variable that sets the port of `server.listen`.
const SERVICE_PORT: &str = "SERVICE_PORT";

/// Variable that turns off OpenTelemetry.
const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
/// Variable that selects the exporter of traces: `otlp` or `none`.
const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";
/// Default collector of the OpenTelemetry specification.
const DEFAULT_COLLECTOR: &str = "http://localhost:4318";

/// The sources of settings besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file given with `--config`.
    pub file: Option<PathBuf>,
    /// Names and values of the environment; unrelated variables are ignored.
    pub environment: Vec<(String, String)>,
    /// Command line flags.
    pub flags: Vec<Flag>,
}

/// A setting given on the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Name of the flag in messages, such as `--listen`.
    pub name: &'static str,
    /// The dotted path of the setting.
    pub key: &'static str,
    /// Value as text.
    pub value: String,
}

impl Sources {
    /// Returns the environment of this process and, if given, a file.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Self { file, environment, flags: Vec::new() }
    }

    /// Applies all layers to `tree`, in their order.
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

    /// Returns the value of a variable that sets a setting. For a service with the name
    /// `rabbitmq`, Kubernetes sets `RABBITMQ_PORT` to an address; such a value is ignored,
    /// with a notice.
    fn setting(&self, name: &str, notices: &mut Vec<String>) -> Option<&str> {
        let value = self.variable(name)?;
        if name.ends_with("_PORT") && is_link(value) {
            notices.push(format!("{name}={value} is an address that Kubernetes sets for a service; it is ignored"));
            return None;
        }
        Some(value)
    }

    /// Applies the variables of OpenTelemetry that turn traces on or off. Unknown values are
    /// ignored, as its specification requires, with a notice.
    fn apply_trace_switches(&self, tree: &mut Node, problems: &mut Vec<Problem>, notices: &mut Vec<String>) {
        let is = |value: &str, word: &str| value.trim().eq_ignore_ascii_case(word);
        let mut off = None;
        match self.variable(SDK_DISABLED) {
            Some(value) if is(value, "true") => off = Some(SDK_DISABLED),
            Some(value) if !is(value, "false") => {
                notices.push(format!("{SDK_DISABLED}={value:?} is neither true nor false; it is ignored"));
            }
            Some(_) | None => {}
        }
        let exporters: Vec<&str> =
            self.variable(TRACES_EXPORTER).unwrap_or_default().split(',').map(str::trim).collect();
        let has = |word| exporters.iter().any(|exporter| is(exporter, word));
        for other in exporters.iter().filter(|other| !other.is_empty() && !is(other, "otlp") && !is(other, "none")) {
            notices.push(format!("{TRACES_EXPORTER} names {other:?}, which is ignored: use otlp or none"));
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

    /// Returns the value of a variable, if it is not empty.
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
            let message = format!("can't have the port {port:?}: expected 0 to 65535");
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

/// Returns whether a value is the address of a service as container platforms set it, such
/// as `tcp://10.0.0.1:5672`.
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
        // Without the snippet, which may contain a secret.
        let reason = error.without_snippet();
        Problem::source(format!("{shown}:{line}"), format!("is not valid YAML: {reason}"))
    })
}

/// Converts the text of a variable: unchanged, or parsed as YAML for lists and maps.
fn variable_value(text: &str, is_collection: bool, origin: &Origin) -> Result<Value, String> {
    match text.trim() {
        "" | "null" => Ok(Value::Null),
        yaml if is_collection => Node::parse(yaml, &|_| origin.clone())
            .map(|node| node.value)
            .map_err(|_| "is not a list or map in one line of YAML".to_owned()),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

/// Returns a tree with one setting.
fn branch(path: &str, value: Value, origin: &Origin) -> Node {
    let leaf = Node { value, origin: origin.clone() };
    path.rsplit('.').fold(leaf, |node, key| {
        let entry = Entry { key: key.to_owned(), origin: origin.clone(), node };
        Node { value: Value::Map(vec![entry]), origin: origin.clone() }
    })
}
