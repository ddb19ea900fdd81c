//! Questions about provenance: records that depend on one another are brought in
//! as those of the old program are, then each question is asked several times.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::pace::{Figures, Latencies, mixed};
use crate::cli::client::{Call, Client, with_query};
use crate::cli::exit::Failure;
use crate::clock::Stopwatch;

/// Times each question is asked.
const ROUNDS: u64 = 40;
/// Records that each one is made out of, at most.
const INPUTS: u64 = 3;
/// Bytes of lines that are gathered before they are sent.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks that may wait to be sent.
const CHUNKS_AHEAD: usize = 8;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Provenance {
    pub(super) records: u64,
    /// What the server says of the import.
    pub(super) import: Value,
    pub(super) import_seconds: f64,
    pub(super) questions: Vec<Question>,
}

/// One question, asked by one connection again and again.
#[derive(Debug, Serialize)]
pub(super) struct Question {
    pub(super) name: &'static str,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

impl Provenance {
    /// The question with the slowest P95: one without a P95, if there is any.
    pub(super) fn slowest(&self) -> Option<&Question> {
        let p95 = |question: &Question| question.figures.p95_ms.unwrap_or(f64::INFINITY);
        self.questions.iter().max_by(|one, other| p95(one).total_cmp(&p95(other)))
    }
}

/// Records of a project of the bench.
#[derive(Debug, Clone)]
pub(super) struct Records {
    pub(super) project: String,
    pub(super) count: u64,
}

impl Records {
    /// Brings them in and asks about them.
    pub(super) async fn measure(
        &self,
        client: &Client,
        importing: &ProgressBar,
        asking: &ProgressBar,
    ) -> Result<Provenance, Failure> {
        let started = Stopwatch::start();
        let import = self.import(client, importing).await?;
        let import_seconds = started.elapsed().as_secs_f64();
        importing.finish_and_clear();
        let questions = self.ask_all(client, asking).await?;
        asking.finish_and_clear();
        Ok(Provenance { records: self.count, import, import_seconds, questions })
    }

    /// The summary that the server gives at the end.
    async fn import(&self, client: &Client, bar: &ProgressBar) -> Result<Value, Failure> {
        bar.set_length(self.count);
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let records = self.clone();
        // It ends with the last record, or when nobody takes its lines.
        tokio::task::spawn_blocking(move || records.send(&sender));
        let mut results = client.exchange("/provenance/import", chunks).await?;
        while let Some(text) = results.recv().await {
            let result: Value = serde_json::from_str(&text?).unwrap_or_default();
            if result["outcome"] == "refused" || !result["error"].is_null() {
                return Err(Failure::Failed(format!("the server did not take a record of the bench: {result}")));
            }
            if !result["summary"].is_null() {
                return Ok(result["summary"].clone());
            }
            bar.inc(1);
        }
        Err(Failure::Failed("the answer ended before the import did".to_owned()))
    }

    fn send(&self, sender: &mpsc::Sender<Bytes>) {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        for number in 0..self.count {
            chunk.extend_from_slice(self.record(number).to_string().as_bytes());
            chunk.push(b'\n');
            if chunk.len() >= CHUNK_BYTES && sender.blocking_send(Bytes::from(std::mem::take(&mut chunk))).is_err() {
                return;
            }
        }
        if !chunk.is_empty() {
            // Where nobody takes it, the failure is told elsewhere.
            let _ = sender.blocking_send(Bytes::from(chunk));
        }
    }

    /// A record in the form of the old program, made out of three that came before
    /// it, from anywhere. So all depend on the first one.
    fn record(&self, number: u64) -> Value {
        let used = (0..number.min(INPUTS)).map(|input| self.artifact(mixed(number * INPUTS + input) % number));
        let mut used: Vec<String> = used.collect();
        used.dedup();
        let inputs: Vec<Value> = used.iter().map(|id| json!({"artifact_id": id, "relationship": "consumed"})).collect();
        json!({
            "id": format!("{}-record-{number}", self.project), "task_id": format!("{}-task-{number}", self.project),
            "project_id": self.project, "inputs": inputs, "inputs_consumed": used,
            "outputs": [{"artifact_id": self.artifact(number), "type": "code", "location": "function.py"}],
            "model_used": "none", "worker_id": "bench", "verification_status": "passed",
            "created_at": "2026-01-09T18:00:00",
        })
    }

    fn artifact(&self, number: u64) -> String {
        format!("{}-{number}", self.project)
    }

    async fn ask_all(&self, client: &Client, bar: &ProgressBar) -> Result<Vec<Question>, Failure> {
        let (first, last) = (self.artifact(0), self.artifact(self.count - 1));
        let about = |id: &str, what: &str| Call::new(Method::GET, format!("/provenance/{id}/{what}"));
        let say = |what: &str, body: &Value| Call::new(Method::POST, format!("/provenance/{first}/{what}")).json(body);
        let ends = [("from", Some(first.clone())), ("to", Some(last.clone()))];
        let path = with_query("/provenance/path", &ends);
        // Above and below it, but not more than a document holds.
        let middle = |round| self.artifact(self.count / 2 + mixed(round) % self.count.div_ceil(100));
        let dry = json!({"reason": "a bench", "dry_run": true});
        let one = Asker { client, bar };
        bar.set_length(7 * ROUNDS);
        let mut asked = vec![
            one.ask("dependents of the first", |_| about(&first, "dependents")).await?,
            one.ask("dependencies of the last", |_| about(&last, "dependencies")).await?,
            one.ask("impact of the first", |_| about(&first, "impact")).await?,
            one.ask("path from the first to the last", |_| Call::new(Method::GET, path.as_str())).await?,
            one.ask("export around one in the middle", |round| about(&middle(round), "export?format=dot&depth=2"))
                .await?,
            one.ask("taint of the first, dry run", |_| say("taint", &dry)).await?,
        ];
        // Without a taint there is no root cause to be found.
        client.call(say("taint", &json!({"reason": "a bench"}))).await?;
        asked.push(one.ask("root cause of the last", |_| about(&last, "root-cause")).await?);
        client.call(say("clear", &json!({"reason": "a bench has ended"}))).await?;
        Ok(asked)
    }
}

/// Asks, and counts on a bar.
struct Asker<'a> {
    client: &'a Client,
    bar: &'a ProgressBar,
}

impl Asker<'_> {
    async fn ask(&self, name: &'static str, call: impl Fn(u64) -> Call) -> Result<Question, Failure> {
        let mut latencies = Latencies::new()?;
        let mut took = Duration::ZERO;
        for round in 0..ROUNDS {
            let started = Stopwatch::start();
            let answer = self.client.text(call(round)).await;
            let latency = started.elapsed();
            took += latency;
            match answer {
                Ok(_) => latencies.add(latency),
                Err(error) => latencies.add_failure(&error.to_string()),
            }
            self.bar.inc(1);
        }
        Ok(Question { name, figures: latencies.figures(took) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_depend_on_earlier_ones_alone() {
        let records = Records { project: "bench-x".to_owned(), count: 1000 };
        assert_eq!(records.record(0)["inputs"], json!([]));
        for number in 1..records.count {
            let record = records.record(number);
            let inputs = record["inputs_consumed"].as_array().unwrap();
            assert!((1..=3).contains(&inputs.len()), "{record}");
            for input in inputs {
                let earlier: u64 = input.as_str().unwrap().strip_prefix("bench-x-").unwrap().parse().unwrap();
                assert!(earlier < number, "{record}");
            }
        }
    }
}
