//! `/cascades/{id}`: what one cascade did, and taking it back, over HTTP.

use serde_json::{Value, json};

use super::{described, event, served};
use crate::support::client::Client;

/// A record of one artifact, made of others; `judged`: it waits for its verdict.
async fn make(client: &Client, artifact: &str, inputs: &[&str], judged: bool) -> String {
    let profile = if judged { "consensus" } else { "none" };
    let options = json!({"tier": "small", "qa_profile": profile});
    let task = client.submit(&json!({"description": artifact, "project_id": "p", "options": options})).await;
    let data = json!({"task_id": task, "artifact_id": artifact, "inputs_consumed": inputs});
    let answer = client.post("events", &event(artifact, "task.output.created", &data)).await;
    assert_eq!(answer.json()["outcome"], "applied", "{answer:?}");
    task
}

async fn post(client: &Client, path: &str, body: Value) -> Value {
    let answer = client.post(path, &body).await;
    described::check("POST", path, &answer);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

async fn get(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await;
    described::check("GET", path, &answer);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

async fn flag(client: &Client, artifact: &str) -> String {
    get(client, &format!("provenance/{artifact}")).await["flag"].as_str().unwrap().to_owned()
}

async fn flags(client: &Client) -> [String; 3] {
    [flag(client, "a").await, flag(client, "b").await, flag(client, "c").await]
}

async fn say(client: &Client, artifact: &str, word: &str, cascade: &str) -> Value {
    post(client, &format!("provenance/{artifact}/{word}"), json!({"reason": "r", "cascade_id": cascade})).await
}

#[tokio::test]
async fn one_of_several_cascades_is_taken_back() {
    let (_server, client) = served();
    make(&client, "a", &[], false).await;
    make(&client, "b", &["a"], false).await;
    make(&client, "c", &["b"], false).await;
    for (artifact, cascade) in [("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")] {
        say(&client, artifact, "taint", cascade).await;
    }
    assert_eq!(flags(&client).await, ["tainted", "tainted", "suspect"]);
    let cascade = get(&client, "cascades/x").await;
    assert_eq!((&cascade["standing"], &cascade["total"]), (&json!(2), &json!(2)), "twice says nothing new: {cascade}");
    assert_eq!((&cascade["steps"][0]["action"], &cascade["steps"][0]["named"]), (&json!("taint"), &json!(1)));
    let page = get(&client, "cascades/x?limit=1").await;
    let next = page["next_cursor"].as_str().unwrap();
    let rest = get(&client, &format!("cascades/x?limit=1&cursor={next}")).await;
    assert_eq!((&rest["steps"][0], &rest["next_cursor"]), (&cascade["steps"][1], &Value::Null));
    // One entry of the trail for a record and a cascade, tainted already or not.
    let trail = get(&client, "taint-events?cascade_id=y").await;
    assert_eq!(
        (&trail["taint_events"][0]["artifact_id"], &trail["taint_events"][0]["action"]),
        (&json!("a"), &json!("taint"))
    );

    let foretold = post(&client, "cascades/x/clear", json!({"dry_run": true})).await;
    assert_eq!(flags(&client).await, ["tainted", "tainted", "suspect"]);
    let undone = post(&client, "cascades/x/clear?limit=1", json!({"reason": "a false alarm"})).await;
    assert_eq!((&undone["facts"], &undone["total"]), (&json!(2), &json!(1)), "{undone}");
    assert_eq!(undone["counts"], foretold["counts"]);
    assert_eq!((&undone["affected"][0]["from"], &undone["affected"][0]["to"]), (&json!("tainted"), &json!("suspect")));
    assert_eq!(flags(&client).await, ["tainted", "suspect", "suspect"]);
    let again = post(&client, "cascades/x/clear", json!({})).await;
    assert_eq!((&again["facts"], &again["total"]), (&json!(0), &json!(0)));
    let cascade = get(&client, "cascades/x").await;
    assert_eq!((&cascade["standing"], &cascade["steps"][2]["action"]), (&json!(0), &json!("undo")));
    let trail = get(&client, "taint-events?cascade_id=x").await;
    let newest = &trail["taint_events"][0];
    assert_eq!((&newest["reason"], &newest["detail"]), (&json!("a false alarm"), &json!("undo")), "{trail}");
    assert_eq!(post(&client, "cascades/y/clear?limit=1", json!({})).await["total"], 3);
    assert_eq!(flags(&client).await, ["clean", "clean", "clean"]);
    // What is said again counts again.
    say(&client, "b", "taint", "x").await;
    assert_eq!(flags(&client).await, ["clean", "tainted", "suspect"]);
}

#[tokio::test]
async fn verdicts_and_clears_are_as_before() {
    let (_server, client) = served();
    make(&client, "a", &[], false).await;
    make(&client, "b", &["a"], true).await;
    make(&client, "c", &["b"], false).await;
    say(&client, "a", "taint", "x").await;
    say(&client, "b", "clear", "y").await;
    let status = async |artifact: &str| get(&client, &format!("provenance/{artifact}")).await["status"].clone();
    assert_eq!((flag(&client, "b").await.as_str(), status("b").await), ("clean", json!("passed")));
    // The clear of b is void for a new taint above, and holds again without it.
    say(&client, "a", "taint", "z").await;
    assert_eq!(flag(&client, "b").await, "suspect");
    post(&client, "cascades/z/clear", json!({})).await;
    assert_eq!(flag(&client, "b").await, "clean");
    // A clear can be taken back, too, with the verdict that it gave.
    let undone = post(&client, "cascades/y/clear", json!({})).await;
    assert_eq!(undone["verdicts"].as_array().unwrap().len(), 1, "{undone}");
    assert_eq!((flag(&client, "b").await.as_str(), status("b").await), ("suspect", json!("pending")));
    // One that was given since stays.
    say(&client, "b", "clear", "w").await;
    let verdict = json!({"task_id": get(&client, "provenance/b").await["task_id"], "artifact_id": "b", "score": 1});
    client.post("events", &event("v", "task.validated", &verdict)).await;
    let undone = post(&client, "cascades/w/clear", json!({})).await;
    assert_eq!((&undone["verdicts"], status("b").await), (&json!([]), json!("passed")), "{undone}");
    // The clear of a tainted record takes its taint; without the clear it is back.
    say(&client, "a", "clear", "v").await;
    assert_eq!(flags(&client).await, ["clean", "clean", "clean"]);
    post(&client, "cascades/v/clear", json!({})).await;
    assert_eq!(flags(&client).await, ["tainted", "suspect", "suspect"]);
}

#[tokio::test]
async fn a_rollback_is_taken_back_and_tasks_stay() {
    let (_server, client) = served();
    client.post("projects", &json!({"project_id": "p"})).await;
    let checkpoint =
        async || client.post("projects/p/checkpoints", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
    let first = checkpoint().await;
    make(&client, "a", &[], false).await;
    make(&client, "b", &["a"], false).await;
    let second = checkpoint().await;
    let open = make(&client, "c", &["b"], true).await;
    say(&client, "a", "taint", "x").await;
    let back = async |to: &str| post(&client, &format!("checkpoints/{to}/rollback"), json!({"reason": "bad"})).await;
    let later = back(&second).await["cascade_id"].as_str().unwrap().to_owned();
    let earlier = back(&first).await["cascade_id"].as_str().unwrap().to_owned();
    assert_eq!(flags(&client).await, ["tainted", "tainted", "tainted"]);
    let valid = async |id: &str| get(&client, &format!("checkpoints/{id}")).await["is_valid"].clone();
    assert_eq!((valid(&first).await, valid(&second).await), (json!(true), json!(false)));
    let cascade = get(&client, &format!("cascades/{earlier}")).await;
    assert_eq!((&cascade["standing"], &cascade["invalidated"]), (&json!(3), &json!([second])), "{cascade}");
    let undone = post(&client, &format!("cascades/{earlier}/clear"), json!({})).await;
    assert_eq!((&undone["facts"], &undone["checkpoints"]), (&json!(3), &json!([second])), "{undone}");
    assert_eq!(flags(&client).await, ["tainted", "suspect", "tainted"]);
    assert_eq!(valid(&second).await, true);
    post(&client, &format!("cascades/{later}/clear"), json!({})).await;
    assert_eq!(flags(&client).await, ["tainted", "suspect", "suspect"]);
    post(&client, "cascades/x/clear", json!({})).await;
    assert_eq!(flags(&client).await, ["clean", "clean", "clean"]);
    assert_eq!(client.get(&format!("tasks/{open}")).await.json()["status"], "cancelled");
    assert_eq!(get(&client, &format!("checkpoints/{second}")).await["rolled_back_at"], Value::Null);
    // Going back once more is possible, and names them anew.
    assert_eq!(back(&first).await["counts"]["tainted"], 3);
}

#[tokio::test]
async fn what_is_no_cascade_is_refused() {
    let (_server, client) = served();
    make(&client, "a", &[], false).await;
    say(&client, "a", "suspect", "x").await;
    for (method, path, body, status, code) in [
        ("GET", "cascades/none", "", 404, "cascade_not_found"),
        ("POST", "cascades/none/clear", "{}", 404, "cascade_not_found"),
        ("POST", "cascades/none/clear", r#"{"dry_run": true}"#, 404, "cascade_not_found"),
        ("POST", "cascades/x/clear", r#"{"reason": " "}"#, 422, "validation_failed"),
        ("POST", "cascades/x/clear", r#"{"why": "x"}"#, 422, "validation_failed"),
        ("GET", "cascades/x?cursor=y", "", 422, "validation_failed"),
        ("GET", "cascades/x/affected", "", 422, "validation_failed"),
    ] {
        let answer = client.ask(method, path, &[("content-type", "application/json")], body).await.unwrap();
        described::check(method, path, &answer);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}: {answer:?}");
    }
    assert_eq!(flag(&client, "a").await, "suspect");
}
