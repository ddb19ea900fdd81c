//! Provenance: walks, taints and their audit trail, through the public
//! interface alone.

use serde_json::{Value, json};

use super::transcript::Transcript;
use super::{event, served};
use crate::support::client::Client;
use crate::support::process::{self, Setup};

/// A task whose output is taken as it is, that made `artifact` out of `inputs`.
pub(super) async fn make(client: &Client, project: &str, artifact: &str, inputs: &[&str]) -> String {
    let body = json!({
        "description": artifact, "project_id": project, "options": {"tier": "small", "qa_profile": "none"},
    });
    let task = client.submit(&body).await;
    let data = json!({
        "task_id": task, "artifact_id": artifact, "model_used": "m", "worker_id": "w", "inputs_consumed": inputs,
        "output": {"artifacts": [{"id": artifact, "type": "code"}]},
    });
    let answer = client.post("events", &event(&format!("{artifact} made"), "task.output.created", &data)).await;
    assert_eq!(answer.json()["outcome"], "applied", "{answer:?}");
    task
}

/// a ← b ← c ← e, and d, of another project, made out of b and c.
async fn family(client: &Client) {
    for (project, artifact, inputs) in
        [("p", "a", &[][..]), ("p", "b", &["a"]), ("p", "c", &["b"]), ("q", "d", &["b", "c"]), ("p", "e", &["c"])]
    {
        make(client, project, artifact, inputs).await;
    }
}

/// The flags of the family, in order.
async fn flags(client: &Client) -> Vec<String> {
    let mut flags = Vec::new();
    for artifact in ["a", "b", "c", "d", "e"] {
        let record = client.get(&format!("provenance/{artifact}")).await.json();
        flags.push(record["flag"].as_str().unwrap().to_owned());
    }
    flags
}

