//! `dats submit`: one new task.

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

/// Most text read from stdin; the server takes 64 KiB of description.
const MAX_STDIN_BYTES: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What is to be done; - reads it from stdin.
    description: String,
    /// Wait for the end, showing how it gets on.
    #[arg(long)]
    wait: bool,
    /// Print every step until the end.
    #[arg(long, conflicts_with = "wait")]
    follow: bool,
    /// Project it belongs to.
    #[arg(long)]
    project: Option<String>,
    /// How urgent it is.
    #[arg(long, value_parser = ["low", "normal", "high"])]
    priority: Option<String>,
    /// Tier of model, in place of what the router would choose.
    #[arg(long)]
    tier: Option<String>,
    /// Domain, in place of what the router would choose.
    #[arg(long)]
    domain: Option<String>,
    /// How the result is validated; none for not at all.
    #[arg(long)]
    qa_profile: Option<String>,
    /// What one attempt may take, such as 90s or 15m.
    #[arg(long, value_parser = args::duration)]
    timeout: Option<Duration>,
    /// Attempts before it fails for good.
    #[arg(long)]
    max_attempts: Option<u32>,
    /// Not to begin before this time, or this long from now.
    #[arg(long, value_parser = args::time, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// Task that must be completed first; may be given several times.
    #[arg(long, value_name = "TASK")]
    depends_on: Vec<String>,
    /// Never split it into subtasks.
    #[arg(long)]
    no_decompose: bool,
    /// What a subtask that fails or is cancelled does to the others: cancel
    /// them, or let them go on.
    #[arg(long, value_parser = ["cancel", "continue"])]
    on_child_failure: Option<String>,
    /// Artifact the worker is to use; may be given several times.
    #[arg(long, value_name = "ARTIFACT")]
    input: Vec<String>,
    /// Anything to keep with the task, as a JSON object.
    #[arg(long, value_parser = args::json_object, value_name = "JSON")]
    metadata: Option<Value>,
    /// Whether people take part.
    #[arg(long, value_parser = ["autonomous", "collaborative"])]
    mode: Option<String>,
    /// The same key never makes a second task.
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

/// Says which task a submission made.
pub(super) fn announce(session: &Session, answer: &Answer, id: &str) -> Result<(), Failure> {
    if session.screen.format == Format::Json {
        return line(answer.text.trim_end());
    }
    line(&format!("submitted task {id}"))?;
    if let Some(time) = answer.json["estimated_completion"].as_str() {
        line(&format!("likely to be done by {time}"))?;
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
    // On a thread of its own: Ctrl-C must not wait for the end of the input.
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin().lock().take(MAX_STDIN_BYTES).read_to_string(&mut text).map(|_| text)
    });
    let text = read.await.map_err(std::io::Error::other).flatten();
    text.map(|text| text.trim_end().to_owned())
        .map_err(|error| Failure::Usage(format!("can't read the description from stdin: {error}")))
}

/// The request; what was not given is left to the server.
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
    fn only_what_was_given_is_sent() {
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
