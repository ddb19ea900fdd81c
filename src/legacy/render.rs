//! Renders a record as an object of the old program.

use serde_json::{Map, Value, json};

use super::record::{Input, Record, Taint};
use super::time;
use crate::task::{OutputArtifact, RecordStatus, Timestamp};

impl Record {
    /// Renders the record in the form of the old program, with its present verdict and flags. An
    /// imported record is its original object, changed only where values have changed since; a
    /// record without an original is written in full.
    #[must_use]
    pub fn to_json(&self, status: RecordStatus, taint: &Taint) -> Value {
        match &self.original {
            Some(original) => Value::Object(self.updated(original.clone(), status, taint)),
            None => self.written(status, taint),
        }
    }

    fn updated(&self, mut object: Map<String, Value>, status: RecordStatus, taint: &Taint) -> Map<String, Value> {
        let same_flags = flags(taint) == flags(&self.taint);
        // While the flags are unchanged, a verdict that a flag replaced stays replaced.
        let verdict_shows = label_of(&object).is_none_or(|label| label != "tainted" && label != "suspect");
        if !same_flags {
            set_label(&mut object, label(status, taint), behind(status, taint));
        } else if status != self.status && verdict_shows {
            set_label(&mut object, status.as_str(), status.as_str());
        }
        self.update_taint(&mut object, taint);
        object
    }

    fn update_taint(&self, object: &mut Map<String, Value>, taint: &Taint) {
        let changes = changes(&self.taint, taint);
        if changes.is_empty() {
            return;
        }
        match object.get_mut("taint") {
            Some(Value::Object(members)) => {
                members.extend(changes.into_iter().map(|(key, value)| (key.to_owned(), value)));
            }
            _ => {
                object.insert("taint".to_owned(), taint_object(taint));
            }
        }
    }

    fn written(&self, status: RecordStatus, taint: &Taint) -> Value {
        let consumed = self.inputs.iter().filter(|input| input.consumed).map(|input| &input.artifact);
        let details = if self.verification.details.is_null() { json!({}) } else { self.verification.details.clone() };
        let (model, worker, label) = (text(self.model.as_deref()), text(self.worker.as_deref()), label(status, taint));
        let (tokens_input, tokens_output) = (self.tokens_input.unwrap_or(0), self.tokens_output.unwrap_or(0));
        let execution_time_ms = self.execution_time_ms.unwrap_or(0);
        let mut object = json!({
            "id": self.name,
            "task_id": self.task,
            "project_id": self.project,
            "outputs": self.outputs.iter().map(output).collect::<Vec<_>>(),
            "inputs": self.inputs.iter().map(input).collect::<Vec<_>>(),
            "inputs_consumed": consumed.collect::<Vec<_>>(),
            "execution": {
                "model": model,
                "worker_id": worker,
                "prompt_template": {"name": "", "version": "", "hash": ""},
                "parameters": {},
            },
            "model_used": model,
            "worker_id": worker,
            "prompt_template": {"name": "", "version": ""},
            "verification": {
                "status": label,
                "qa_profile": text(self.verification.qa_profile.as_deref()),
                "qa_result_id": text(self.verification.qa_result_id.as_deref()),
                "verified_at": moment(self.verification.verified_at),
                "verified_by": text(self.verification.verified_by.as_deref()),
                "details": details,
            },
            "confidence": self.confidence.unwrap_or(0.0),
            "verification_status": behind(status, taint),
            "verification_details": details,
            "taint": taint_object(taint),
            "created_at": moment(self.created_at),
            "started_at": moment(self.started_at),
            "completed_at": moment(self.completed_at),
            "metrics": {
                "tokens_input": tokens_input,
                "tokens_output": tokens_output,
                "execution_time_ms": execution_time_ms,
            },
            "tokens_input": tokens_input,
            "tokens_output": tokens_output,
            "execution_time_ms": execution_time_ms,
        });
        // The old program ignores members that it does not know.
        let ours = [
            ("tier", self.tier.as_ref().map(|tier| json!(tier))),
            ("domain", self.domain.as_ref().map(|domain| json!(domain))),
            ("attempt", self.attempt.map(Value::from)),
        ];
        for (key, value) in ours {
            if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
                object.insert(key.to_owned(), value);
            }
        }
        object
    }
}

const fn flags(taint: &Taint) -> (bool, bool) {
    (taint.is_tainted, taint.is_suspect)
}

