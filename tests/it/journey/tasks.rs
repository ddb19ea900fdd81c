//! Commands that talk to a server.

use std::time::Duration;

use serde_json::json;

use super::{done, fails, json};
use crate::support::process::{Server, Setup, beside, run};

/// The id in `submitted task ID`.
fn submit(server: &Server, arguments: &[&str]) -> String {
    let line = done(server, &[&["submit"], arguments].concat());
    line.trim().strip_prefix("submitted task ").unwrap_or_else(|| panic!("{line}")).to_owned()
}

#[test]
fn a_demo_tells_its_story_and_ends() {
    let setup = Setup::new();
    let directory = setup.data_dir().display().to_string();
    let ran = run("", &[], &["demo", "--once", "--port", "0", "--data-dir", &directory]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let finished = ran.stdout.lines().filter(|line| line.ends_with("finished              completed")).count();
    assert_eq!(finished, 8, "{}", ran.stdout);
    for told in [
        "into api/design, api/handlers, api/tests, api/guide",
        "code-general on tier coding, by the agent",
        "attempt 2 on tier large",
        "from RAG     Notes of project demo",
        "artifacts    architecture.md",
        "primes: estimated on submission to be done within",
    ] {
        assert!(ran.stdout.contains(told), "{told} in\n{}", ran.stdout);
    }
    // What it leaves is a data directory like any other.
    let server = setup.start();
    let page = json(&server, &["list"]);
    assert_eq!(page["total"], 8);
    let parent = page["tasks"].as_array().unwrap().iter().find(|task| task["children"] != json!([])).unwrap();
    let id = parent["task_id"].as_str().unwrap();
    assert_eq!(json(&server, &["list", "--parent", id])["total"], 4);
    let tree = json(&server, &["status", id, "--tree"]);
    assert_eq!((&tree["truncated"], &tree["children"][1]["tier"]), (&json!(false), &json!("coding")), "{tree}");
    let table = done(&server, &["status", id, "--tree"]);
    assert_eq!(table.matches("├─ ").count() + table.matches("└─ ").count(), 4, "{table}");
}

#[test]
fn a_task_is_submitted_worked_on_and_shown() {
    let server = Setup::new().start();
    let quick = ["--latency-ms", "10", "--quiet"];
    let _worker = beside(&server.address, &[&["simulate", "worker", "--jitter-ms", "0"], &quick[..]].concat());
    let _qa = beside(&server.address, &[&["simulate", "qa", "--after", "0"], &quick[..]].concat());
    let shown = done(&server, &["submit", "write hello", "--wait", "--project", "p", "--tier", "small"]);
    assert!(shown.contains("completed"), "{shown}");
    let followed = done(&server, &["submit", "write more", "--follow", "--priority", "high"]);
    assert!(followed.contains("created") && followed.contains("completed"), "{followed}");

    let table = done(&server, &["list"]);
    assert!(table.starts_with("TASK") && table.contains("write hello") && table.contains("write more"), "{table}");
    let page = json(&server, &["list", "--project", "p"]);
    assert_eq!((&page["total"], &page["tasks"][0]["status"]), (&json!(1), &json!("completed")), "{page}");
    let id = page["tasks"][0]["task_id"].as_str().unwrap();
    assert_eq!(json(&server, &["status", id]), page["tasks"][0]);
    assert!(done(&server, &["status", id]).contains(id));
    let steps = done(&server, &["watch", id]);
    assert!(steps.contains("created") && steps.contains("completed"), "{steps}");

    let artifact = page["tasks"][0]["artifacts"][0]["id"].as_str().unwrap();
    let record = json(&server, &["provenance", "show", artifact]);
    assert_eq!((&record["task_id"], &record["status"]), (&json!(id), &json!("passed")));
    assert!(done(&server, &["provenance", "show", record["id"].as_str().unwrap()]).contains("passed"));

    let again = json(&server, &["rerun", id]);
    let again = again["task_id"].as_str().unwrap();
    assert_eq!(json(&server, &["status", again])["rerun_of"], id);
    done(&server, &["watch", again]);
    assert!(done(&server, &["queues"]).contains("small"));
}

#[test]
fn projects_and_tiers_are_paused_and_resumed() {
    let server = Setup::new().start();
    let task = submit(&server, &["write hello", "--project", "p", "--tier", "large"]);
    assert_eq!(json(&server, &["project", "pause", "p"])["paused"], true);
    assert!(done(&server, &["status", &task]).contains("the project is paused"));
    assert!(done(&server, &["project", "resume", "p"]).contains("paused"));
    assert!(json(&server, &["queues", "pause", "large"])["paused_at"].is_string());
    assert!(done(&server, &["status", &task]).contains("the tier large is paused"));
    assert!(done(&server, &["queues"]).contains("PAUSED"));
    assert_eq!(json(&server, &["queues", "resume", "large"])["paused"], false);
    assert_eq!(json(&server, &["queues", "list"])["queues"][2]["paused"], false);
    assert_eq!(json(&server, &["status", &task])["waiting_for"], "a worker of tier large and a free slot of project p");
    fails(&server.address, 1, &["project", "pause", "nobody"]);
    fails(&server.address, 1, &["queues", "pause", "nowhere"]);
}

#[test]
fn events_are_shown_as_they_were() {
    let server = Setup::new().start();
    let task = submit(&server, &["write hello", "--project", "p"]);
    let page = json(&server, &["events", "--after", "0"]);
    assert_eq!(page["events"][0]["event"]["subject"], task);
    let lines = done(&server, &["events"]);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("task.created") && lines[0].contains(&task), "{lines:?}");
    assert!(lines[1].contains("task.ready"), "{lines:?}");
    assert_eq!(done(&server, &["events", "--types", "task.finished"]), "no events\n");
}

