//! The shape of every answer and every problem, as a conversation that is
//! compared as a whole.

use serde_json::json;

use super::transcript::Transcript;
use super::{event, served};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_task_from_submission_to_end() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    let body = json!({
        "description": "write hello", "project_id": "p", "priority": "high", "metadata": {"ticket": 7},
        "options": {"tier": "small", "domain": "code-general", "timeout_seconds": 60},
    });
    let task = transcript.post("tasks", &body).await["task_id"].as_str().unwrap().to_owned();
    transcript.get(&format!("tasks/{task}")).await;
    transcript.get("tasks?project_id=p&status=running&limit=1").await;
    transcript.get("queues").await;
    let leases = transcript.post("queues/small/lease", &json!({"worker_id": "w", "lease_seconds": 60})).await;
    let lease = leases["leases"][0]["lease_id"].as_str().unwrap().to_owned();
    transcript.post(&format!("leases/{lease}/renew"), &json!({"lease_seconds": 90})).await;
    transcript.post(&format!("leases/{lease}/release"), &json!({})).await;
    transcript.post("queues/small/lease", &json!({"worker_id": "w", "wait_seconds": 5})).await;
    let output = json!({
        "task_id": task, "artifact_id": "a", "model_used": "m", "worker_id": "w", "tokens_input": 1, "tokens_output": 2,
        "confidence": 0.5, "inputs_consumed": ["i"],
        "output": {"content": "print('hello')", "artifacts": [{"id": "a", "type": "code", "path": "hello.py"}]},
    });
    transcript.post("events", &event("1", "task.output.created", &output)).await;
    transcript.post("events", &event("1", "task.output.created", &output)).await;
    let data = json!({"task_id": task, "artifact_id": "a", "score": 0.9, "profile": "consensus"});
    transcript.post("events", &event("2", "task.validated", &data)).await;
    transcript.post("events", &event("3", "task.validated", &data)).await;
    transcript.get(&format!("tasks/{task}")).await;
    transcript.get(&format!("tasks/{task}/events")).await;
    transcript.get("provenance/a").await;
    transcript.get("artifacts/a/content").await;
    transcript.ask("GET", "artifacts/a/content", &[("range", "bytes=0-4")], "").await;
    transcript.ask("GET", "artifacts/a/content", &[("range", "bytes=99-")], "").await;
    transcript.get("events?limit=2").await;
    transcript.post(&format!("tasks/{task}/rerun"), &json!({})).await;
    transcript.get("projects/p/status").await;
    insta::assert_snapshot!(transcript.text());
}

