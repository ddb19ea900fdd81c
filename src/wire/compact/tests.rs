//! Tests of the compact answer against the rendering of serde.

use serde_json::json;

use super::*;
use crate::task::{
    self, ArtifactId, Completion, ExecutionMode, Input, Options, OutputArtifact, Pending, Policy, Priority, ProjectId,
    QaProfile, Queued, Resolved, State, Timestamp,
};

/// The answer as serde renders it.
#[derive(Serialize)]
struct Plain<'a> {
    #[serde(flatten)]
    task: TaskFields<'a>,
    #[serde(flatten)]
    submission: SubmissionFields<'a>,
}

fn rendered_by_serde(task: &Task, submission: &Submission) -> String {
    let (task_fields, submission) = (TaskFields::new(task, now()), SubmissionFields::new(submission, task));
    serde_json::to_string(&Plain { task: task_fields, submission }).unwrap()
}

fn submission(project: &str, metadata: Option<&str>) -> Submission {
    Submission {
        description: "Say \"hello\"".to_owned(),
        project: ProjectId::new(project).unwrap(),
        priority: None,
        options: Options::default(),
        metadata: metadata.map(Into::into),
        execution_mode: ExecutionMode::Autonomous,
        constitution_override: None,
        traceparent: None,
        rerun_of: None,
    }
}

fn now() -> Now {
    Now::aligned(Timestamp::from_micros(1_795_000_000_123_400))
}

fn cancelled(submission: &Submission, domain: &str, reason: Option<&str>) -> Task {
    let resolved = Resolved {
        priority: Priority::Normal,
        tier: Tier::new("small").unwrap(),
        domain: Domain::new(domain).unwrap(),
        qa_profile: QaProfile::new("none").unwrap(),
        timeout_seconds: 600,
        max_attempts: 3,
        routing: None,
    };
    let now = now();
    let task = task::submit(TaskId::from_bytes([7; 16]), submission, resolved, &[], now, &Policy::default()).task;
    let cancel = Input::Cancel { reason: reason.map(str::to_owned) };
    let later = Now::aligned(now.wall.after(std::time::Duration::from_secs(1)));
    task::apply(&task, cancel, later, &Policy::default()).unwrap().task
}

#[test]
fn token_runs_give_the_same_answer_from_fewer_bytes() {
    for (project, domain, metadata) in
        [("default", "code-general", None), ("p/ü", "my-own", Some("{\"a\":[1]}")), ("proj1", "unknown", Some("{}"))]
    {
        for reason in [None, Some("not needed")] {
            let submission = submission(project, metadata);
            let task = cancelled(&submission, domain, reason);
            let plain = CompactAnswer::new(&task, &FixedValues::new(&submission, &task), now());
            let joined = plain.clone().with_token_runs();
            let by_serde = rendered_by_serde(&task, &submission);
            let (expected, found) = (plain.render(task.id, None), joined.render(task.id, None));
            assert_eq!(String::from_utf8_lossy(&expected.body), by_serde);
            assert_eq!(String::from_utf8_lossy(&found.body), by_serde);
            assert_eq!((found.version, found.ended), (expected.version, expected.ended));
            let body: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
            assert_eq!((&body["project_id"], &body["domain"]), (&json!(project), &json!(domain)));
            assert!(joined.len() + 10 < plain.len(), "{} of {}", joined.len(), plain.len());
        }
    }
}

#[test]
fn an_open_task_has_no_token_runs() {
    let submission = submission("default", None);
    let mut task = cancelled(&submission, "code-general", None);
    let plain = CompactAnswer::new(&task, &FixedValues::new(&submission, &task), now());
    assert_eq!(plain.pause_keys(), None, "no pause holds back a task that has ended");
    task.state = State::Pending(Pending::Queued(Queued {
        since: now().observed,
        announced: true,
        not_before: None,
        attempt: None,
    }));
    let open = CompactAnswer::new(&task, &FixedValues::new(&submission, &task), now());
    assert_eq!(open.clone().with_token_runs(), open);
    assert_eq!(open.fixed_values().unwrap().0, FixedValues::new(&submission, &task).0);
    assert_eq!(plain.fixed_values().map(|fixed| fixed.0), None, "token runs may replace the values of an ended task");
    let keys = PauseKeys { project: b"\"default\"", tier: b"\"small\"", phase: b"\"queued\"" };
    assert_eq!(open.pause_keys(), Some(keys));
    assert_eq!(String::from_utf8_lossy(&open.render(task.id, None).body), rendered_by_serde(&task, &submission));
}

/// The keys of the codec are those of the structs, with every field set.
#[test]
fn the_compact_answer_renders_what_serde_renders() {
    let (id, other) = (TaskId::from_bytes([9; 16]), TaskId::from_bytes([10; 16]));
    let tier = Tier::new("large").unwrap();
    let mut submission = submission("p", Some("{\"a\": 1}"));
    submission.options = Options {
        decompose: Some(false),
        tier: Some(tier.clone()),
        domain: Some(Domain::new("analysis").unwrap()),
        not_before: Some(now().wall),
        depends_on: vec![id, other],
        inputs: vec![ArtifactId::new("in \"1\"").unwrap()],
        ..Options::default()
    };
    let mut task = cancelled(&submission, "unknown", None);
    task.children = vec![id];
    task.depends_on = vec![id, other];
    (task.parent, task.rerun_of, task.started_at) = (Some(id), Some(other), Some(now().wall));
    let artifact = OutputArtifact {
        id: ArtifactId::new("a/ü").unwrap(),
        kind: Some("code".to_owned()),
        path: None,
        language: Some("rust".to_owned()),
        checksum: None,
        size_bytes: Some(7),
    };
    let by = Completion::Children { artifacts: vec![artifact] };
    let error = task::TaskError { code: task::ErrorCode::Rejected, message: "no\n".to_owned(), attempt: Some(2) };
    for state in [
        State::Completed { at: now().wall, by },
        State::Failed { at: task.updated_at, error },
        State::Cancelled { at: now().wall, reason: Some("late".to_owned()) },
        State::Pending(Pending::Blocked { waits_for: vec![other] }),
    ] {
        task.state = state;
        let compact = CompactAnswer::new(&task, &FixedValues::new(&submission, &task), now());
        let expected = rendered_by_serde(&task, &submission);
        assert_eq!(String::from_utf8_lossy(&compact.render(task.id, None).body), expected);
        assert_eq!(String::from_utf8_lossy(&compact.with_token_runs().render(task.id, None).body), expected);
    }
}