#[tokio::test]
async fn walks_and_their_pages() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    family(&client).await;
    transcript.get("provenance/b/dependents").await;
    transcript.get("provenance/d/dependencies?depth=1").await;
    let first = transcript.get("provenance/a/dependents?limit=3").await;
    let cursor = first["next_cursor"].as_str().unwrap().to_owned();
    let rest = client.get(&format!("provenance/a/dependents?limit=3&cursor={cursor}")).await.json();
    assert_eq!((rest["dependents"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    let mut all: Vec<_> = first["dependents"].as_array().unwrap().clone();
    all.extend(rest["dependents"].as_array().unwrap().iter().cloned());
    assert_eq!(Value::from(all), client.get("provenance/a/dependents").await.json()["dependents"]);
    // A cursor is one of its own query alone.
    assert_eq!(client.get(&format!("provenance/b/dependents?cursor={cursor}")).await.status, 422);
    transcript.get("provenance/a/impact").await;
    transcript.get("provenance/a/root-cause").await;
    transcript.get("provenance/path?from=a&to=e").await;
    transcript.get("provenance/path?from=e&to=a").await;
    transcript.get("provenance/path?from=a&to=nobody").await;
    transcript.get("provenance/path?from=a").await;
    transcript.get("provenance/nobody/dependents").await;
    transcript.get("provenance/nobody/impact").await;
    transcript.get("provenance/a/dependents?depth=0&direct=yes&limit=1001&deep=1").await;
    transcript.get("provenance?project_id=q").await;
    transcript.get("provenance/d/export?format=prov&depth=1").await;
    transcript.get("provenance/d/export?format=xml").await;
    let page = client.get("provenance?limit=2").await.json();
    assert_eq!((page["records"].as_array().unwrap().len(), &page["total"]), (2, &json!(5)));
    let next = page["next_cursor"].as_str().unwrap();
    let page = client.get(&format!("provenance?limit=4&cursor={next}")).await.json();
    let made: Vec<_> = page["records"].as_array().unwrap().iter().map(|it| &it["outputs"][0]["artifact_id"]).collect();
    assert_eq!(made, ["c", "b", "a"]);
    insta::assert_snapshot!(transcript.text());
}

/// However many tasks are at work, an answer lists its limit of them, and how many there are.
#[tokio::test]
async fn tasks_at_work_are_listed_up_to_the_limit() {
    let (_server, client) = served();
    make(&client, "p", "before", &[]).await;
    let checkpoint = client.post("projects/p/checkpoints", &json!({})).await.json();
    make(&client, "p", "a", &[]).await;
    for _ in 0..3 {
        let body = json!({"description": "uses a", "project_id": "r", "options": {"tier": "small", "inputs": ["a"]}});
        client.submit(&body).await;
    }
    let leased = client.post("queues/small/lease", &json!({"worker_id": "w", "max": 10})).await.json();
    assert_eq!(leased["leases"].as_array().unwrap().len(), 3);
    let listed = |answer: &Value, name: &str| answer[name].as_array().unwrap().len();
    let impact = client.get("provenance/a/impact?limit=2").await.json();
    let cursor = impact["next_cursor"].as_str().expect("a second page");
    let rest = client.get(&format!("provenance/a/impact?limit=2&cursor={cursor}")).await.json();
    assert_eq!((listed(&impact, "running_tasks"), listed(&rest, "running_tasks")), (2, 1));
    assert_eq!((&impact["counts"]["running_tasks"], &rest["next_cursor"]), (&json!(3), &Value::Null));
    let back = format!("checkpoints/{}/rollback?limit=2", checkpoint["id"].as_str().unwrap());
    let back = client.post(&back, &json!({"reason": "r", "dry_run": true})).await.json();
    assert_eq!((listed(&back, "running_tasks"), &back["counts"]["running_tasks"]), (2, &json!(3)));
    assert_eq!(back["truncated"], true);
    let tainted = json!({"reason": "wrong", "cancel_running": true});
    let tainted = client.post("provenance/a/taint?limit=2", &tainted).await.json();
    for name in ["running_tasks", "cancelled"] {
        assert_eq!((listed(&tainted, name), &tainted["counts"][name]), (2, &json!(3)), "{tainted}");
    }
    assert_eq!(tainted["truncated"], true);
}

#[tokio::test]
async fn taints_and_clears() {
    let setup = Setup::new();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let mut transcript = Transcript::new(&client);
    family(&client).await;
    let user = json!({"description": "uses c", "project_id": "r", "options": {"tier": "small", "inputs": ["c"]}});
    let user = client.submit(&user).await;
    let leased = client.post("queues/small/lease", &json!({"worker_id": "w"})).await;
    assert_eq!(leased.json()["leases"][0]["task"]["task_id"], user, "{leased:?}");
    let why = json!({"reason": "wrong units", "dry_run": true, "max_depth": 1});
    transcript.post("provenance/b/taint", &why).await;
    assert_eq!(flags(&client).await, ["clean"; 5]);
    transcript.get("taint-events").await;
    let why = json!({"reason": "wrong units", "cascade_id": "c-1", "source_id": "a", "cancel_running": true});
    let first = transcript.post("provenance/b/taint?limit=1", &why).await;
    assert_eq!(first["cancelled"], json!([user]));
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = client.get(&format!("provenance/b/affected?cursor={cursor}")).await.json();
    assert_eq!((rest["affected"].as_array().unwrap().len(), &rest["total"]), (3, &json!(4)));
    assert_eq!(flags(&client).await, ["clean", "tainted", "suspect", "suspect", "suspect"]);
    transcript.get("provenance/b/export?format=dot&depth=1").await;
    let again = transcript.post("provenance/b/taint", &json!({"reason": "again"})).await;
    assert_eq!(again["total"], 0);
    transcript.get("provenance/b").await;
    transcript.get("provenance/e/root-cause").await;
    transcript.get("taint-events?limit=2").await;
    transcript.get("taint-events?artifact_id=e").await;
    transcript.get("projects/p/consistency").await;
    transcript.get("projects/q/status").await;
    transcript.post("provenance/c/clear", &json!({"reason": "looked at it"})).await;
    assert_eq!(flags(&client).await, ["clean", "tainted", "clean", "suspect", "suspect"]);
    transcript.post("provenance/d/taint", &json!({"reason": "wrong too"})).await;
    transcript.post("provenance/a/suspect", &json!({"reason": "looks odd"})).await;
    transcript.post("provenance/b/clear", &json!({"reason": "it was right"})).await;
    assert_eq!(flags(&client).await, ["suspect", "clean", "clean", "tainted", "clean"]);
    transcript.post("provenance/d/clear", &json!({"reason": "it was right"})).await;
    let before = client.get("taint-events").await.json();
    server.kill();
    let server = setup.start();
    let client = Client::new(&server.address);
    transcript.turn_to(&client);
    assert_eq!(flags(&client).await, ["suspect", "clean", "clean", "clean", "clean"]);
    assert_eq!(client.get("taint-events").await.json(), before);
    // What was kept for the cursor is gone with the process.
    transcript.ask("GET", &format!("provenance/b/affected?cursor={cursor}"), &[], "").await;
    // A new step takes no place of an old one in the trail.
    client.post("provenance/c/taint", &json!({"reason": "after all"})).await;
    let after = client.get("taint-events?limit=1000").await.json();
    let (new, old) = (after["taint_events"].as_array().unwrap(), before["taint_events"].as_array().unwrap());
    assert_eq!(new.len(), old.len() + 3);
    assert_eq!(new[3..], old[..]);
    let unknown = client.post("provenance/a/taint", &json!({"reason": "r", "source_id": "s"})).await;
    assert_eq!((unknown.status, &unknown.json()["errors"][0]["pointer"]), (422, &json!("/source_id")));
    for (path, body) in [
        ("provenance/nobody/taint", json!({"reason": "r"})),
        ("provenance/a/taint", json!({"reason": "r", "max_depth": 2})),
        ("provenance/a/clear", json!({"resaon": "r"})),
    ] {
        transcript.post(path, &body).await;
    }
    transcript.get("provenance/a/affected").await;
    insta::assert_snapshot!(transcript.text().replace(cursor, "<cursor>"));
}

#[tokio::test]
async fn the_command_line() {
    let (server, client) = served();
    family(&client).await;
    let dats = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let ran = process::run(&server.address, &[], &arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        ran.stdout
    };
    let dry = dats("taint b --reason odd --dry-run --max-depth 1");
    assert!(dry.starts_with("dry run") && dry.contains("3 would change: 1 tainted, 2 suspect"), "{dry}");
    let shown = |key: &str| {
        let record = dats("provenance show b");
        let line = record.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(shown("flag"), "clean");
    let done = dats("taint b --reason odd");
    assert!(
        done.contains("4 changed: 1 tainted, 3 suspect, 0 cleared; 4 tasks in 2 projects, to a depth of 2"),
        "{done}"
    );
    assert_eq!((shown("flag"), shown("tainted_reason")), ("tainted".to_owned(), "odd".to_owned()));
    let dependents = dats("provenance dependents b");
    assert_eq!(dependents.matches("suspect").count(), 3, "{dependents}");
    assert_eq!(dats("provenance dependents b --direct").lines().count(), 3);
    let more = dats("provenance dependencies d --limit 1");
    assert!(more.contains("--cursor "), "{more}");
    let json: Value = serde_json::from_str(&dats("provenance dependents b --output json")).unwrap();
    assert_eq!(json["total"], 3);
    assert!(dats("provenance impact b").contains("max_depth"));
    let cause = dats("provenance root-cause e");
    assert!(cause.starts_with("tainted ") && cause.contains(": odd\nb  ") && cause.contains("\n└─ c  "), "{cause}");
    assert_eq!(dats("provenance path a e").lines().count(), 4);
    assert_eq!(dats("provenance list --tainted").lines().count(), 2);
    assert!(dats("provenance export b").starts_with("digraph provenance {"));
    assert!(dats("suspect a --reason why").contains("1 changed: 0 tainted, 1 suspect"));
    assert!(dats("clear b --reason right").contains("4 changed: 0 tainted, 0 suspect, 4 cleared"));
    let refused = process::run(&server.address, &[], &["clear", "nobody", "--reason", "x"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("provenance_not_found"), "{}", refused.stderr);
}
