//! The body of a submission and its check. All invalid fields are reported together.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::api::fields::object_text;
use crate::http::api::settings::Settings;
use crate::json::{self, FieldError, Findings, Object};
use crate::task::{
    ArtifactId, Domain, ExecutionMode, MAX_ATTEMPTS, MAX_DESCRIPTION_BYTES, MAX_METADATA_BYTES, MAX_REFERENCES,
    MAX_TIMEOUT, OnChildFailure, Options, Priority, ProjectId, QaProfile, Submission, TaskId, Tier, Timestamp,
};

/// The largest `constitution_override`, in bytes of JSON.
pub(in crate::http) const MAX_CONSTITUTION_BYTES: usize = 64 * 1024;
/// The project of submissions without a `project_id`.
const DEFAULT_PROJECT: &str = "default";

// Every field is optional here, so that all invalid fields can be reported together.
/// A task to submit.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Submission)]
pub(in crate::http) struct Wire {
    /// What the task is to do, in words. It must not be blank.
    #[schema(required, nullable = false)]
    description: Option<String>,
    /// The project of the task, which is created on first use. The default is `default`.
    #[schema(value_type = Option<ProjectId>)]
    project_id: Option<String>,
    /// The priority of the task. The default is `normal`, or the choice of the Agent.
    #[schema(value_type = Option<Priority>)]
    priority: Option<String>,
    /// How the task is to be done.
    #[schema(value_type = Option<WireOptions>)]
    options: Option<Object<WireOptions>>,
    /// Any data that the client wants to keep with the task.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// Whether people take part. The default is `autonomous`.
    #[schema(value_type = Option<ExecutionMode>)]
    execution_mode: Option<String>,
    /// The old name of `execution_mode`. If both are present, they must be equal.
    #[schema(value_type = Option<ExecutionMode>)]
    mode: Option<String>,
    /// The rules for the workers, in place of the constitution of the project.
    #[schema(value_type = Option<Object>)]
    constitution_override: Option<Map<String, Value>>,
}

/// How a task is to be done. The routing rules or the Agent choose what is absent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubmissionOptions)]
pub(in crate::http) struct WireOptions {
    /// Whether the Agent may split the task into subtasks. The default is true.
    decompose: Option<bool>,
    /// The set of checks that the output must pass.
    #[schema(value_type = Option<QaProfile>)]
    qa_profile: Option<String>,
    /// The tier of workers, one of the configured tiers.
    #[schema(value_type = Option<Tier>)]
    tier: Option<String>,
    /// The kind of work.
    #[schema(value_type = Option<Domain>)]
    domain: Option<String>,
    /// The longest time of one attempt, in seconds.
    timeout_seconds: Option<i64>,
    /// The largest number of attempts.
    max_attempts: Option<i64>,
    /// The task does not start before this time.
    #[schema(value_type = Option<Timestamp>)]
    not_before: Option<String>,
    /// Tasks that must complete before this task starts.
    #[schema(value_type = Option<Vec<TaskId>>)]
    depends_on: Option<Vec<String>>,
    /// What happens to the other subtasks when one fails. The default is `cancel`.
    #[schema(value_type = Option<OnChildFailure>)]
    on_child_failure: Option<String>,
    /// Artifacts that the task uses.
    #[schema(value_type = Option<Vec<ArtifactId>>)]
    inputs: Option<Vec<String>>,
}

