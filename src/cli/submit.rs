//! `dats submit`: submits a task.

use std::io::Read as _;
use std::time::Duration;

use clap::Args;
use http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::args;
use super::exit::Failure;
use super::follow::outcome;
use super::output::{Format, line};
use super::progress::{print_steps, task_details, wait};
use super::session::Session;
use crate::client::{Answer, Call};

/// Most text read from stdin, in bytes; the server accepts descriptions of 64 KiB.
const MAX_STDIN_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  dats submit \"write a parser\" --project billing --wait\n  cat task.md | dats submit - --priority high"
)]
pub(super) struct Arguments {
    /// Description of the task; - reads it from stdin.
    description: String,
    /// Wait for the end of the task, and show its progress.
    #[arg(long)]
    wait: bool,
    /// Print every step of the task until its end.
    #[arg(long, conflicts_with = "wait")]
    follow: bool,
    /// Project of the task.
    #[arg(long)]
    project: Option<String>,
    /// Priority.
    #[arg(long, value_parser = ["low", "normal", "high"])]
    priority: Option<String>,
    /// Tier; overrides the choice of the router.
    #[arg(long)]
    tier: Option<String>,
    /// Domain; overrides the choice of the router.
    #[arg(long)]
    domain: Option<String>,
    /// QA profile of the validation; none for no validation.
    #[arg(long)]
    qa_profile: Option<String>,
    /// Longest time of an attempt, such as 90s or 15m.
    #[arg(long, value_parser = args::duration)]
    timeout: Option<Duration>,
    /// Most attempts before the task fails.
    #[arg(long)]
    max_attempts: Option<u32>,
    /// Earliest start: a time, or a duration from now.
    #[arg(long, value_parser = args::time, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// Id of a task that must complete first; may be given several times.
    #[arg(long, value_name = "TASK")]
    depends_on: Vec<String>,
    /// Do not split the task into subtasks.
    #[arg(long)]
    no_decompose: bool,
    /// What happens to the other subtasks when one fails or is cancelled.
    #[arg(long, value_parser = ["cancel", "continue"])]
    on_child_failure: Option<String>,
    /// Id of an input artifact; may be given several times.
    #[arg(long, value_name = "ARTIFACT")]
    input: Vec<String>,
    /// Metadata to store with the task, as a JSON object.
    #[arg(long, value_parser = args::json_object, value_name = "JSON")]
    metadata: Option<Value>,
    /// Whether people take part in the work.
    #[arg(long, value_parser = ["autonomous", "collaborative"])]
    mode: Option<String>,
    /// Idempotency key: a repeated submission with the same key creates no second task.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let description = description(&arguments.description).await?;
    let mut call = Call::new(Method::POST, "/tasks").json(&body(arguments, &description));
    if let Some(key) = &arguments.idempotency_key {
        call = call.header(HeaderName::from_static("idempotency-key"), key);
    }
    let answer = session.client.call(call).await?;
    let id = answer.json["task_id"].as_str().unwrap_or_default().to_owned();
    if arguments.follow {
        return outcome(&print_steps(session, &id).await?.json);
    }
    if arguments.wait {
        let task = wait(session, &id).await?;
        session.screen.show(&task, task_details)?;
        return outcome(&task.json);
    }
    announce(session, &answer, &id)
}

/// Prints the task that a submission created.
pub(super) fn announce(session: &Session, answer: &Answer, id: &str) -> Result<(), Failure> {
    if session.screen.format == Format::Json {
        return line(answer.text.trim_end());
    }
    line(&format!("submitted task {id}"))?;
    if let Some(time) = answer.json["estimated_completion"].as_str() {
        line(&format!("estimated completion: {time}"))?;
    }
    if session.screen.is_terminal {
        line(&format!("follow it with: dats watch {id}"))?;
    }
    Ok(())
}

async fn description(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    // On a separate thread, so that Ctrl-C does not wait for the end of the input.
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin().lock().take(MAX_STDIN_BYTES).read_to_string(&mut text).map(|_| text)
    });
    let text = read.await.map_err(std::io::Error::other).flatten();
    text.map(|text| text.trim_end().to_owned())
        .map_err(|error| Failure::Usage(format!("can't read the description from stdin: {error}")))
}

/// Returns the request body. Options that were not given are omitted, so that the server
/// applies its defaults.
fn body(arguments: &Arguments, description: &str) -> Value {
    let mut options = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            options.insert(key.to_owned(), value);
        }
    };
    set("tier", arguments.tier.as_deref().map(Value::from));
    set("domain", arguments.domain.as_deref().map(Value::from));
    set("qa_profile", arguments.qa_profile.as_deref().map(Value::from));
    set("timeout_seconds", arguments.timeout.map(|timeout| timeout.as_secs().into()));
    set("max_attempts", arguments.max_attempts.map(Value::from));
    set("not_before", arguments.not_before.map(|time| time.to_string().into()));
    set("depends_on", list(&arguments.depends_on));
    set("decompose", arguments.no_decompose.then_some(Value::Bool(false)));
    set("on_child_failure", arguments.on_child_failure.as_deref().map(Value::from));
    set("inputs", list(&arguments.input));
    let mut body = json!({"description": description});
    let optional = [
        ("project_id", arguments.project.as_deref().map(Value::from)),
        ("priority", arguments.priority.as_deref().map(Value::from)),
        ("metadata", arguments.metadata.clone()),
        ("execution_mode", arguments.mode.as_deref().map(Value::from)),
        ("options", (!options.is_empty()).then_some(Value::Object(options))),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            body[key] = value;
        }
    }
    body
}

fn list(items: &[String]) -> Option<Value> {
    (!items.is_empty()).then(|| Value::from(items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn body_of(line: &[&str]) -> Value {
        let line = Line::parse_from([&["submit"], line].concat());
        body(&line.arguments, &line.arguments.description)
    }

    #[test]
    fn only_given_options_are_sent() {
        assert_eq!(body_of(&["do it"]), json!({"description": "do it"}));
    }

    #[test]
    fn every_flag_has_its_field() {
        let line = [
            "do it",
            "--project",
            "p",
            "--priority",
            "high",
            "--tier",
            "large",
            "--domain",
            "analysis",
            "--qa-profile",
            "none",
            "--timeout",
            "2m",
            "--max-attempts",
            "5",
            "--not-before",
            "2026-01-09T18:00:00Z",
            "--depends-on",
            "a",
            "--depends-on",
            "b",
            "--no-decompose",
            "--on-child-failure",
            "continue",
            "--input",
            "x",
            "--metadata",
            "{\"k\":1}",
            "--mode",
            "collaborative",
        ];
        let expected = json!({
            "description": "do it", "project_id": "p", "priority": "high", "metadata": {"k": 1},
            "execution_mode": "collaborative",
            "options": {
                "tier": "large", "domain": "analysis", "qa_profile": "none", "timeout_seconds": 120,
                "max_attempts": 5, "not_before": "2026-01-09T18:00:00Z", "depends_on": ["a", "b"],
                "decompose": false, "on_child_failure": "continue", "inputs": ["x"],
            },
        });
        assert_eq!(body_of(&line), expected);
    }
}
