//! The data of events that are taken, by type: from JSON to a [`Report`].

mod attempt;
mod output;
mod review;
mod verdict;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::json::{self, FieldError, Findings};
use crate::task::{ArtifactId, Correlation, Holder, Report, TaskId};

pub(super) use attempt::{FailedData, StartedData};
pub(super) use output::OutputData;
pub(super) use review::{CompletedData, RequestedData};
pub(super) use verdict::{RejectedData, ValidatedData};

/// Longest reason that a task keeps, in bytes; the event itself keeps all.
const MAX_REASON_BYTES: usize = 8 * 1024;

/// Why data is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InvalidData {
    Fields(Vec<FieldError>),
    UnknownTask(String),
}

/// Checks the data of an event of this name.
pub(super) fn read(name: &str, data: Value) -> Result<(Correlation, Report), InvalidData> {
    match name {
        "task.started" => attempt::started(data),
        "task.output.created" => output::output(data),
        "task.validated" => verdict::validated(data),
        "task.rejected" => verdict::rejected(data),
        "task.failed" => attempt::failed(data),
        "review.requested" => review::requested(data),
        _ => review::completed(data),
    }
}

pub(super) fn typed<T: DeserializeOwned>(data: Value) -> Result<(T, Findings), InvalidData> {
    match json::from_value_all(data, "/data") {
        (Some(typed), errors) => Ok((typed, Findings::from_errors(errors))),
        (None, errors) => Err(InvalidData::Fields(errors)),
    }
}

/// A text that is no UUID names a task that can't exist, and is no bad field.
fn task(found: &mut Findings, id: Option<&str>, required: bool) -> Result<Option<TaskId>, InvalidData> {
    let id = if required { found.required("/data/task_id", id) } else { id };
    match id {
        Some(id) => id.parse().map(Some).map_err(|_| InvalidData::UnknownTask(id.to_owned())),
        None => Ok(None),
    }
}

/// The worker that an event comes from. Text that is no lease id names a lease
/// that nobody holds: it is a bad field, so that a typo is noticed.
fn sender(found: &mut Findings, worker: Option<&str>, lease: Option<&str>) -> Holder {
    Holder {
        worker: worker.and_then(|id| found.parse("/data/worker_id", id)),
        lease: lease.and_then(|id| found.parse("/data/lease_id", id)),
    }
}

fn artifact(found: &mut Findings, id: Option<&str>, required: bool) -> Option<ArtifactId> {
    let id = if required { found.required("/data/artifact_id", id) } else { id };
    found.parse("/data/artifact_id", id?)
}

/// Bad fields come first, then a task that can't exist.
fn finish<T>(
    found: Findings,
    task: Result<Option<TaskId>, InvalidData>,
    rest: Option<T>,
) -> Result<(Option<TaskId>, T), InvalidData> {
    match rest {
        Some(rest) if found.is_empty() => Ok((task?, rest)),
        _ => Err(InvalidData::Fields(found.into_errors())),
    }
}