/// Checks a submission. `errors` are those that the decoding found.
pub(in crate::http) fn check(
    wire: Wire,
    errors: Vec<FieldError>,
    settings: &Settings,
    traceparent: Option<String>,
) -> Result<Submission, Vec<FieldError>> {
    let mut found = Findings::from_errors(errors);
    let description = description(&mut found, wire.description);
    let project = wire.project_id.as_deref().unwrap_or(DEFAULT_PROJECT);
    let project: Option<ProjectId> = found.parse("/project_id", project);
    let priority = wire.priority.and_then(|word| {
        one_of(&mut found, "/priority", &word, &Priority::ALL.map(|priority| (priority.as_str(), priority)))
    });
    let options = options(&mut found, wire.options.unwrap_or_default().0, settings);
    let metadata = object_text(&mut found, "/metadata", wire.metadata, MAX_METADATA_BYTES);
    let execution_mode = execution_mode(&mut found, wire.execution_mode.as_deref(), wire.mode.as_deref());
    let constitution_override =
        object_text(&mut found, "/constitution_override", wire.constitution_override, MAX_CONSTITUTION_BYTES);
    match (description, project) {
        (Some(description), Some(project)) if found.is_empty() => Ok(Submission {
            description,
            project,
            priority,
            options,
            metadata,
            execution_mode,
            constitution_override,
            traceparent,
            rerun_of: None,
        }),
        _ => Err(found.into_errors()),
    }
}

fn description(found: &mut Findings, text: Option<String>) -> Option<String> {
    let text = found.required("/description", text)?;
    if text.trim().is_empty() {
        found.add("/description", "must not be blank");
    } else if text.len() > MAX_DESCRIPTION_BYTES {
        let message = format!("must be at most {MAX_DESCRIPTION_BYTES} bytes, was {}", text.len());
        found.add("/description", message);
    } else {
        return Some(text);
    }
    None
}

fn options(found: &mut Findings, wire: WireOptions, settings: &Settings) -> Options {
    let longest = i64::try_from(MAX_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
    Options {
        decompose: wire.decompose,
        qa_profile: parsed(found, "/options/qa_profile", wire.qa_profile),
        tier: wire.tier.and_then(|name| tier(found, &name, settings)),
        domain: parsed(found, "/options/domain", wire.domain),
        timeout_seconds: within(found, "/options/timeout_seconds", wire.timeout_seconds, 1..=longest),
        max_attempts: within(found, "/options/max_attempts", wire.max_attempts, 1..=i64::from(MAX_ATTEMPTS)),
        not_before: parsed(found, "/options/not_before", wire.not_before),
        depends_on: depends_on(found, wire.depends_on.unwrap_or_default()),
        on_child_failure: wire.on_child_failure.and_then(|word| {
            let all = [OnChildFailure::Cancel, OnChildFailure::Continue].map(|choice| (choice.as_str(), choice));
            one_of(found, "/options/on_child_failure", &word, &all)
        }),
        inputs: inputs(found, wire.inputs.unwrap_or_default()),
    }
}

fn parsed<T: FromStr<Err: Display>>(found: &mut Findings, pointer: &str, text: Option<String>) -> Option<T> {
    found.parse(pointer, &text?)
}

fn within(found: &mut Findings, pointer: &str, number: Option<i64>, allowed: RangeInclusive<i64>) -> Option<u32> {
    let number = number?;
    if !allowed.contains(&number) {
        found.add(pointer, format!("must be from {} to {}, was {number}", allowed.start(), allowed.end()));
    }
    u32::try_from(number).ok()
}

fn one_of<T: Copy>(found: &mut Findings, pointer: &str, word: &str, all: &[(&str, T)]) -> Option<T> {
    let choice = all.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice);
    if choice.is_none() {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        found.add(pointer, format!("must be one of {}, was {}", names.join(", "), json::quoted(word)));
    }
    choice
}

fn tier(found: &mut Findings, name: &str, settings: &Settings) -> Option<Tier> {
    let tier = settings.tiers.iter().find(|tier| tier.as_str() == name);
    if tier.is_none() {
        let names: Vec<&str> = settings.tiers.iter().map(Tier::as_str).collect();
        let suggestion = json::nearest(name, names.iter().copied()).map(|word| format!("; did you mean {word}?"));
        let suggestion = suggestion.unwrap_or_default();
        let message = format!("must be one of {}, was {}{suggestion}", names.join(", "), json::quoted(name));
        found.add("/options/tier", message);
    }
    tier.cloned()
}

