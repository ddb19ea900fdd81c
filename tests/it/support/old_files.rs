//! Directories as the old program left them: realistic ones of any size, and
//! objects of every shape there can be.

use std::fs;
use std::path::Path;

use dats::legacy::Reason;
use serde_json::{Map, Value, json};

use super::random::Random;

/// How much a folder has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) records: usize,
    /// Of so many of the records nothing readable is left.
    pub(crate) bad: usize,
    pub(crate) events: usize,
    pub(crate) checkpoints: usize,
}

/// What a folder was made of.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The good records, in the order of their files' names.
    pub(crate) records: Vec<Value>,
    /// The bad files, in order, and what is wrong with each.
    pub(crate) bad: Vec<(String, Reason)>,
    pub(crate) events: Vec<Value>,
    pub(crate) checkpoints: Vec<Value>,
}

/// Makes files, the same for the same seed.
pub(crate) struct OldFiles {
    pub(crate) random: Random,
    /// Artifacts that records have produced so far.
    artifacts: Vec<String>,
    /// Seconds since 2026-01-01.
    clock: u64,
}

impl OldFiles {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), artifacts: Vec::new(), clock: 0 }
    }

    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (u128::from(self.random.next()), u128::from(self.random.next()));
        uuid::Builder::from_random_bytes((high << 64 | low).to_be_bytes()).into_uuid().to_string()
    }

    /// A time a little later than the one before.
    fn time(&mut self) -> String {
        self.clock += 1 + self.random.below(60);
        let (day, rest) = (self.clock / 86_400, self.clock % 86_400);
        let day = format!("2026-{:02}-{:02}", 1 + day / 28 % 12, 1 + day % 28);
        let fraction =
            if self.random.chance(80) { format!(".{:06}", self.random.below(1_000_000)) } else { String::new() };
        let offset = *self.random.pick(&["", "", "", "", "+00:00", "Z"]);
        format!("{day}T{:02}:{:02}:{:02}{fraction}{offset}", rest / 3600, rest / 60 % 60, rest % 60)
    }

    /// Writes a directory and says what is in it.
    pub(crate) fn write(&mut self, folder: &Path, sizes: Sizes) -> Made {
        fs::create_dir_all(folder).unwrap();
        let mut made = Made::default();
        let spoilt: std::collections::HashSet<usize> =
            (0..sizes.bad).map(|_| self.random.index(sizes.records)).collect();
        for number in 0..sizes.records {
            let record = self.record();
            let name = format!("{}.json", record["id"].as_str().unwrap());
            let text = serde_json::to_string_pretty(&record).unwrap();
            if spoilt.contains(&number) {
                let (bytes, reason) = self.spoilt(&text);
                fs::write(folder.join(&name), bytes).unwrap();
                made.bad.push((name, reason));
            } else {
                fs::write(folder.join(&name), text).unwrap();
                made.records.push(record);
            }
        }
        made.records.sort_by_key(|record| record["id"].as_str().unwrap().to_owned());
        made.bad.sort();
        made.events = (0..sizes.events).map(|_| self.event(&made.records)).collect();
        made.checkpoints = (0..sizes.checkpoints).map(|_| self.checkpoint()).collect();
        if sizes.events > 0 {
            fs::write(folder.join("taint_events.json"), serde_json::to_string_pretty(&made.events).unwrap()).unwrap();
        }
        if sizes.checkpoints > 0 {
            let by_id = made.checkpoints.iter().map(|each| (each["id"].as_str().unwrap().to_owned(), each.clone()));
            let by_id = by_id.collect::<Map<_, _>>();
            fs::write(folder.join("checkpoints.json"), serde_json::to_string_pretty(&by_id).unwrap()).unwrap();
        }
        fs::write(folder.join("README.txt"), "not of the program").unwrap();
        made
    }

    /// What became of a file in one of the usual accidents.
    fn spoilt(&mut self, text: &str) -> (Vec<u8>, Reason) {
        match self.random.below(7) {
            0 => (Vec::new(), Reason::Empty),
            1 => (text.as_bytes()[..=self.random.index(text.len() - 2)].to_vec(), Reason::Truncated),
            2 => (b"<html>502 Bad Gateway</html>".to_vec(), Reason::NotJson),
            3 => (format!("[{text}]").into_bytes(), Reason::NotObject),
            4 => (
                text.replacen("\"outputs\": [", "\"outputs\": [7,", 1).replace("7,]", "7]").into_bytes(),
                Reason::BadValue,
            ),
            5 => (text.replacen("\"id\": ", "\"old_id\": ", 1).into_bytes(), Reason::MissingId),
            _ => (text.replacen("\"task_id\": \"", "\"task_id\": \"\\u0000", 1).into_bytes(), Reason::Nul),
        }
    }

    /// A record such as most are: one or two outputs, some inputs of earlier
    /// records, all twins in agreement.
    pub(crate) fn record(&mut self) -> Value {
        let outputs: Vec<String> = (0..=self.random.below(2)).map(|_| self.uuid()).collect();
        let used = if self.artifacts.is_empty() { 0 } else { self.random.below(4) };
        // Mostly of what was made lately.
        let recent = self.artifacts.len().saturating_sub(50);
        let inputs: Vec<String> = (0..used).map(|_| self.random.pick(&self.artifacts[recent..]).clone()).collect();
        let (started, completed) = (self.time(), self.time());
        let status = *self.random.pick(&[
            "passed",
            "passed",
            "passed",
            "pending",
            "failed",
            "human_approved",
            "tainted",
            "suspect",
        ]);
        let (model, worker) =
            (*self.random.pick(&["gpt-oss-20b", "qwen3-coder"]), format!("worker-{}", self.random.below(4)));
        let (tokens_input, tokens_output, took) =
            (self.random.below(9000), self.random.below(4000), self.random.below(90_000));
        let confidence = self.share();
        let input =
            |id: &String| json!({"artifact_id": id, "relationship": "consumed", "version_at_consumption": "sha256:00"});
        let output = |id: &String| json!({"artifact_id": id, "type": "code", "location": format!("src/{id}.py"), "checksum": "sha256:11", "size_bytes": 512});
        let record = json!({
            "id": self.uuid(), "task_id": self.uuid(), "project_id": format!("proj-{}", self.random.below(5)),
            "outputs": outputs.iter().map(output).collect::<Vec<_>>(),
            "inputs": inputs.iter().map(input).collect::<Vec<_>>(), "inputs_consumed": inputs,
            "execution": {
                "model": model, "worker_id": worker, "parameters": {"temperature": 0.2, "seed": 7},
                "prompt_template": {"name": "code", "version": "1.2", "hash": "abc"},
            },
            "model_used": model, "worker_id": worker, "prompt_template": {"name": "code", "version": "1.2"},
            "verification": {
                "status": status, "qa_profile": "consensus", "qa_result_id": "", "verified_at": completed,
                "verified_by": "validator", "details": {"confidence": confidence},
            },
            "confidence": confidence, "verification_status": status, "verification_details": {"confidence": confidence},
            "taint": {
                "is_tainted": status == "tainted", "tainted_at": if status == "tainted" { json!(completed) } else { Value::Null },
                "tainted_reason": if status == "tainted" { "wrong result" } else { "" }, "tainted_by": "",
                "is_suspect": status == "suspect", "suspect_since": null, "suspect_source": "",
            },
            "created_at": completed, "started_at": started, "completed_at": completed,
            "metrics": {"tokens_input": tokens_input, "tokens_output": tokens_output, "execution_time_ms": took},
            "tokens_input": tokens_input, "tokens_output": tokens_output, "execution_time_ms": took,
        });
        self.artifacts.extend(outputs);
        record
    }

    pub(crate) fn event(&mut self, records: &[Value]) -> Value {
        let record = if records.is_empty() { self.record() } else { self.random.pick(records).clone() };
        json!({
            "id": self.uuid(), "timestamp": self.time(), "artifact_id": record["outputs"][0]["artifact_id"],
            "provenance_id": record["id"], "reason": self.words(), "source_artifact_id": self.uuid(),
            "source_provenance_id": "", "cascade_depth": self.random.below(12), "cascade_id": self.uuid(),
            "action": *self.random.pick(&["taint", "suspect", "clear", "escalate"]),
        })
    }

    pub(crate) fn checkpoint(&mut self) -> Value {
        json!({
            "id": self.uuid(), "project_id": format!("proj-{}", self.random.below(5)), "created_at": self.time(),
            "git_ref": self.words(), "provenance_count": self.random.below(1000), "artifact_count": 0,
            "last_provenance_id": self.uuid(), "last_task_id": self.uuid(), "rag_state_ref": "", "work_product_ref": "",
            "description": self.words(), "trigger": *self.random.pick(&["auto", "manual", "milestone"]),
            "is_valid": self.random.chance(80),
        })
    }

    /// A number from 0 to 1 with all the digits there can be.
    fn share(&mut self) -> f64 {
        let bits = u32::try_from(self.random.below(1 << 32)).unwrap();
        let more = u32::try_from(self.random.below(1 << 21)).unwrap();
        f64::from(bits) / 4_294_967_296.0 + f64::from(more) / 9_007_199_254_740_992.0
    }

    fn words(&mut self) -> String {
        let words = [
            "",
            "wrong result",
            "naïve – 測試 \u{1F680}",
            "\"quoted\" \\ and\nlines\t",
            "\u{7f}\u{85}\u{2028}",
            "{[,]}",
        ];
        (*self.random.pick(&words)).to_owned()
    }

    /// Any value, for members that nobody knows.
    fn any_value(&mut self, depth: u64) -> Value {
        match self.random.below(if depth == 0 { 7 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.random.chance(50)),
            2 => json!(self.random.next()),
            3 => json!(-i64::try_from(self.random.next() >> 1).unwrap()),
            4 => json!(f64::from_bits(self.random.next())),
            5 => json!(self.share()),
            6 => json!(self.words()),
            7 => (0..self.random.below(4)).map(|_| self.any_value(depth - 1)).collect(),
            _ => {
                let members = (0..self.random.below(4)).map(|_| (self.words(), self.any_value(depth - 1)));
                members.collect::<Vec<_>>().into_iter().collect::<Map<_, _>>().into()
            }
        }
    }

    /// A member that is not there, null, empty, or one of the values.
    fn put(&mut self, object: &mut Map<String, Value>, key: &str, empty: &Value, values: &[Value]) {
        let value = match self.random.below(10) {
            0 | 1 => return,
            2 => Value::Null,
            3 => empty.clone(),
            _ => self.random.pick(values).clone(),
        };
        object.insert(key.to_owned(), value);
    }

    /// A record of any shape that there can be: every subset of the members,
    /// nulls, twins that disagree, members that nobody knows, in any order.
    pub(crate) fn any_record(&mut self) -> Value {
        let [text, other] = [json!(self.words()), json!("text")];
        let [time, later] = [json!(self.time()), json!(self.time())];
        let statuses = ["pending", "passed", "failed", "human_approved", "tainted", "suspect"].map(|word| json!(word));
        let counts = [json!(self.random.below(5)), json!(self.random.next())];
        let shares = [json!(self.share()), json!(self.share()), json!(1), json!(5e-324)];
        let flags = [json!(true), json!(false)];
        let ids: Vec<Value> = (0..3).map(|number| json!(format!("artifact {number}"))).collect();
        let mut object = Map::new();
        for key in ["task_id", "project_id"] {
            self.put(&mut object, key, &json!(""), &[json!("é/1"), other.clone()]);
        }
        for key in ["model_used", "worker_id"] {
            self.put(&mut object, key, &json!(""), &[text.clone(), other.clone()]);
        }
        for key in ["created_at", "started_at", "completed_at"] {
            self.put(&mut object, key, &json!(""), &[time.clone(), later.clone()]);
        }
        for key in ["tokens_input", "tokens_output", "execution_time_ms"] {
            self.put(&mut object, key, &json!(0), &counts);
        }
        let outputs: Vec<Value> = (0..self.random.below(4)).map(|_| self.any_output(&ids)).collect();
        self.put(&mut object, "outputs", &json!([]), &[json!(outputs)]);
        let inputs: Vec<Value> = (0..self.random.below(4)).map(|_| self.any_input(&ids)).collect();
        self.put(&mut object, "inputs", &json!([]), &[json!(inputs)]);
        self.put(&mut object, "inputs_consumed", &json!([]), &[json!(ids), json!([ids[0], ids[0], "", "unknown"])]);
        self.put(&mut object, "verification_status", &json!(""), &statuses);
        self.put(&mut object, "verification_details", &json!({}), &[json!({"score": shares[0]}), text.clone()]);
        self.put(&mut object, "confidence", &json!(0.0), &shares);
        let mut verification = Map::new();
        self.put(&mut verification, "status", &json!(""), &statuses);
        self.put(&mut verification, "details", &json!({}), &[json!({"confidence": shares[1], "x": text}), json!([1])]);
        for key in ["qa_profile", "qa_result_id", "verified_by"] {
            self.put(&mut verification, key, &json!(""), std::slice::from_ref(&text));
        }
        self.put(&mut verification, "verified_at", &json!(""), std::slice::from_ref(&time));
        let mut taint = Map::new();
        for key in ["is_tainted", "is_suspect"] {
            self.put(&mut taint, key, &json!(false), &flags);
        }
        for key in ["tainted_at", "suspect_since"] {
            self.put(&mut taint, key, &json!(""), std::slice::from_ref(&later));
        }
        for key in ["tainted_reason", "tainted_by", "suspect_source"] {
            self.put(&mut taint, key, &json!(""), std::slice::from_ref(&text));
        }
        let mut metrics = Map::new();
        for key in ["tokens_input", "tokens_output", "execution_time_ms"] {
            self.put(&mut metrics, key, &json!(0), &counts);
        }
        let execution =
            json!({"model": text, "worker_id": null, "prompt_template": null, "parameters": self.any_value(3)});
        for (key, value) in [
            ("verification", json!(verification)),
            ("taint", json!(taint)),
            ("metrics", json!(metrics)),
            ("execution", execution),
        ] {
            self.put(&mut object, key, &json!({}), &[value]);
        }
        for number in 0..self.random.below(3) {
            object.insert(format!("{}{number}", self.words()), self.any_value(4));
        }
        object.insert("id".to_owned(), json!(self.uuid()));
        self.shuffled(object)
    }

    fn any_output(&mut self, ids: &[Value]) -> Value {
        let mut output = Map::new();
        if self.random.chance(30) {
            // The older shape, which names no artifact.
            return json!({"type": 3, "content": self.words(), "more": self.any_value(2)});
        }
        self.put(&mut output, "artifact_id", &json!(""), ids);
        self.put(&mut output, "type", &json!(""), &[json!("code"), json!("other")]);
        self.put(&mut output, "size_bytes", &json!(0), &[json!(u64::MAX)]);
        for key in ["location", "checksum"] {
            let words = json!(self.words());
            self.put(&mut output, key, &json!(""), &[words]);
        }
        json!(output)
    }

    fn any_input(&mut self, ids: &[Value]) -> Value {
        let mut input = Map::new();
        self.put(&mut input, "artifact_id", &json!(""), ids);
        self.put(&mut input, "relationship", &json!(""), &[json!("consumed"), json!("referenced")]);
        self.put(&mut input, "version_at_consumption", &json!(""), &[json!("1")]);
        json!(input)
    }

    fn shuffled(&mut self, object: Map<String, Value>) -> Value {
        let mut members: Vec<(String, Value)> = object.into_iter().collect();
        for index in (1..members.len()).rev() {
            let other = self.random.index(index + 1);
            members.swap(index, other);
        }
        members.into_iter().collect::<Map<_, _>>().into()
    }
}
