//! Users of provenance: taints and their clearing, checkpoints and rollbacks, imports and
//! exports.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::context::{Context, Reply};
use crate::client::{self, Call, Lines, segment};
use crate::workload::random::Random;

/// Fewest and most lines of an import; the criteria measure larger ones.
const MIN_LINES: usize = 10;
const MAX_LINES: usize = 2000;
/// Longest time for an import or an export.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30);
/// Records on a page of dependents.
const PAGE: usize = 200;

/// Taints, clears and rolls back until the stage of work ends. There is one such user, so
/// that no other one clears what it has tainted.
pub(super) async fn run(context: Arc<Context>, mut random: Random) {
    let user = ProvenanceUser { context: &context };
    let mut round = 0_u64;
    while context.is_working() {
        round += 1;
        context.pause(Duration::from_millis(random.between(400, 2500))).await;
        match random.below(10) {
            0..6 => user.taint(&mut random).await,
            6 | 7 => user.roll_back(&mut random).await,
            8 => user.import(round, &mut random).await,
            _ => user.check_export().await,
        }
    }
}

struct ProvenanceUser<'a> {
    context: &'a Context,
}

impl ProvenanceUser<'_> {
    async fn post(&self, kind: &'static str, path: String, body: &Value, allowed: &[u16]) -> Option<Reply> {
        self.context.send(kind, Call::new(Method::POST, path).json(body), allowed).await
    }

    /// Taints the record of an artifact, checks the flags, and clears it again.
    async fn taint(&self, random: &mut Random) {
        let output = self.context.ledger().pick_output(random);
        let Some(output) = output else { return };
        let id = segment(&output.artifact);
        let cascade = Uuid::now_v7().to_string();
        let dry = json!({"reason": "what if", "dry_run": true});
        self.post("taint", format!("/provenance/{id}/taint"), &dry, &[404]).await;
        let body = json!({"reason": "found wrong", "cascade_id": cascade, "cancel_running": random.chance(30)});
        let Some(tainted) = self.post("taint", format!("/provenance/{id}/taint"), &body, &[404]).await else { return };
        if !tainted.is_ok() {
            return;
        }
        self.check_flag(&id, "is_tainted", true).await;
        self.check_dependents(&id).await;
        if random.chance(20) {
            return;
        }
        // Earlier versions of the server can't clear a whole cascade.
        let undo = format!("/cascades/{cascade}/clear");
        let undone = self.post("undo", undo, &json!({"reason": "found right"}), &[404]).await;
        let is_undone = undone.is_some_and(|reply| reply.is_ok());
        if !is_undone {
            self.post("clear", format!("/provenance/{id}/clear"), &json!({"reason": "found right"}), &[404]).await;
        }
    }

    /// Checks the flag of an artifact after it was acknowledged.
    async fn check_flag(&self, id: &str, flag: &str, expected: bool) {
        let call = Call::new(Method::GET, format!("/artifacts/{id}"));
        let Some(reply) = self.context.send("artifact", call, &[404]).await.filter(Reply::is_ok) else { return };
        if reply.json[flag] != expected {
            self.context.report_reply(
                "flags",
                format!("{flag} of artifact {id} is not {expected}, as acknowledged"),
                &reply,
            );
        }
    }

    /// Checks that each dependent of a tainted record is tainted or suspect, or was cleared.
    async fn check_dependents(&self, id: &str) {
        let call = Call::new(Method::GET, format!("/provenance/{id}/dependents?limit={PAGE}"));
        let Some(reply) = self.context.send("glance", call, &[404]).await.filter(Reply::is_ok) else { return };
        for entry in reply.json["dependents"].as_array().map_or(&[][..], Vec::as_slice) {
            if entry["is_tainted"] == false && entry["is_suspect"] == false {
                let record = entry["provenance_id"].as_str().unwrap_or_default();
                // A person may have cleared the record, which stays in force.
                if !self.was_cleared(record).await {
                    let what = format!("record {record} depends on {id}, which is tainted, and has no flag");
                    self.context.report_reply("flags", what, &reply);
                }
            }
        }
    }

    async fn was_cleared(&self, record: &str) -> bool {
        let call = Call::new(Method::GET, format!("/taint-events?artifact_id={}", segment(record)));
        let reply = self.context.send("glance", call, &[404]).await;
        // Without the audit trail it is not known, and nothing is reported.
        reply.is_none_or(|reply| !reply.is_ok() || String::from_utf8_lossy(&reply.body).contains("clear"))
    }

    /// Creates a checkpoint of one of the small projects and rolls back to it a little later.
    async fn roll_back(&self, random: &mut Random) {
        let projects = &self.context.day.projects;
        let small = projects.get(projects.len() / 2..).unwrap_or_default();
        let Some(project) = random.choose(small).map(|project| project.id.clone()) else { return };
        let path = format!("/projects/{}/checkpoints", segment(&project));
        let made = self.post("checkpoint", path, &json!({"description": "a good time"}), &[404, 409]).await;
        let Some(made) = made.filter(Reply::is_ok) else { return };
        let id = segment(made.text("id"));
        self.context.pause(Duration::from_millis(random.between(200, 5000))).await;
        let path = format!("/checkpoints/{id}/rollback");
        let body = json!({"reason": "it went wrong", "dry_run": true});
        self.post("rollback", path.clone(), &body, &[409]).await;
        let body = json!({"reason": "it went wrong", "requeue": random.chance(40)});
        self.post("rollback", path, &body, &[409]).await;
    }

    /// Imports records in the form of the old program.
    async fn import(&self, round: u64, random: &mut Random) {
        let project = format!("{}-imported", self.context.day.projects.first().map_or("day", |project| &project.id));
        let count = random.size(MIN_LINES, MAX_LINES);
        let ids: Vec<String> = (0..count).map(|number| format!("{project}-{round}-{number}")).collect();
        let mut lines = String::new();
        for (number, id) in ids.iter().enumerate() {
            let used = ids.get(random.index(number)).filter(|_| number > 0);
            let record = json!({
                "id": id, "task_id": format!("{id}-task"), "project_id": project,
                "inputs": used.map(|used| json!({"artifact_id": format!("{used}-out"), "relationship": "consumed"}))
                    .into_iter().collect::<Vec<_>>(),
                "outputs": [{"artifact_id": format!("{id}-out"), "type": "code", "location": "main.py"}],
                "model_used": "none", "worker_id": "day", "verification_status": "passed",
                "created_at": "2026-01-09T18:00:00",
            });
            lines.push_str(&record.to_string());
            lines.push('\n');
        }
        let epoch = self.context.wait_until_up().await;
        let (sender, chunks) = mpsc::channel(1);
        // The channel has room for one chunk.
        let _ = sender.send(Bytes::from(lines)).await;
        drop(sender);
        let path = "POST /provenance/import";
        let imported = timeout(
            TRANSFER_TIMEOUT,
            self.read_lines(self.context.client.exchange_lines("/provenance/import", chunks)),
        )
        .await;
        match imported {
            Ok(Ok(answers)) if answers.iter().any(|line| !line["summary"].is_null()) => {
                self.context.ledger().imported.extend(ids);
            }
            _ if !self.context.was_up_since(epoch) => {}
            Ok(Ok(answers)) => {
                let last = answers.last().map(Value::to_string).unwrap_or_default();
                self.context.report("refusal", "an import ended without its summary", path, &last);
            }
            Ok(Err(error)) if error.contains("overloaded") => {}
            Ok(Err(error)) => self.context.report("refusal", error, path, ""),
            Err(_) => {
                self.context.report("no answer", format!("no end within {} s", TRANSFER_TIMEOUT.as_secs()), path, "");
            }
        }
    }

    async fn read_lines<L>(&self, lines: L) -> Result<Vec<Value>, String>
    where
        L: Future<Output = Result<Lines, client::Error>>,
    {
        let mut lines = lines.await.map_err(|error| error.to_string())?;
        let mut all = Vec::new();
        while let Some(line) = lines.recv().await {
            let line = line.map_err(|error| error.to_string())?;
            all.push(serde_json::from_str(&line).unwrap_or_default());
        }
        Ok(all)
    }

    /// Exports the imported project and checks that no record is missing.
    async fn check_export(&self) {
        let expected: Vec<String> = self.context.ledger().imported.clone();
        if expected.is_empty() {
            return;
        }
        let project = format!("{}-imported", self.context.day.projects.first().map_or("day", |project| &project.id));
        let path = format!("/provenance/export?project_id={}", segment(&project));
        let epoch = self.context.wait_until_up().await;
        let exported = timeout(TRANSFER_TIMEOUT, self.read_lines(self.context.client.get_lines(&path))).await;
        let lines = match exported {
            Ok(Ok(lines)) => lines,
            _ if !self.context.was_up_since(epoch) => return,
            Ok(Err(error)) if error.contains("overloaded") => return,
            Ok(Err(error)) => return self.context.report("refusal", error, &path, ""),
            Err(_) => {
                return self.context.report(
                    "no answer",
                    format!("no end within {} s", TRANSFER_TIMEOUT.as_secs()),
                    &path,
                    "",
                );
            }
        };
        let ids: BTreeSet<&str> = lines.iter().filter_map(|line| line["id"].as_str()).collect();
        if let Some(missing) = expected.iter().find(|id| !ids.contains(id.as_str())) {
            let what = format!("record {missing} was imported and is missing in the export of {} lines", lines.len());
            self.context.report("ledger", what, &path, "");
        }
    }
}

/// Checks that every imported record still exists.
pub(super) async fn check_imported(context: &Context) {
    // Waits for the end of a restart that is under way.
    let _ = timeout(context.patience, context.wait_until_up()).await;
    ProvenanceUser { context }.check_export().await;
}