/// Reads the ids of tasks. An id that is not a UUID is reported like the id of an unknown task.
fn depends_on(found: &mut Findings, ids: Vec<String>) -> Vec<TaskId> {
    let ids = bounded(found, "/options/depends_on", ids).into_iter().enumerate();
    let checked = ids.filter_map(|(index, id)| {
        let task = id.parse().ok();
        if task.is_none() {
            found.add(&format!("/options/depends_on/{index}"), format!("there is no task {}", json::quoted(&id)));
        }
        task
    });
    checked.collect()
}

fn inputs(found: &mut Findings, ids: Vec<String>) -> Vec<ArtifactId> {
    let ids = bounded(found, "/options/inputs", ids).into_iter().enumerate();
    ids.filter_map(|(index, id)| found.parse(&format!("/options/inputs/{index}"), &id)).collect()
}

/// Returns the ids of a list, or none if the list is too long, so that only its length is reported.
fn bounded(found: &mut Findings, pointer: &str, ids: Vec<String>) -> Vec<String> {
    let count = ids.len();
    if count <= MAX_REFERENCES {
        return ids;
    }
    found.add(pointer, format!("must have at most {MAX_REFERENCES} ids, had {count}"));
    Vec::new()
}

/// Reads the execution mode, which old clients send as `mode`.
fn execution_mode(found: &mut Findings, new: Option<&str>, old: Option<&str>) -> ExecutionMode {
    let all = [ExecutionMode::Autonomous, ExecutionMode::Collaborative].map(|mode| (mode.as_str(), mode));
    let pointer = if new.is_some() { "/execution_mode" } else { "/mode" };
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        let message =
            format!("is the old name of execution_mode, which is {}; was {}", json::quoted(new), json::quoted(old));
        found.add("/mode", message);
    }
    let word = new.or(old).unwrap_or(ExecutionMode::Autonomous.as_str());
    one_of(found, pointer, word, &all).unwrap_or(ExecutionMode::Autonomous)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        Settings {
            version: "0".to_owned(),
            service_name: "test".to_owned(),
            tiers: ["tiny", "small"].iter().map(|name| Tier::new(name).unwrap()).collect(),
            lease_default: Duration::from_mins(1),
            lease_max: Duration::from_hours(1),
            heartbeat: Duration::from_secs(15),
        }
    }

    fn read(body: &Value) -> Result<Submission, Vec<FieldError>> {
        let (wire, errors) =
            json::decode_all(body.to_string().as_bytes(), 1_000_000).map_err(|invalid| match invalid {
                json::Invalid::Fields(errors) => errors,
                other => panic!("{other:?}"),
            })?;
        check(wire, errors, &settings(), None)
    }

    fn wrong(body: &Value) -> Vec<(String, String)> {
        read(body).unwrap_err().into_iter().map(|error| (error.pointer, error.message)).collect()
    }

    fn wrong_option(name: &str, value: Value) -> (String, String) {
        let mut options = Map::new();
        options.insert(name.to_owned(), value);
        let mut found = wrong(&json!({"description": "x", "options": options}));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn the_least_and_the_most_are_taken() {
        let least = read(&json!({"description": "x"})).unwrap();
        assert_eq!(least.project.as_str(), "default");
        assert_eq!(least.execution_mode, ExecutionMode::Autonomous);
        let task = "01890a5d-ac96-774b-bcce-b302099a8057";
        let most = read(&json!({
            "description": "x", "project_id": "p", "priority": "high", "metadata": {"a": [1.5]},
            "mode": "collaborative", "execution_mode": "collaborative", "constitution_override": {"b": null},
            "options": {
                "decompose": true, "qa_profile": "strict", "tier": "small", "domain": "code-general",
                "timeout_seconds": 2_592_000, "max_attempts": 20, "not_before": "2027-01-01T00:00:00Z",
                "depends_on": [task], "on_child_failure": "continue", "inputs": ["art-1"],
            },
        }))
        .unwrap();
        assert_eq!(most.metadata.as_deref(), Some(r#"{"a":[1.5]}"#));
        assert_eq!(most.options.depends_on, [task.parse().unwrap()]);
        assert_eq!(most.execution_mode, ExecutionMode::Collaborative);
        assert_eq!(read(&json!({"description": "x", "options": null, "project_id": null})).unwrap(), least);
    }

    #[test]
    fn every_bad_field_is_named() {
        let single = |body: Value| {
            let mut found = wrong(&body);
            assert_eq!(found.len(), 1, "{found:?}");
            found.remove(0)
        };
        assert_eq!(single(json!({})), ("/description".to_owned(), "is required".to_owned()));
        assert_eq!(single(json!({"description": " \n"})).1, "must not be blank");
        assert!(single(json!({"description": "x".repeat(65_537)})).1.ends_with("was 65537"));
        assert_eq!(single(json!({"description": 5})).1, "invalid type: integer `5`, expected a string");
        assert_eq!(single(json!({"description": "x", "project_id": ""})).1, "must not be empty, was \"\"");
        let priority = single(json!({"description": "x", "priority": "urgent"}));
        assert_eq!(priority.1, "must be one of low, normal, high, was \"urgent\"");
        assert_eq!(single(json!({"description": "x", "metadata": []})).0, "/metadata");
        assert!(single(json!({"description": "x", "metadata": {"a": "b".repeat(17_000)}})).1.contains("at most 16384"));
        let both = single(json!({"description": "x", "mode": "autonomous", "execution_mode": "collaborative"}));
        assert_eq!(both.0, "/mode");
        assert_eq!(single(json!({"description": "x", "mode": "fast"})).0, "/mode");
        let override_size = json!({"description": "x", "constitution_override": {"a": "b".repeat(70_000)}});
        assert_eq!(single(override_size).0, "/constitution_override");
        assert!(single(json!({"descripton": "x", "description": "y"})).1.contains("did you mean `description`?"));
    }

    #[test]
    fn every_bad_option_is_named() {
        assert!(wrong_option("tier", json!("frontier")).1.starts_with("must be one of tiny, small"));
        assert!(wrong_option("tier", json!("smal")).1.ends_with("did you mean small?"));
        assert_eq!(wrong_option("qa_profile", json!("No!")).0, "/options/qa_profile");
        assert_eq!(wrong_option("domain", json!("")).0, "/options/domain");
        for bad in [0, -1, 2_592_001, i64::MAX] {
            assert!(wrong_option("timeout_seconds", json!(bad)).1.starts_with("must be from 1 to 2592000"));
        }
        assert_eq!(wrong_option("max_attempts", json!(21)).1, "must be from 1 to 20, was 21");
        assert!(wrong_option("max_attempts", json!(1.5)).1.contains("expected an integer"));
        assert_eq!(wrong_option("not_before", json!("soon")).0, "/options/not_before");
        let (pointer, message) = wrong_option("depends_on", json!(["01890a5d-ac96-774b-bcce-b302099a8057", "t-1"]));
        assert_eq!((pointer.as_str(), message.as_str()), ("/options/depends_on/1", "there is no task \"t-1\""));
        assert_eq!(wrong_option("inputs", json!(["a\u{1}"])).0, "/options/inputs/0");
        assert_eq!(wrong_option("inputs", json!(vec!["a"; 257])).0, "/options/inputs");
        assert_eq!(wrong_option("on_child_failure", json!("stop")).0, "/options/on_child_failure");
        assert_eq!(wrong_option("decompose", json!("yes")).0, "/options/decompose");
        assert!(wrong_option("timeout", json!(5)).1.contains("unknown field `timeout`"));
    }

    #[test]
    fn all_errors_come_together() {
        let found = wrong(&json!({"priority": "x", "options": {"tier": 5, "max_attempts": 0}, "unknown": 1}));
        let mut pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/description", "/options/max_attempts", "/options/tier", "/priority", "/unknown"]);
    }
}