pub(super) fn shortened(mut text: String) -> String {
    if text.len() > MAX_REASON_BYTES {
        text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task::{Decision, Review, ReviewDecision, Verdict};

    const TASK: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn pointers(name: &str, data: Value) -> Vec<String> {
        match read(name, data) {
            Err(InvalidData::Fields(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_output_is_read_whole() {
        let data = json!({
            "task_id": TASK, "artifact_id": "a", "inputs_consumed": ["i"], "model_used": "m", "worker_id": "w",
            "tokens_input": 1, "tokens_used": 9, "execution_time_ms": 5, "confidence": 0.5, "attempt": 2,
            "started_at": "2026-01-09T18:00:00.5", "project_id": 7,
            "output": {"content": "x", "artifacts": [{"id": "a", "type": "code", "location": "f.py", "size_bytes": 3}]},
        });
        let (correlation, report) = read("task.output.created", data).unwrap();
        assert_eq!(correlation.artifact, Some(ArtifactId::new("a").unwrap()));
        let Report::Output(output) = report else { panic!("{report:?}") };
        assert_eq!(output.artifacts[0].path.as_deref(), Some("f.py"));
        assert_eq!(output.tokens_output, None);
        assert_eq!(output.started_at.unwrap().to_string(), "2026-01-09T18:00:00.5Z");
        assert!(read("task.output.created", json!({"task_id": TASK, "artifact_id": "a"})).is_ok());
    }

    #[test]
    fn an_output_has_no_more_artifacts_than_are_indexed() {
        let output = |artifacts: usize, inputs: usize| {
            let artifacts: Vec<Value> = (0..artifacts).map(|number| json!({"id": format!("a{number}")})).collect();
            let inputs: Vec<String> = (0..inputs).map(|number| format!("i{number}")).collect();
            json!({"task_id": TASK, "artifact_id": "a", "inputs_consumed": inputs, "output": {"artifacts": artifacts}})
        };
        assert!(read("task.output.created", output(1024, 1024)).is_ok());
        let Err(InvalidData::Fields(errors)) = read("task.output.created", output(1025, 70_000)) else {
            panic!("it is taken")
        };
        let told: Vec<String> = errors.iter().map(|error| format!("{} {}", error.pointer, error.message)).collect();
        let expected = [
            "/data/output/artifacts must have at most 1024 artifacts, had 1025",
            "/data/inputs_consumed must have at most 1024 ids, had 70000",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn contents_are_held_against_their_checksums() {
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let output = |artifacts: Value| {
            let output = json!({"content": "hello", "artifacts": artifacts});
            json!({"task_id": TASK, "artifact_id": "a", "output": output})
        };
        let good = json!([
            {"id": "a", "checksum": hello}, {"id": "b", "content": "hello", "checksum": format!("sha256:{hello}")},
            {"id": "c", "checksum": hello.replace('2', "3")}, {"id": "d", "content": "", "checksum": "md5:x"},
            {"id": "a", "content": "hello"},
        ]);
        let Report::Output(read_output) = read("task.output.created", output(good)).unwrap().1 else { panic!() };
        let texts: Vec<_> = read_output.contents.iter().map(|(id, it)| (id.as_str(), it.text().unwrap())).collect();
        assert_eq!(texts, [("a", "hello"), ("b", "hello"), ("d", "")]);
        let wrong = hello.replace('2', "3");
        let bad = json!([
            {"id": "a", "checksum": wrong}, {"id": "b", "content": "x", "checksum": format!("sha256:{wrong}")},
            {"id": "a", "content": "other"},
        ]);
        let expected = [
            "/data/output/artifacts/2/content",
            "/data/output/artifacts/0/checksum",
            "/data/output/artifacts/1/checksum",
        ];
        assert_eq!(pointers("task.output.created", output(bad)), expected);
    }

    #[test]
    fn every_bad_field_of_an_output_is_named() {
        let data = json!({
            "task_id": 5, "confidence": 1.5, "attempt": 0, "started_at": "x", "worker_id": "", "tokens_input": -1,
            "inputs_consumed": ["ok", ""], "output": {"artifacts": [{"type": "code"}, {"id": "a\u{7}"}]},
        });
        let mut found = pointers("task.output.created", data);
        found.sort();
        let mut expected = [
            "/data/task_id",
            "/data/artifact_id",
            "/data/confidence",
            "/data/attempt",
            "/data/started_at",
            "/data/worker_id",
            "/data/tokens_input",
            "/data/inputs_consumed/1",
            "/data/output/artifacts/0/id",
            "/data/output/artifacts/1/id",
        ];
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn required_fields_are_required() {
        assert_eq!(pointers("task.validated", json!({})), ["/data/task_id", "/data/artifact_id", "/data/score"]);
        assert_eq!(pointers("task.rejected", json!({})), ["/data/task_id", "/data/artifact_id", "/data/issues"]);
        assert_eq!(pointers("task.failed", json!({})), ["/data/task_id", "/data/error"]);
        assert_eq!(pointers("review.requested", json!({})), ["/data/review_id", "/data/reason", "/data/priority"]);
        let completed = pointers("review.completed", json!({"decision": "maybe"}));
        assert_eq!(completed, ["/data/review_id", "/data/decision", "/data/reviewer_id"]);
    }

    #[test]
    fn a_rejection_says_why() {
        let reason = |data: Value| match read("task.rejected", data).unwrap().1 {
            Report::Verdict(Verdict { decision: Decision::Rejected { reason }, details, .. }) => (reason, details),
            other => panic!("{other:?}"),
        };
        let base = json!({"task_id": TASK, "artifact_id": "a", "issues": [{"message": "no tests"}], "score": 0.1});
        assert_eq!(
            reason(base.clone()),
            ("no tests".to_owned(), r#"{"score":0.1,"issues":[{"message":"no tests"}]}"#.to_owned())
        );
        let with = |key: &str, value: Value| {
            let mut data = base.clone();
            data[key] = value;
            reason(data).0
        };
        assert_eq!(with("reason", json!("bad style")), "bad style");
        assert_eq!(with("issues", json!(["first", "second"])), "first");
        assert_eq!(with("issues", json!([7])), "7");
        assert!(with("issues", json!([])).contains("no issue was named"));
        assert_eq!(with("reason", json!("ä".repeat(5000))).chars().count(), 4097);
    }

    #[test]
    fn reviews_need_no_task() {
        let data = json!({"review_id": "r", "decision": "changes_requested", "reviewer_id": "ann"});
        let (correlation, report) = read("review.completed", data).unwrap();
        assert_eq!(correlation.task, None);
        assert!(matches!(report, Report::ReviewCompleted(Review { decision: ReviewDecision::ChangesRequested, .. })));
        let unknown = read("review.requested", json!({"review_id": "r", "reason": "x", "priority": 1, "task_id": "t"}));
        assert_eq!(unknown, Err(InvalidData::UnknownTask("t".to_owned())));
    }
}