#[tokio::test]
async fn projects_batches_and_dead_letters() {
    let server = crate::support::process::Setup::new().with("DATS__EVENTS__PARK_MINUTES", "0").start();
    let client = crate::support::client::Client::new(&server.address);
    let mut transcript = Transcript::new(&client);
    let project = json!({
        "project_id": "p", "name": "Project", "description": "d", "qa_profile": "none", "constitution": {"a": 1},
        "max_concurrent": 1,
    });
    transcript.post("projects", &project).await;
    transcript.post("projects", &project).await;
    transcript.get("projects/p").await;
    transcript.get("projects").await;
    transcript.ask("PATCH", "projects/p", &[JSON], r#"{"name": "New", "description": null}"#).await;
    transcript.ask("PATCH", "projects/p", &[JSON, ("if-match", "\"1\"")], r#"{"name": "x"}"#).await;
    let batch = json!({"tasks": [
        {"description": "one", "project_id": "p", "options": {"tier": "tiny"}},
        {"description": "", "priority": "urgent"},
        {"description": "two", "project_id": "p", "options": {"tier": "tiny"}},
        {"description": "three", "options": {"depends_on": ["01890a5d-ac96-774b-bcce-b302099a8057"]}},
    ]});
    let made =
        transcript.ask("POST", "tasks/batch", &[JSON, ("idempotency-key", "k")], &batch.to_string()).await.json();
    transcript.ask("POST", "tasks/batch", &[JSON, ("idempotency-key", "k")], &batch.to_string()).await;
    transcript
        .ask("POST", "tasks/batch", &[JSON, ("idempotency-key", "k")], r#"{"tasks": [{"description": "x"}]}"#)
        .await;
    let first = made["results"][0]["task"]["task_id"].as_str().unwrap();
    let second = made["results"][2]["task"]["task_id"].as_str().unwrap();
    transcript.ask("DELETE", "projects/p", &[], "").await;
    let verdict = json!({"task_id": first, "artifact_id": "early", "score": 1});
    transcript.post("events", &event("1", "task.validated", &verdict)).await;
    while client.get("dead-letters").await.json()["dead_letters"] == json!([]) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let letter = transcript.get("dead-letters").await["dead_letters"][0]["id"].to_string();
    transcript.ask("DELETE", "dead-letters", &[], "").await;
    transcript.ask("DELETE", "dead-letters?all=true&reason=x", &[], "").await;
    transcript.ask("DELETE", "dead-letters?type=task.rejected", &[], "").await;
    transcript.post(&format!("dead-letters/{letter}/requeue"), &json!({})).await;
    transcript.ask("DELETE", &format!("dead-letters/{letter}"), &[], "").await;
    transcript.post(&format!("tasks/{first}/cancel"), &json!({"reason": "no longer wanted"})).await;
    transcript.post(&format!("tasks/{second}/cancel"), &json!({})).await;
    transcript.post(&format!("tasks/{second}/cancel"), &json!({})).await;
    transcript.ask("DELETE", "projects/p", &[], "").await;
    transcript.get("projects/p").await;
    insta::assert_snapshot!(transcript.text());
}

#[tokio::test]
async fn pauses_of_projects_and_tiers() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    let small = json!({"description": "x", "project_id": "p", "options": {"tier": "small"}});
    let first = client.submit(&small).await;
    transcript.post("projects/p/pause", &json!({})).await;
    transcript.ask("POST", "projects/p/pause", &[], "").await;
    transcript.get("projects/p").await;
    transcript.get("projects/p/status").await;
    let shown = transcript.get(&format!("tasks/{first}")).await;
    assert_eq!(shown["waiting_for"], "the project is paused");
    for (tag, status) in [("\"1\"", 200), ("\"1-project-paused\"", 304), ("\"1-tier-paused\"", 200)] {
        let known = [("if-none-match", tag)];
        let answer = transcript.ask("GET", &format!("tasks/{first}"), &known, "").await;
        assert_eq!((answer.status, answer.header("etag")), (status, "\"1-project-paused\""), "{tag}");
    }
    transcript.post("queues/small/lease", &json!({"worker_id": "w"})).await;
    transcript.post("queues/small/pause", &json!({})).await;
    transcript.post("projects/p/resume", &json!({})).await;
    transcript.ask("GET", &format!("tasks/{first}"), &[], "").await;
    transcript.get("queues").await;
    let health = transcript.get("/health/detailed").await;
    assert_eq!(health["figures"]["paused_tiers"], json!(["small"]));
    let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
    for line in ["queue_paused{tier=\"small\"} 1", "queue_depth{tier=\"small\"} 1", "paused_projects 0"] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(metrics.contains("queue_oldest_age_seconds{tier=\"small\"} 0."), "{metrics}");
    transcript.post("queues/small/resume", &json!({})).await;
    transcript.post("queues/small/lease", &json!({"worker_id": "w"})).await;
    transcript.post("projects/none/pause", &json!({})).await;
    transcript.post("projects/none/resume", &json!({})).await;
    transcript.post("queues/none/pause", &json!({})).await;
    transcript.post("queues/A%20B/resume", &json!({})).await;
    transcript.post("projects/p/pause", &json!({"for": 3})).await;
    transcript.ask("GET", "projects/p/pause", &[], "").await;
    insta::assert_snapshot!(transcript.text());
}

#[tokio::test]
async fn every_problem() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    let task = client.submit(&json!({"description": "x", "options": {"tier": "small", "qa_profile": "none"}})).await;
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    for path in
        ["nothing", "tasks/t-1", "projects/none", "projects/none/status", "provenance/none", "artifacts/none/content"]
    {
        transcript.get(path).await;
    }
    transcript.get(&format!("tasks/{nobody}")).await;
    transcript.get(&format!("tasks/{nobody}/events")).await;
    transcript.get(&format!("tasks/{nobody}/stream")).await;
    transcript.post(&format!("tasks/{nobody}/cancel"), &json!({})).await;
    transcript.post(&format!("tasks/{nobody}/rerun"), &json!({})).await;
    transcript.post(&format!("tasks/{task}/rerun"), &json!({})).await;
    transcript.post("queues/none/lease", &json!({"worker_id": "w"})).await;
    transcript.post(&format!("leases/{nobody}/renew"), &json!({})).await;
    transcript.post(&format!("leases/{nobody}/release"), &json!({})).await;
    transcript.post("dead-letters/9/requeue", &json!({})).await;
    transcript
        .post("tasks", &json!({"descripton": "x", "priority": 1, "options": {"tier": "huge", "max_attempts": 0}}))
        .await;
    transcript.get("tasks?limit=0&offset=-1&status=done&sort=up").await;
    transcript.get("tasks?cursor=AAAA").await;
    transcript.get("events?types=task.nothing&after=x").await;
    transcript.ask("POST", "tasks", &[JSON], "{").await;
    transcript.ask("POST", "tasks", &[("content-type", "text/plain")], "x").await;
    transcript.ask("PUT", "tasks", &[], "").await;
    transcript.ask("POST", "tasks", &[JSON, ("idempotency-key", "a b")], r#"{"description": "x"}"#).await;
    transcript.ask("GET", "events", &[("accept", "image/png")], "").await;
    transcript.post("events", &event("1", "task.created", &json!({}))).await;
    transcript.post("events", &event("2", "task.failed", &json!({"task_id": nobody, "error": "e"}))).await;
    transcript.post("events", &event("3", "task.failed", &json!({"task_id": "t-1", "error": "e"}))).await;
    transcript.post("events", &event("4", "task.failed", &json!({"task_id": task, "error": "e", "attempt": 9}))).await;
    transcript.post("events", &event("5", "task.output.created", &json!({"task_id": task}))).await;
    transcript
        .post(
            "events",
            &event("6", "review.completed", &json!({"review_id": "r", "decision": "approved", "reviewer_id": "a"})),
        )
        .await;
    transcript.post("events", &event("7", "task.output.created", &json!({"task_id": task, "artifact_id": "a"}))).await;
    transcript.post(&format!("tasks/{task}/cancel"), &json!({})).await;
    insta::assert_snapshot!(transcript.text());
}

#[tokio::test]
async fn health_with_and_without_the_base_path() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    for path in ["/health", "/api/v1/health", "/health/detailed", "/livez", "/readyz"] {
        transcript.get(path).await;
    }
    insta::assert_snapshot!(transcript.text());
    let metrics = client.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"), "{metrics:?}");
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let estimates =
        ["tasks_completed_by_estimate_total{estimate=\"kept\"} 0", "task_estimate_ratio_bucket{le=\"+Inf\"} 0"];
    assert!(estimates.iter().all(|line| text.contains(line)), "{text}");
    assert!(text.contains("tasks{phase=\"queued\"} 0") && text.ends_with("# EOF\n"), "{text}");
}