/// Returns the old program's word for verdict and flags together.
const fn label(status: RecordStatus, taint: &Taint) -> &'static str {
    match (taint.is_tainted, taint.is_suspect) {
        (true, _) => "tainted",
        (false, true) => "suspect",
        (false, false) => status.as_str(),
    }
}

/// Returns the word of the flat duplicate: the verdict that a flag has replaced, so that it is not
/// lost.
const fn behind(status: RecordStatus, taint: &Taint) -> &'static str {
    match status {
        RecordStatus::Pending => label(status, taint),
        RecordStatus::Passed | RecordStatus::Failed | RecordStatus::HumanApproved => status.as_str(),
    }
}

/// Returns the word that counts in an object: the nested one unless it is `pending`, otherwise the
/// flat one.
fn label_of(object: &Map<String, Value>) -> Option<&str> {
    let structured = object.get("verification").and_then(|verification| verification.get("status"));
    let words = [structured, object.get("verification_status")];
    words.into_iter().flatten().filter_map(Value::as_str).find(|word| !word.is_empty() && *word != "pending")
}

/// Sets the word wherever the object has one, nested or flat. The flat word may differ only if
/// there is a nested one.
fn set_label(object: &mut Map<String, Value>, label: &str, flat: &str) {
    let mut is_set = false;
    if let Some(twin) = object.get_mut("verification_status") {
        *twin = Value::from(flat);
        is_set = flat == label;
    } else if flat != label {
        object.insert("verification_status".to_owned(), Value::from(flat));
    }
    match object.get_mut("verification") {
        Some(Value::Object(members)) => {
            members.insert("status".to_owned(), Value::from(label));
        }
        _ if is_set => {}
        _ => {
            object.insert("verification".to_owned(), json!({"status": label}));
        }
    }
}

/// Returns the members of `taint` that have changed.
///
/// While a record stays tainted, members that are unknown now keep their old values. While it stays
/// suspect, time and source keep their old values too, because the service derives them anew and
/// they would change without a reason.
fn changes(before: &Taint, now: &Taint) -> Vec<(&'static str, Value)> {
    let mut changes = Vec::new();
    if before.is_tainted != now.is_tainted {
        changes.push(("is_tainted", Value::Bool(now.is_tainted)));
    }
    let stays = before.is_tainted == now.is_tainted;
    if before.tainted_at != now.tainted_at && !(stays && now.tainted_at.is_none()) {
        changes.push(("tainted_at", moment(now.tainted_at)));
    }
    let reasons = (&before.tainted_reason, &now.tainted_reason);
    let causes = (&before.tainted_by, &now.tainted_by);
    for (key, (before, now)) in [("tainted_reason", reasons), ("tainted_by", causes)] {
        if before != now && !(stays && now.is_none()) {
            changes.push((key, text(now.as_deref())));
        }
    }
    if before.is_suspect != now.is_suspect {
        changes.push(("is_suspect", Value::Bool(now.is_suspect)));
        changes.push(("suspect_since", moment(now.suspect_since)));
        changes.push(("suspect_source", text(now.suspect_source.as_deref())));
    }
    changes
}

/// Renders an unknown text as empty, as these files do.
fn text(text: Option<&str>) -> Value {
    Value::from(text.unwrap_or_default())
}

fn taint_object(taint: &Taint) -> Value {
    json!({
        "is_tainted": taint.is_tainted,
        "tainted_at": moment(taint.tainted_at),
        "tainted_reason": text(taint.tainted_reason.as_deref()),
        "tainted_by": text(taint.tainted_by.as_deref()),
        "is_suspect": taint.is_suspect,
        "suspect_since": moment(taint.suspect_since),
        "suspect_source": text(taint.suspect_source.as_deref()),
    })
}

fn moment(time: Option<Timestamp>) -> Value {
    time.map_or(Value::Null, |time| Value::from(time::write(time)))
}

fn output(artifact: &OutputArtifact) -> Value {
    let mut object = json!({
        "artifact_id": artifact.id,
        "type": text(artifact.kind.as_deref()),
        "location": text(artifact.path.as_deref()),
        "checksum": text(artifact.checksum.as_deref()),
        "size_bytes": artifact.size_bytes.unwrap_or(0),
    });
    if let (Some(object), Some(language)) = (object.as_object_mut(), &artifact.language) {
        object.insert("language".to_owned(), Value::from(language.as_str()));
    }
    object
}

fn input(input: &Input) -> Value {
    json!({
        "artifact_id": input.artifact,
        "relationship": if input.consumed { "consumed" } else { "referenced" },
        "version_at_consumption": "",
    })
}
