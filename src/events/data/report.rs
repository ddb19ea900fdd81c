//! Reads the data of an event about a task into a [`Report`].

use serde_json::Value;

use super::fields::InvalidData;
use super::{attempt, output, review, verdict};
use crate::task::{Correlation, Report};

/// Reads the data of the event `name`, which is about a task.
pub(in crate::events) fn read_report(name: &str, data: Value) -> Result<(Correlation, Report), InvalidData> {
    match name {
        "task.started" => attempt::read_started(data),
        "task.output.created" => output::read_output(data),
        "task.validated" => verdict::read_validated(data),
        "task.rejected" => verdict::read_rejected(data),
        "task.failed" => attempt::read_failed(data),
        "review.requested" => review::read_requested(data),
        _ => review::read_completed(data),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::task::{ArtifactId, Decision, Review, ReviewDecision, Verdict};

    const TASK: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn pointers(name: &str, data: Value) -> Vec<String> {
        match read_report(name, data) {
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
        let (correlation, report) = read_report("task.output.created", data).unwrap();
        assert_eq!(correlation.artifact, Some(ArtifactId::new("a").unwrap()));
        let Report::Output(output) = report else { panic!("{report:?}") };
        assert_eq!(output.artifacts[0].path.as_deref(), Some("f.py"));
        assert_eq!(output.tokens_output, None);
        assert_eq!(output.started_at.unwrap().to_string(), "2026-01-09T18:00:00.5Z");
        assert!(read_report("task.output.created", json!({"task_id": TASK, "artifact_id": "a"})).is_ok());
    }

    #[test]
    fn the_artifacts_and_inputs_of_an_output_are_bounded() {
        let output = |artifacts: usize, inputs: usize| {
            let artifacts: Vec<Value> = (0..artifacts).map(|number| json!({"id": format!("a{number}")})).collect();
            let inputs: Vec<String> = (0..inputs).map(|number| format!("i{number}")).collect();
            json!({"task_id": TASK, "artifact_id": "a", "inputs_consumed": inputs, "output": {"artifacts": artifacts}})
        };
        assert!(read_report("task.output.created", output(1024, 1024)).is_ok());
        let Err(InvalidData::Fields(errors)) = read_report("task.output.created", output(1025, 70_000)) else {
            panic!("the output is accepted")
        };
        let texts: Vec<String> = errors.iter().map(|error| format!("{} {}", error.pointer, error.message)).collect();
        let expected = [
            "/data/output/artifacts must have at most 1024 artifacts, had 1025",
            "/data/inputs_consumed must have at most 1024 ids, had 70000",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn contents_must_match_their_checksums() {
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
        let Report::Output(read_output) = read_report("task.output.created", output(good)).unwrap().1 else { panic!() };
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
    fn every_wrong_field_of_an_output_is_named() {
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
    fn a_rejection_has_the_reason_or_the_first_issue() {
        let reason = |data: Value| match read_report("task.rejected", data).unwrap().1 {
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
    fn a_review_may_have_no_task() {
        let data = json!({"review_id": "r", "decision": "changes_requested", "reviewer_id": "ann"});
        let (correlation, report) = read_report("review.completed", data).unwrap();
        assert_eq!(correlation.task, None);
        assert!(matches!(report, Report::ReviewCompleted(Review { decision: ReviewDecision::ChangesRequested, .. })));
        let unknown =
            read_report("review.requested", json!({"review_id": "r", "reason": "x", "priority": 1, "task_id": "t"}));
        assert_eq!(unknown, Err(InvalidData::UnknownTask("t".to_owned())));
    }
}
