//! Provenance queries: records that depend on one another are imported in the form of the
//! old program, then each query is sent several times.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::{Call, Client, with_query};
use crate::clock::Stopwatch;
use crate::workload::error::Error;
use crate::workload::load::{Figures, Latencies};
use crate::workload::random::mixed;

/// How often each query is sent.
const ROUNDS: u64 = 40;
/// Most records on which a record depends directly.
const INPUTS: u64 = 3;
/// Bytes of lines in one chunk of the import.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks that may wait to be sent.
const MAX_WAITING_CHUNKS: usize = 8;

/// Figures of the provenance queries.
#[derive(Debug, Serialize)]
pub struct ProvenanceFigures {
    /// Number of imported records.
    pub records: u64,
    /// The server's summary of the import.
    pub import: Value,
    /// Time for the import.
    pub import_seconds: f64,
    /// Figures of each query.
    #[serde(rename = "questions")]
    pub queries: Vec<Query>,
}

/// One query, sent over one connection repeatedly.
#[derive(Debug, Serialize)]
pub struct Query {
    /// Name in the report.
    pub name: &'static str,
    /// Latencies of the query.
    #[serde(flatten)]
    pub figures: Figures,
}

impl ProvenanceFigures {
    /// Returns the query with the slowest P95. A query without a P95 counts as slower than
    /// all others.
    #[must_use]
    pub fn slowest(&self) -> Option<&Query> {
        let p95 = |question: &Query| question.figures.p95_ms.unwrap_or(f64::INFINITY);
        self.queries.iter().max_by(|one, other| p95(one).total_cmp(&p95(other)))
    }
}

/// The records of the bench's project.
#[derive(Debug, Clone)]
pub(super) struct Records {
    pub(super) project: String,
    pub(super) count: u64,
}

impl Records {
    /// Imports the records and measures the queries.
    pub(super) async fn measure(
        &self,
        client: &Client,
        importing: &ProgressBar,
        asking: &ProgressBar,
    ) -> Result<ProvenanceFigures, Error> {
        let started = Stopwatch::start();
        let import = self.import(client, importing).await?;
        let import_seconds = started.elapsed().as_secs_f64();
        importing.finish_and_clear();
        let queries = self.measure_queries(client, asking).await?;
        asking.finish_and_clear();
        Ok(ProvenanceFigures { records: self.count, import, import_seconds, queries })
    }

    /// Imports the records and returns the summary of the server.
    async fn import(&self, client: &Client, bar: &ProgressBar) -> Result<Value, Error> {
        bar.set_length(self.count);
        let (sender, chunks) = mpsc::channel(MAX_WAITING_CHUNKS);
        let records = self.clone();
        // It ends after the last record, or when the request has failed.
        tokio::task::spawn_blocking(move || records.send(&sender));
        let mut results = client.exchange_lines("/provenance/import", chunks).await?;
        while let Some(text) = results.recv().await {
            let result: Value = serde_json::from_str(&text?).unwrap_or_default();
            if result["outcome"] == "refused" || !result["error"].is_null() {
                return Err(Error::Failed(format!("the server refused a record of the bench: {result}")));
            }
            if !result["summary"].is_null() {
                return Ok(result["summary"].clone());
            }
            bar.inc(1);
        }
        Err(Error::Failed("the answer to the import ended without a summary".to_owned()))
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
            // On an error, the receiver reports why the request failed.
            let _ = sender.blocking_send(Bytes::from(chunk));
        }
    }

    /// Returns a record in the form of the old program. It depends on up to three earlier
    /// records, chosen evenly, so that all records depend on the first one.
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

    async fn measure_queries(&self, client: &Client, bar: &ProgressBar) -> Result<Vec<Query>, Error> {
        let (first, last) = (self.artifact(0), self.artifact(self.count - 1));
        let about = |id: &str, what: &str| Call::new(Method::GET, format!("/provenance/{id}/{what}"));
        let say = |what: &str, body: &Value| Call::new(Method::POST, format!("/provenance/{first}/{what}")).json(body);
        let ends = [("from", Some(first.clone())), ("to", Some(last.clone()))];
        let path = with_query("/provenance/path", &ends);
        // A record with others above and below it, but not more than a document holds.
        let middle = |round| self.artifact(self.count / 2 + mixed(round) % self.count.div_ceil(100));
        let dry = json!({"reason": "a bench", "dry_run": true});
        let queries = QueryBench { client, bar };
        bar.set_length(7 * ROUNDS);
        let mut measured = vec![
            queries.measure("dependents of the first", |_| about(&first, "dependents")).await,
            queries.measure("dependencies of the last", |_| about(&last, "dependencies")).await,
            queries.measure("impact of the first", |_| about(&first, "impact")).await,
            queries.measure("path from the first to the last", |_| Call::new(Method::GET, path.as_str())).await,
            queries
                .measure("export around one in the middle", |round| about(&middle(round), "export?format=dot&depth=2"))
                .await,
            queries.measure("taint of the first, dry run", |_| say("taint", &dry)).await,
        ];
        // A root cause exists only after a taint.
        client.call(say("taint", &json!({"reason": "a bench"}))).await?;
        measured.push(queries.measure("root cause of the last", |_| about(&last, "root-cause")).await);
        client.call(say("clear", &json!({"reason": "a bench has ended"}))).await?;
        Ok(measured)
    }
}

/// Sends the queries.
struct QueryBench<'a> {
    client: &'a Client,
    bar: &'a ProgressBar,
}

impl QueryBench<'_> {
    async fn measure(&self, name: &'static str, call: impl Fn(u64) -> Call) -> Query {
        let mut latencies = Latencies::default();
        let mut took = Duration::ZERO;
        for round in 0..ROUNDS {
            let started = Stopwatch::start();
            let answer = self.client.text(call(round)).await;
            let latency = started.elapsed();
            took += latency;
            match answer {
                Ok(_) => latencies.record(latency),
                Err(error) => latencies.record_failure(&error.to_string()),
            }
            self.bar.inc(1);
        }
        Query { name, figures: latencies.figures(took) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_depend_on_earlier_ones_only() {
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
