//! Tests of the rules by which objects are read and written.

use serde_json::{Map, Value, json};

use super::*;
use crate::task::{RecordStatus, Timestamp};

const ID: &str = "0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11";

fn record(mut members: Value) -> Record {
    if members.get("id").is_none() {
        members["id"] = json!(ID);
    }
    members["outputs"] = members.get("outputs").cloned().unwrap_or(Value::Null);
    match Line::parse(members.to_string().as_bytes()) {
        Ok(Line::Record(record)) => *record,
        other => panic!("{other:?}"),
    }
}

fn invalid(text: &str) -> Invalid {
    Line::parse(text.as_bytes()).unwrap_err()
}

fn rendered(record: &Record, status: RecordStatus, taint: &Taint) -> Map<String, Value> {
    record.to_json(status, taint).as_object().unwrap().clone()
}

#[test]
fn kinds_are_told_apart_by_their_keys() {
    let kind = |members: Value| {
        let mut object = json!({"id": ID, "created_at": "2026-01-09T18:00:00"});
        object.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        Line::parse(object.to_string().as_bytes()).unwrap().kind()
    };
    assert_eq!(kind(json!({"action": "taint", "cascade_id": "c"})), Kind::TaintEvent);
    assert_eq!(kind(json!({"action": "clear", "artifact_id": "a"})), Kind::TaintEvent);
    assert_eq!(kind(json!({"trigger": "auto"})), Kind::Checkpoint);
    assert_eq!(kind(json!({"git_ref": ""})), Kind::Checkpoint);
    assert_eq!(kind(json!({})), Kind::Record);
    assert_eq!(kind(json!({"task_id": "t", "trigger": "x", "action": "y", "cascade_id": "z"})), Kind::Record);
}

#[test]
fn the_structure_wins_unless_it_is_empty() {
    let both = |structured: Value, flat: Value| {
        let read = record(json!({
            "execution": {"model": structured[0], "worker_id": structured[1]},
            "metrics": {"tokens_input": structured[2], "tokens_output": structured[2], "execution_time_ms": structured[2]},
            "verification": {"status": structured[3], "details": structured[4]},
            "model_used": flat[0], "worker_id": flat[1], "tokens_input": flat[2], "tokens_output": flat[2],
            "execution_time_ms": flat[2], "verification_status": flat[3], "verification_details": flat[4],
            "confidence": flat[5],
        }));
        assert_eq!((read.tokens_input, read.tokens_input), (read.tokens_output, read.execution_time_ms));
        (read.model, read.worker, read.tokens_input, read.status, read.verification.details, read.confidence)
    };
    let text = |text: &str| Some(text.to_owned());
    let structured = json!(["m", "w", 7, "failed", {"a": 1, "confidence": 0.25}]);
    let flat = json!(["n", "v", 8, "passed", {"b": 2}, 0.75]);
    assert_eq!(
        both(structured.clone(), flat.clone()),
        (text("m"), text("w"), Some(7), RecordStatus::Failed, structured[4].clone(), Some(0.25))
    );
    let from_flat = (text("n"), text("v"), Some(8), RecordStatus::Passed, json!({"b": 2}), Some(0.75));
    assert_eq!(both(json!(["", "", 0, "pending", {}]), flat.clone()), from_flat);
    assert_eq!(both(json!([null, null, null, null, null]), flat), from_flat);
    let neither = (None, None, Some(0), RecordStatus::Pending, json!({}), Some(0.0));
    assert_eq!(both(json!(["", "", 0, "", {}]), json!([null, "", null, null, null, 0.0])), neither);
}

#[test]
fn taint_is_a_flag_beside_the_verdict() {
    let standing = |members: Value| {
        let read = record(members);
        (read.status, read.taint.is_tainted, read.taint.is_suspect)
    };
    assert_eq!(standing(json!({})), (RecordStatus::Pending, false, false));
    assert_eq!(standing(json!({"verification_status": "tainted"})), (RecordStatus::Pending, true, false));
    assert_eq!(standing(json!({"verification": {"status": "suspect"}})), (RecordStatus::Pending, false, true));
    let hidden = json!({"verification": {"status": "suspect"}, "verification_status": "human_approved"});
    assert_eq!(standing(hidden), (RecordStatus::HumanApproved, false, true));
    let overruled = json!({"verification": {"status": "passed"}, "verification_status": "suspect"});
    assert_eq!(standing(overruled), (RecordStatus::Passed, false, false));
    let flagged = json!({"verification": {"status": "passed"}, "taint": {"is_tainted": true, "is_suspect": null}});
    assert_eq!(standing(flagged), (RecordStatus::Passed, true, false));
    assert_eq!(
        standing(json!({"taint": {"is_tainted": true, "is_suspect": true}})),
        (RecordStatus::Pending, true, true)
    );
}

