//! What people do with provenance: taints and their undoing, checkpoints and rollbacks,
//! imports and exports.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::world::{Reply, World};
use crate::cli::client::{Call, segment};
use crate::workload::Random;

/// Lines of an import; larger ones are for the bench of provenance.
const LINES: (usize, usize) = (10, 2000);
/// How long an import or an export may take.
const LONG: Duration = Duration::from_secs(30);
/// Records on a page of dependents.
const PAGE: usize = 200;

/// Taints, undoes and rolls back until the day's work ends. One alone: what it has
/// tainted, nobody else clears.
pub(super) async fn run(world: Arc<World>, mut random: Random) {
    let people = People { world: &world };
    let mut round = 0_u64;
    while world.is_working() {
        round += 1;
        world.pause(Duration::from_millis(random.between(400, 2500))).await;
        match random.below(10) {
            0..6 => people.taint(&mut random).await,
            6 | 7 => people.roll_back(&mut random).await,
            8 => people.import(round, &mut random).await,
            _ => people.export().await,
        }
    }
}

struct People<'a> {
    world: &'a World,
}

impl People<'_> {
    async fn post(&self, kind: &'static str, path: String, body: &Value, allowed: &[u16]) -> Option<Reply> {
        self.world.ask(kind, Call::new(Method::POST, path).json(body), allowed).await
    }

    /// Taints what made an artifact, looks at what follows, and takes it back.
    async fn taint(&self, random: &mut Random) {
        let output = self.world.ledger().pick_output(random);
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
        self.expect_flag(&id, "is_tainted", true).await;
        self.expect_dependents(&id).await;
        if random.chance(20) {
            return;
        }
        // Servers of an earlier version have no undo of a whole cascade.
        let undo = format!("/cascades/{cascade}/clear");
        let undone = self.post("undo", undo, &json!({"reason": "found right"}), &[404]).await;
        let is_undone = undone.is_some_and(|reply| reply.is_ok());
        if !is_undone {
            self.post("clear", format!("/provenance/{id}/clear"), &json!({"reason": "found right"}), &[404]).await;
        }
    }

    async fn expect_flag(&self, id: &str, flag: &str, expected: bool) {
        let call = Call::new(Method::GET, format!("/artifacts/{id}"));
        let Some(reply) = self.world.ask("artifact", call, &[404]).await.filter(Reply::is_ok) else { return };
        if reply.json[flag] != expected {
            self.world.wrong("flags", format!("{flag} of artifact {id} is not {expected}, as acknowledged"), &reply);
        }
    }

    /// Everything that depends on what is tainted is tainted, suspect, or was cleared.
    async fn expect_dependents(&self, id: &str) {
        let call = Call::new(Method::GET, format!("/provenance/{id}/dependents?limit={PAGE}"));
        let Some(reply) = self.world.ask("glance", call, &[404]).await.filter(Reply::is_ok) else { return };
        for entry in reply.json["dependents"].as_array().map_or(&[][..], Vec::as_slice) {
            if entry["is_tainted"] == false && entry["is_suspect"] == false {
                let record = entry["provenance_id"].as_str().unwrap_or_default();
                // A clear of a record is a word of a person, and holds.
                if !self.was_cleared(record).await {
                    let what = format!("record {record} depends on {id}, which is tainted, and has no flag");
                    self.world.wrong("flags", what, &reply);
                }
            }
        }
    }

    async fn was_cleared(&self, record: &str) -> bool {
        let call = Call::new(Method::GET, format!("/taint-events?artifact_id={}", segment(record)));
        let reply = self.world.ask("glance", call, &[404]).await;
        // Where the trail can't be read, nothing is known.
        reply.is_none_or(|reply| !reply.is_ok() || String::from_utf8_lossy(&reply.body).contains("clear"))
    }

    /// Makes a checkpoint of one of the small projects, and goes back to it a little later.
    async fn roll_back(&self, random: &mut Random) {
        let projects = &self.world.day.projects;
        let small = projects.get(projects.len() / 2..).unwrap_or_default();
        let Some(project) = random.choose(small).map(|project| project.id.clone()) else { return };
        let path = format!("/projects/{}/checkpoints", segment(&project));
        let made = self.post("checkpoint", path, &json!({"description": "a good time"}), &[404, 409]).await;
        let Some(made) = made.filter(Reply::is_ok) else { return };
        let id = segment(made.text("id"));
        self.world.pause(Duration::from_millis(random.between(200, 5000))).await;
        let path = format!("/checkpoints/{id}/rollback");
        let body = json!({"reason": "it went wrong", "dry_run": true});
        self.post("rollback", path.clone(), &body, &[409]).await;
        let body = json!({"reason": "it went wrong", "requeue": random.chance(40)});
        self.post("rollback", path, &body, &[409]).await;
    }

    /// Brings in records of the old program.
    async fn import(&self, round: u64, random: &mut Random) {
        let project = format!("{}-imported", self.world.day.projects.first().map_or("day", |project| &project.id));
        let count = random.size(LINES.0, LINES.1);
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
        let epoch = self.world.up().await;
        let (sender, chunks) = mpsc::channel(1);
        // There is room for one.
        let _ = sender.send(Bytes::from(lines)).await;
        drop(sender);
        let path = "POST /provenance/import";
        let imported = timeout(LONG, self.read_lines(self.world.client.exchange("/provenance/import", chunks))).await;
        match imported {
            Ok(Ok(answers)) if answers.iter().any(|line| !line["summary"].is_null()) => {
                self.world.ledger().imported.extend(ids);
            }
            _ if !self.world.was_up_since(epoch) => {}
            Ok(Ok(answers)) => {
                let last = answers.last().map(Value::to_string).unwrap_or_default();
                self.world.find("refusal", "an import ended without its summary", path, &last);
            }
            Ok(Err(error)) if error.contains("overloaded") => {}
            Ok(Err(error)) => self.world.find("refusal", error, path, ""),
            Err(_) => self.world.find("no answer", format!("no end within {} s", LONG.as_secs()), path, ""),
        }
    }

    async fn read_lines<L>(&self, lines: L) -> Result<Vec<Value>, String>
    where
        L: Future<Output = Result<crate::cli::ndjson::Lines, crate::cli::client::Error>>,
    {
        let mut lines = lines.await.map_err(|error| error.to_string())?;
        let mut all = Vec::new();
        while let Some(line) = lines.recv().await {
            let line = line.map_err(|error| error.to_string())?;
            all.push(serde_json::from_str(&line).unwrap_or_default());
        }
        Ok(all)
    }

    /// Takes out what was brought in: nothing may be missing.
    async fn export(&self) {
        self.expect_imported().await;
    }

    async fn expect_imported(&self) {
        let expected: Vec<String> = self.world.ledger().imported.clone();
        if expected.is_empty() {
            return;
        }
        let project = format!("{}-imported", self.world.day.projects.first().map_or("day", |project| &project.id));
        let path = format!("/provenance/export?project_id={}", segment(&project));
        let epoch = self.world.up().await;
        let exported = timeout(LONG, self.read_lines(self.world.client.lines(&path))).await;
        let lines = match exported {
            Ok(Ok(lines)) => lines,
            _ if !self.world.was_up_since(epoch) => return,
            Ok(Err(error)) if error.contains("overloaded") => return,
            Ok(Err(error)) => return self.world.find("refusal", error, &path, ""),
            Err(_) => return self.world.find("no answer", format!("no end within {} s", LONG.as_secs()), &path, ""),
        };
        let ids: BTreeSet<&str> = lines.iter().filter_map(|line| line["id"].as_str()).collect();
        if let Some(missing) = expected.iter().find(|id| !ids.contains(id.as_str())) {
            let what = format!("record {missing} was imported and is not in the export of {} lines", lines.len());
            self.world.find("ledger", what, &path, "");
        }
    }
}

/// Everything that was imported is still there.
pub(super) async fn check_imported(world: &World) {
    // An import that ran until now ends first.
    let _ = timeout(world.patience, world.up()).await;
    People { world }.expect_imported().await;
}