#[test]
fn a_task_that_ends_badly_fails_the_command() {
    let server = Setup::new().start();
    let task = submit(&server, &["write hello"]);
    assert!(done(&server, &["cancel", &task]).contains("cancelled"));
    done(&server, &["cancel", &task]);
    fails(&server.address, 1, &["watch", &task]);
    let _worker = beside(
        &server.address,
        &["simulate", "worker", "--failure-rate", "1", "--latency-ms", "10", "--jitter-ms", "0", "--quiet"],
    );
    fails(&server.address, 1, &["submit", "in vain", "--wait", "--max-attempts", "1"]);
}

#[test]
fn projects_are_made_changed_and_archived() {
    let server = Setup::new().start();
    done(&server, &["project", "create", "p", "--name", "Project", "--max-concurrent", "2"]);
    assert!(done(&server, &["project", "list"]).contains("Project"));
    done(&server, &["project", "update", "p", "--name", "New", "--constitution", "{\"a\": 1}"]);
    let project = json(&server, &["project", "show", "p"]);
    assert_eq!((&project["name"], &project["max_concurrent"]), (&json!("New"), &json!(2)));
    let task = submit(&server, &["x", "--project", "p"]);
    let status = json(&server, &["project", "status", "p"]);
    assert_eq!((&status["running"], &status["limit"]), (&json!(0), &json!(2)));
    let refused = fails(&server.address, 1, &["project", "delete", "p"]);
    assert!(refused.contains("project_has_open_tasks"), "{refused}");
    done(&server, &["cancel", &task]);
    done(&server, &["project", "delete", "p"]);
    fails(&server.address, 1, &["project", "show", "p"]);
}