#[test]
fn artifacts_are_named_once() {
    let read = record(json!({
        "outputs": [
            {"artifact_id": "a", "type": "code", "location": "f.py", "checksum": "c", "size_bytes": 3},
            {"content": "of an older file", "type": 5},
            {"artifact_id": ""},
            {"artifact_id": "b", "type": "", "location": null},
            {"artifact_id": "a", "type": "document"},
        ],
        "inputs": [
            {"artifact_id": "i", "relationship": "referenced", "version_at_consumption": "v"},
            {"artifact_id": "j"},
            {"artifact_id": "k", "relationship": "referenced"},
            {"relationship": "consumed"},
        ],
        "inputs_consumed": ["i", "l", "", "j"],
    }));
    let outputs: Vec<_> = read.outputs.iter().map(|output| (output.id.as_str(), output.kind.as_deref())).collect();
    assert_eq!(outputs, [("a", Some("code")), ("b", None)]);
    assert_eq!((read.outputs[0].path.as_deref(), read.outputs[0].size_bytes), (Some("f.py"), Some(3)));
    let inputs: Vec<_> = read.inputs.iter().map(|input| (input.artifact.as_str(), input.consumed)).collect();
    assert_eq!(inputs, [("i", true), ("j", true), ("k", false), ("l", true)]);
}

#[test]
fn what_is_missing_or_null_is_not_known() {
    let empty = record(json!({}));
    let nulls = record(json!({
        "task_id": null, "project_id": "", "outputs": null, "inputs": null, "inputs_consumed": null,
        "execution": null, "verification": null, "taint": null, "metrics": null, "created_at": null,
        "started_at": "", "confidence": null, "model_used": null, "verification_details": null,
    }));
    assert_eq!(Record { original: None, ..empty.clone() }, Record { original: None, ..nulls });
    assert_eq!((empty.task.as_str(), empty.project.as_str()), ("", "default"));
    assert_eq!(empty.made_at(), Timestamp::default());
}

