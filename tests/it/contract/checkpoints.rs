//! Checkpoints and rollback through the public interface alone, and the same
//! by events of the Cascade service.

use serde_json::{Value, json};

use super::provenance::make;
use super::transcript::Transcript;
use super::{event, served};
use crate::support::client::Client;
use crate::support::process;

/// A worker gets a task.
async fn leased(client: &Client) {
    let leased = client.post("queues/small/lease", &json!({"worker_id": "w"})).await.json();
    assert_eq!(leased["leases"].as_array().unwrap().len(), 1, "{leased}");
}

#[tokio::test]
async fn back_to_a_checkpoint() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    transcript.get("projects/p/checkpoints").await;
    transcript.post("projects/p/checkpoints", &json!({})).await;
    make(&client, "p", "a", &[]).await;
    let body = json!({"description": "before the rewrite", "git_ref": "v1", "rag_state_ref": "rag-7"});
    let first = transcript.post("projects/p/checkpoints", &body).await;
    let first = first["id"].as_str().unwrap().to_owned();
    let second = transcript.ask("POST", "projects/p/checkpoints", &[], "").await.json();
    let second = second["id"].as_str().unwrap().to_owned();
    make(&client, "p", "b", &["a"]).await;
    make(&client, "q", "c", &["b"]).await;
    client.submit(&json!({"description": "runs", "project_id": "p", "options": {"tier": "small"}})).await;
    leased(&client).await;
    client.submit(&json!({"description": "waits", "project_id": "p", "options": {"tier": "small"}})).await;
    let third = client.post("projects/p/checkpoints", &json!({})).await.json();
    let third = third["id"].as_str().unwrap().to_owned();
    transcript.get("projects/p/checkpoints?limit=2").await;
    transcript.get(&format!("checkpoints/{first}")).await;
    let rollback = format!("checkpoints/{first}/rollback");
    let dry = transcript.post(&rollback, &json!({"reason": "bad", "dry_run": true, "requeue": true})).await;
    let done = transcript.post(&rollback, &json!({"reason": "bad", "requeue": true})).await;
    assert_eq!(
        (&dry["counts"], &dry["cancelled"], &dry["affected"]),
        (&done["counts"], &done["cancelled"], &done["affected"])
    );
    transcript.post(&rollback, &json!({"reason": "bad", "requeue": true})).await;
    transcript.post(&format!("checkpoints/{third}/rollback"), &json!({"reason": "bad"})).await;
    transcript.get(&format!("checkpoints/{second}")).await;
    transcript.get("taint-events?artifact_id=b").await;
    transcript.get("provenance/b").await;
    transcript.post("checkpoints/none/rollback", &json!({"reason": "bad"})).await;
    transcript.post(&rollback, &json!({"reson": "bad", "dry_run": "yes"})).await;
    transcript.get("checkpoints/none").await;
    transcript.get(&format!("checkpoints/{first}/affected")).await;
    transcript.post("projects/p/checkpoints", &json!({"git_ref": "", "name": "x"})).await;
    insta::assert_snapshot!(transcript.text());
}