#[tokio::test]
async fn a_verdict_that_waits_in_vain_is_a_dead_letter() {
    let server = Setup::new().with("DATS__EVENTS__PARK_MINUTES", "0").start();
    let client = crate::support::client::Client::new(&server.address);
    let task = submit(&server, &["x", "--tier", "small"]);
    let event = |id: &str, name: &str| {
        json!({"specversion": "1.0", "type": name, "source": "/qa", "id": id,
            "data": {"task_id": task, "artifact_id": "a", "score": 1}})
    };
    assert_eq!(client.post("events", &event("1", "task.validated")).await.json()["outcome"], "parked");
    let letters = loop {
        let page = json(&server, &["dead-letters", "list"]);
        if page["dead_letters"] != json!([]) {
            break page["dead_letters"].clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(done(&server, &["dead-letters", "list"]).contains("before its output"));
    let output = client.post("events", &event("2", "task.output.created")).await;
    assert_eq!(output.json()["outcome"], "applied", "{output:?}");
    let number = letters[0]["id"].to_string();
    let shown = done(&server, &["dead-letters", "show", &number]);
    assert!(shown.contains("before its output") && shown.contains("specversion"), "{shown}");
    let requeued = json(&server, &["dead-letters", "requeue", &number]);
    assert_eq!(requeued["outcome"], "applied", "it never had its effect before");
    assert_eq!(json(&server, &["status", &task])["status"], "completed");
    assert_eq!(done(&server, &["dead-letters", "list"]), "no dead letters\n");
    fails(&server.address, 1, &["dead-letters", "requeue", &number]);
    fails(&server.address, 1, &["dead-letters", "discard", &number]);
    fails(&server.address, 2, &["dead-letters", "discard"]);
    fails(&server.address, 2, &["dead-letters", "discard", &number, "--reason", "x"]);
    assert_eq!(done(&server, &["dead-letters", "list", "--older-than", "1h", "--source", "/qa"]), "no dead letters\n");
    assert_eq!(json(&server, &["dead-letters", "discard", "--type", "task.rejected"])["discarded"], 0);
    assert_eq!(done(&server, &["dead-letters", "discard", "--all"]), "0 discarded\n");
}

#[tokio::test]
async fn a_cascade_is_taken_back_by_its_id() {
    let server = Setup::new().start();
    let client = crate::support::client::Client::new(&server.address);
    let options = json!({"tier": "small", "qa_profile": "none"});
    let task = client.submit(&json!({"description": "x", "project_id": "p", "options": options})).await;
    let output = json!({"specversion": "1.0", "type": "task.output.created", "source": "/w", "id": "o",
        "data": {"task_id": task, "artifact_id": "made"}});
    assert_eq!(client.post("events", &output).await.json()["outcome"], "applied");
    done(&server, &["taint", "made", "--reason", "bad", "--cascade-id", "c"]);
    let told = done(&server, &["clear", "--cascade", "c", "--dry-run"]);
    assert!(told.contains("1 facts would be undone") && told.contains("dry run"), "{told}");
    let undone = json(&server, &["clear", "--cascade", "c", "--reason", "a false alarm"]);
    assert_eq!((&undone["facts"], &undone["counts"]["cleared"]), (&json!(1), &json!(1)));
    assert_eq!(json(&server, &["clear", "--cascade", "c"])["facts"], 0);
    assert!(fails(&server.address, 1, &["clear", "--cascade", "none"]).contains("cascade_not_found"));
    for line in [&["clear"][..], &["clear", "made"], &["clear", "made", "--cascade", "c"]] {
        fails(&server.address, 2, line);
    }
    done(&server, &["clear", "made", "--reason", "it is fine"]);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let server = Setup::new().start();
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    for command in
        [&["status", nobody][..], &["cancel", nobody], &["rerun", nobody], &["watch", nobody], &["submit", " "]]
    {
        let said = fails(&server.address, 1, command);
        assert!(said.starts_with("error: "), "{said}");
    }
    for command in [&["submit"][..], &["nothing"], &["submit", "x", "--priority", "urgent"], &["list", "--limit", "0"]]
    {
        fails(&server.address, 2, command);
    }
    fails("x:y:z", 2, &["list"]);
    for command in [&["list"][..], &["submit", "x"], &["watch", nobody], &["events", "--follow"]] {
        let said = fails("127.0.0.1:1", 3, command);
        assert!(said.contains("can't reach"), "{said}");
    }
}