#[test]
fn a_key_that_is_given_twice_and_a_byte_order_mark_are_named() {
    let twice = invalid(r#"{"id": "a", "task_id": "t", "id": "b"}"#);
    assert_eq!((twice.reason, twice.pointer.as_str(), twice.offset), (Reason::BadValue, "/id", 28));
    assert_eq!(twice.message, r#"duplicate field: the key "id" must be given once in its object"#);
    assert_eq!(invalid(r#"{"id": "a", "outputs": [{"id": "b", "id": "b"}]}"#).pointer, "/outputs/0/id");
    assert!(Line::parse(br#"{"id": "a", "outputs": [{"id": "b"}], "task_id": "t"}"#).is_ok());
    let marked = invalid("\u{feff}{}");
    assert_eq!((marked.reason, marked.offset), (Reason::NotJson, 0));
    assert!(marked.message.contains("byte order mark (U+FEFF)"), "{marked}");
    let unknown = invalid(r#"{"id": "e", "cascade_id": "c", "action": "blame"}"#);
    assert_eq!(unknown.message, r#"must be taint, suspect, clear or escalate, was "blame""#);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let mut found = Vec::new();
    for text in [
        "",
        "  \n",
        "{\"id\": \"0d5f",
        "{\"id\": nope}",
        "[{\n}, x]",
        "  [1]",
        "\u{feff}{}",
        "{\"task_id\": \"t\"}",
        "{\"id\": \"record-1\"}",
        "{\"id\": 7}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"project_id\": \"a\\u0000\"}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"seed\": 123456789012345678901234567890}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\",\n \"outputs\": [{}, {\"size_bytes\": 1, \"artifact_id\": 3}]}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"inputs\": [{\"artifact_id\": \"a\", \"relationship\": \"used\"}]}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"inputs_consumed\": \"a\"}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"created_at\": \"yesterday\"}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"confidence\": 85}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"metrics\": {\"tokens_input\": -1}}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"verification\": {\"status\": \"good\"}}",
        "{\"id\": \"0d5fa5a4-3b6e-4d2c-9a7e-0f6a3f0e9b11\", \"taint\": {\"is_tainted\": \"yes\"}}",
        "{\"id\": \"e\", \"action\": \"bless\", \"cascade_id\": \"c\"}",
        "{\"id\": \"c\", \"trigger\": \"auto\"}",
        "{\"action\": \"taint\", \"cascade_id\": \"c\"}",
    ] {
        let invalid = invalid(text);
        found.push(format!("{text:?}\n    {}: {invalid}", invalid.reason.as_str()));
    }
    let deep = format!("{{\"id\": \"x\", \"a\": {}1{}}}", "[".repeat(64), "]".repeat(64));
    assert_eq!((invalid(&deep).reason, invalid(&deep).offset), (Reason::TooDeep, 17 + 63));
    let large = format!("{{\"id\": \"{}\"}}", "x".repeat(MAX_LINE_BYTES));
    assert_eq!(invalid(&large).reason, Reason::TooLarge);
    let latin = Line::parse(b"{\"id\": \"\xe9t\xe9\"}").unwrap_err();
    assert_eq!((latin.reason, latin.offset), (Reason::NotJson, 8));
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn a_change_alters_what_it_must_and_nothing_else() {
    let passed = record(json!({
        "verification": {"status": "passed", "qa_profile": "strict"}, "verification_status": "passed", "x": [1.5],
        "taint": {"is_tainted": false, "tainted_at": null, "note": "kept"},
    }));
    let taint = Taint {
        is_tainted: true,
        tainted_at: Some("2026-01-09T18:00:00.25Z".parse().unwrap()),
        tainted_reason: Some("bad".to_owned()),
        tainted_by: None,
        ..Taint::default()
    };
    let tainted = rendered(&passed, RecordStatus::Passed, &taint);
    let mut expected = passed.original.clone().unwrap();
    expected["verification"]["status"] = json!("tainted");
    // The verdict is kept behind the flag.
    expected["verification_status"] = json!("passed");
    expected["taint"] = json!({
        "is_tainted": true, "tainted_at": "2026-01-09T18:00:00.250000", "note": "kept", "tainted_reason": "bad",
    });
    assert_eq!(tainted, expected);
    // Read again and cleared, it is as good as it was.
    let Ok(Line::Record(again)) = Line::parse(Value::Object(tainted).to_string().as_bytes()) else { panic!() };
    assert_eq!((again.status, &again.taint), (RecordStatus::Passed, &taint));
    let cleared = rendered(&again, RecordStatus::Passed, &Taint::default());
    assert_eq!(cleared["verification"], passed.original.as_ref().unwrap()["verification"]);
    assert_eq!(cleared["taint"]["is_tainted"], json!(false));
    assert_eq!(cleared["taint"]["tainted_reason"], json!(""));
}

#[test]
fn a_flag_that_stays_stays_as_it_was_told() {
    let original = json!({"verification_status": "suspect", "taint": {"is_suspect": true, "suspect_source": "a"}});
    let suspect = record(original);
    let derived = Taint { suspect_since: Some(Timestamp::from_micros(5)), ..suspect.taint.clone() };
    assert_eq!(rendered(&suspect, suspect.status, &derived), suspect.original.clone().unwrap());
    // A verdict behind a flag does not show.
    assert_eq!(rendered(&suspect, RecordStatus::Passed, &derived), suspect.original.clone().unwrap());
    // The rule has found that nothing above it is tainted.
    let corrected = rendered(&suspect, suspect.status, &Taint::default());
    assert_eq!(corrected["verification_status"], json!("pending"));
    assert_eq!(corrected["taint"], json!({"is_suspect": false, "suspect_source": "", "suspect_since": null}));
}

#[test]
fn older_shapes_get_what_they_lack_only_when_it_is_needed() {
    let older = record(json!({"model_used": "m"}));
    assert_eq!(rendered(&older, older.status, &older.taint), older.original.clone().unwrap());
    let judged = rendered(&older, RecordStatus::Failed, &older.taint);
    assert_eq!(judged["verification"], json!({"status": "failed"}));
    assert!(!judged.contains_key("taint") && !judged.contains_key("verification_status"));
    let suspect = rendered(&older, older.status, &Taint { is_suspect: true, ..Taint::default() });
    assert_eq!(suspect["verification"], json!({"status": "suspect"}));
    assert_eq!(suspect["taint"].as_object().unwrap().len(), 7);
}

#[test]
fn a_record_of_our_own_has_the_whole_form() {
    let mut own = record(json!({
        "task_id": "t", "project_id": "p", "tier": "small", "domain": "analysis", "attempt": 2,
        "outputs": [{"artifact_id": "a", "type": "code", "location": "f.py", "checksum": "c", "size_bytes": 3}],
        "inputs": [{"artifact_id": "i"}, {"artifact_id": "j", "relationship": "referenced"}],
        "execution": {"model": "m", "worker_id": "w"}, "confidence": 0.875,
        "metrics": {"tokens_input": 10, "tokens_output": 20, "execution_time_ms": 30},
        "verification": {"status": "passed", "qa_profile": "strict", "details": {"score": 0.9}},
        "created_at": "2026-01-09T18:00:00", "started_at": "2026-01-09T18:00:00.5",
    }));
    own.original = None;
    let written = own.to_json(own.status, &own.taint);
    insta::assert_snapshot!(serde_json::to_string_pretty(&written).unwrap());
    let Ok(Line::Record(again)) = Line::parse(written.to_string().as_bytes()) else { panic!() };
    assert_eq!(Record { original: None, ..*again }, own);
}

#[test]
fn events_and_checkpoints_of_our_own_have_the_whole_form() {
    let event = TaintEvent {
        id: "e".to_owned(),
        timestamp: Some("2026-01-09T18:00:00.5Z".parse().unwrap()),
        artifact: Some("a".parse().unwrap()),
        record: Some(ID.parse().unwrap()),
        reason: "bad".to_owned(),
        source_artifact: "b".to_owned(),
        source_record: None,
        cascade_depth: 2,
        cascade: "c".to_owned(),
        action: Action::Escalate,
        original: None,
    };
    let checkpoint = Checkpoint {
        id: "c".to_owned(),
        project: "p".parse().unwrap(),
        created_at: "2026-01-09T18:00:00Z".parse().unwrap(),
        provenance_count: 3,
        artifact_count: 4,
        last_provenance_id: ID.to_owned(),
        last_task_id: "t".to_owned(),
        git_ref: String::new(),
        rag_state_ref: String::new(),
        work_product_ref: String::new(),
        description: "before the release".to_owned(),
        trigger: "manual".to_owned(),
        is_valid: true,
        original: None,
    };
    let (event_json, checkpoint_json) = (event.to_json(), checkpoint.to_json(true));
    insta::assert_snapshot!(serde_json::to_string_pretty(&[&event_json, &checkpoint_json]).unwrap());
    let Ok(Line::TaintEvent(again)) = Line::parse(event_json.to_string().as_bytes()) else { panic!() };
    assert_eq!(TaintEvent { original: None, ..*again.clone() }, event);
    assert_eq!(again.to_json(), event_json);
    let Ok(Line::Checkpoint(again)) = Line::parse(checkpoint_json.to_string().as_bytes()) else { panic!() };
    assert_eq!(Checkpoint { original: None, ..*again.clone() }, checkpoint);
    assert_eq!(again.to_json(true), checkpoint_json);
    assert_eq!(again.to_json(false)["is_valid"], json!(false));
}

#[test]
fn an_export_goes_into_no_directory_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["r 1.json", "checkpoints.json.damaged", ".gitignore"] {
        std::fs::write(dir.path().join(name), "{}").unwrap();
    }
    FolderWriter::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("dats.redb"), "").unwrap();
    let refused = FolderWriter::open(dir.path()).unwrap_err().to_string();
    assert_eq!(refused, "dats.redb is there; must hold files of an export and nothing else");
}