#[tokio::test]
async fn pages_behind_a_rollback() {
    let (_server, client) = served();
    make(&client, "p", "a", &[]).await;
    let first = client.post("projects/p/checkpoints", &json!({})).await.json();
    let path = format!("checkpoints/{}", first["id"].as_str().unwrap());
    for (artifact, inputs) in [("b", &["a"][..]), ("c", &["b"]), ("d", &["c"])] {
        make(&client, "p", artifact, inputs).await;
    }
    let done = client.post(&format!("{path}/rollback?limit=2"), &json!({"reason": "bad"})).await.json();
    assert_eq!((&done["truncated"], &done["total"], &done["counts"]["to_rerun"]), (&json!(true), &json!(3), &json!(3)));
    assert_eq!((done["to_rerun"].as_array().unwrap().len(), done["affected"].as_array().unwrap().len()), (2, 2));
    let cursor = done["next_cursor"].as_str().unwrap();
    let rest = client.get(&format!("{path}/affected?limit=2&cursor={cursor}")).await.json();
    assert_eq!((rest["affected"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
}

#[tokio::test]
async fn events_of_the_cascade_service() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    for (project, artifact, inputs) in [("p", "a", &[][..]), ("p", "b", &["a"]), ("q", "c", &["b"]), ("p", "d", &[])] {
        make(&client, project, artifact, inputs).await;
    }
    let head = client.ask("GET", "events", &[("accept", "application/json")], "").await.unwrap().json();
    let head = head["read_to"].as_u64().unwrap();
    let tainted = event("1", "artifact.tainted", &json!({"artifact_id": "a", "cascade_id": "k-1", "reason": "wrong"}));
    transcript.post("events", &tainted).await;
    transcript.post("events", &tainted).await;
    let again = json!({"artifact_id": "a", "cascade_id": "k-2", "reason": "still wrong"});
    transcript.post("events", &event("2", "artifact.tainted", &again)).await;
    let suspect = json!({"artifact_id": "d", "cascade_id": "k-1", "source_id": "a"});
    transcript.post("events", &event("3", "artifact.suspect", &suspect)).await;
    transcript.get("taint-events?cascade_id=k-1").await;
    let unknown = json!({"artifact_id": "nobody", "cascade_id": "k-3", "reason": "wrong"});
    transcript.post("events", &event("4", "artifact.tainted", &unknown)).await;
    transcript.post("events", &event("5", "artifact.suspect", &json!({"artifact_id": "a"}))).await;
    let checkpoint = client.post("projects/p/checkpoints", &json!({})).await.json()["id"].clone();
    make(&client, "p", "e", &[]).await;
    let data = |project: &str| json!({"checkpoint_id": checkpoint, "reason": "bad", "project_id": project});
    transcript.post("events", &event("6", "rollback.requested", &data("q"))).await;
    transcript.post("events", &event("7", "rollback.requested", &data("p"))).await;
    transcript.post("events", &event("8", "rollback.requested", &data("p"))).await;
    let nobody = json!({"checkpoint_id": "none", "reason": "bad"});
    transcript.post("events", &event("9", "rollback.requested", &nobody)).await;
    let types = "artifact.tainted,artifact.suspect,rollback.requested";
    transcript.get(&format!("events?after={head}&types={types}")).await;
    transcript.get(&format!("events?after={head}&types={types}&project_id=q")).await;
    insta::assert_snapshot!(transcript.text());
    // As over HTTP: what it was concluded from has to be known here.
    let unknown = json!({"artifact_id": "d", "cascade_id": "k-4", "source_id": "nobody"});
    let kind = [("content-type", "application/cloudevents+json")];
    let refused = event("10", "artifact.suspect", &unknown).to_string();
    let refused = client.ask("POST", "events", &kind, refused).await.unwrap();
    assert_eq!((refused.status, &refused.json()["errors"][0]["pointer"]), (422, &json!("/data/source_id")));
}

/// A record that comes with a tainted input is in the audit trail, too, and
/// so is what another verdict does.
#[tokio::test]
async fn what_nobody_has_said_is_audited() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    make(&client, "p", "a", &[]).await;
    client.post("provenance/a/taint", &json!({"reason": "wrong"})).await;
    make(&client, "p", "b", &["a"]).await;
    transcript.get("taint-events?artifact_id=b").await;
    let events = transcript.get("taint-events").await["taint_events"].as_array().unwrap().len();
    assert_eq!(events, 2);
    insta::assert_snapshot!(transcript.text());
}

#[tokio::test]
async fn the_command_line_rolls_back() {
    let (server, client) = served();
    make(&client, "p", "a", &[]).await;
    let run = |arguments: &[&str]| process::run(&server.address, &[], arguments);
    let made = run(&["checkpoint", "create", "p", "--description", "a start", "--output", "json"]);
    let id = serde_json::from_str::<Value>(&made.stdout).unwrap()["id"].as_str().unwrap().to_owned();
    make(&client, "p", "b", &["a"]).await;
    let shown = run(&["checkpoint", "show", &id]);
    assert!(shown.code == 0 && shown.stdout.contains("a start") && shown.stdout.contains("manual"), "{}", shown.stdout);
    let listed = run(&["checkpoint", "list", "p"]);
    assert!(listed.stdout.starts_with("CHECKPOINT") && listed.stdout.contains(&id), "{}", listed.stdout);
    let dry = run(&["rollback", &id, "--reason", "bad", "--dry-run"]);
    assert!(dry.stdout.starts_with("dry run: nothing was changed\nrecords of p: 1 would be tainted"), "{}", dry.stdout);
    let done = run(&["rollback", &id, "--reason", "bad", "--requeue"]);
    assert!(done.code == 0 && done.stdout.contains("1 of 1 to repeat were submitted"), "{}", done.stdout);
    assert_eq!(client.get("provenance/b").await.json()["flag"], "tainted");
    leased(&client).await;
    assert_eq!(
        run(&["rollback", &id, "--reason", "bad"]).stdout.lines().next(),
        Some("records of p: 0 were tainted, 0 suspect in 0 projects, to a depth of 0")
    );
    assert_eq!(run(&["rollback", &id, "--reason", "bad"]).stdout, "there is nothing to change\n");
    let refused = run(&["rollback", "none", "--reason", "bad"]);
    assert!(refused.code == 1 && refused.stderr.contains("there is no checkpoint none"), "{}", refused.stderr);
}
