//! Dead letters over HTTP: filters, and discarding one or many.

use std::time::Duration;

use serde_json::{Value, json};

use super::described;
use crate::support::client::Client;
use crate::support::process::{Server, Setup};

/// A server on which `count` verdicts of each kind have waited in vain.
async fn with_letters(count: usize) -> (Setup, Server, Client, String) {
    let setup = Setup::new().with("DATS__EVENTS__PARK_MINUTES", "0");
    let server = setup.start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "x", "options": {"tier": "small"}})).await;
    for number in 0..count {
        for (name, source) in [("task.validated", "/qa"), ("dats.task.rejected", "/other")] {
            let event = json!({"specversion": "1.0", "type": name, "source": source, "id": format!("{name} {number}"),
                "data": {"task_id": task, "artifact_id": format!("a{number}"), "score": 1, "issues": ["i"]}});
            assert_eq!(client.post("events", &event).await.json()["outcome"], "parked");
        }
        // More than eight would give up the oldest of them for another reason.
        wait_for(&client, 2 * (number + 1)).await;
    }
    (setup, server, client, task)
}

async fn wait_for(client: &Client, count: usize) {
    for _ in 0..1000 {
        if ids(client, "").await.len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there are not {count} dead letters");
}

async fn ids(client: &Client, query: &str) -> Vec<u64> {
    let path = format!("dead-letters?limit=1000&{query}");
    let answer = client.get(&path).await;
    described::check("GET", &path, &answer);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["dead_letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_u64().unwrap()).collect()
}

async fn discard(client: &Client, path: &str) -> (u16, Value) {
    let answer = client.ask("DELETE", path, &[], "").await.unwrap();
    described::check("DELETE", path, &answer);
    let told = if answer.body.is_empty() { Value::Null } else { answer.json() };
    (answer.status, told)
}

async fn metric(client: &Client, name: &str) -> String {
    let text = client.ask("GET", "metrics", &[], "").await.unwrap();
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let (_setup, _server, client, task) = with_letters(2).await;
    let all = ids(&client, "").await;
    assert_eq!(all.len(), 4);
    for (query, count) in [
        ("type=task.validated", 2),
        ("type=dats.task.validated", 2),
        ("type=task.rejected&source=/other", 2),
        ("type=task.rejected&source=/qa", 0),
        ("source=/qa", 2),
        ("reason=BEFORE%20its%20output", 4),
        ("reason=no%20such%20reason", 0),
        (&format!("task_id={task}"), 4),
        ("task_id=01890a5d-ac96-774b-bcce-b302099a8057", 0),
        ("older_than_seconds=3600", 0),
        ("older_than_seconds=0", 4),
        ("created_after=2000-01-01T00:00:00Z", 4),
        ("created_before=2000-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(ids(&client, query).await.len(), count, "{query}");
    }
    // Pages of one go through the same letters, and a cursor belongs to its filter.
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("dead-letters?source=/qa&older_than_seconds=0&limit=1{cursor}");
        let page = client.get(&path).await.json();
        let letters = page["dead_letters"].as_array().unwrap();
        seen.extend(letters.iter().map(|letter| letter["id"].as_u64().unwrap()));
        assert!(letters.iter().all(|letter| letter["source"] == "/qa" && letter["type"] == "task.validated"));
        let Some(next) = page["next_cursor"].as_str() else { break };
        assert_eq!(client.get(&format!("dead-letters?cursor={next}")).await.status, 422);
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ids(&client, "source=/qa").await);
    assert_eq!(client.get("dead-letters?sauce=x").await.status, 422);
}

#[tokio::test]
async fn one_or_many_are_discarded_for_good() {
    let (setup, server, client, _) = with_letters(3).await;
    let newest = ids(&client, "").await[0];
    assert_eq!(discard(&client, &format!("dead-letters/{newest}")).await, (204, Value::Null));
    let (status, gone) = discard(&client, &format!("dead-letters/{newest}")).await;
    assert_eq!((status, &gone["code"]), (404, &json!("dead_letter_not_found")));
    assert_eq!(client.get(&format!("dead-letters/{newest}")).await.status, 404);
    let requeued = client.post(&format!("dead-letters/{newest}/requeue"), &json!({})).await;
    assert_eq!(requeued.status, 404);
    let (status, refused) = discard(&client, "dead-letters").await;
    assert_eq!((status, &refused["errors"][0]["pointer"]), (422, &json!("all")));
    assert_eq!(discard(&client, "dead-letters?all=true&source=/qa").await.0, 422);
    assert_eq!(discard(&client, "dead-letters?source=/qa").await, (200, json!({"discarded": 3})));
    assert_eq!(ids(&client, "").await.len(), 2);
    assert_eq!(metric(&client, "dats_dead_letters_ended_total{end=\"discarded\"}").await, "4");
    assert_eq!(metric(&client, "dats_dead_letters ").await, "2");
    drop(server);
    let server = setup.start();
    let client = Client::new(&server.address);
    assert_eq!(ids(&client, "").await.len(), 2);
    assert_eq!(discard(&client, "dead-letters?all=true").await, (200, json!({"discarded": 2})));
    assert_eq!(metric(&client, "dats_dead_letter_bytes ").await, "0");
}

/// What is gone is told for as long as the log is kept, and no number is given twice.
#[tokio::test]
async fn the_trail_of_dead_letters_tells_what_has_become_of_each() {
    let (setup, server, client, task) = with_letters(2).await;
    let all = ids(&client, "").await;
    assert_eq!(
        client
            .post(
                "events",
                &json!({
                    "specversion": "1.0", "type": "task.output.created", "source": "/w", "id": "out",
                    "data": {"task_id": task, "artifact_id": "a0"},
                })
            )
            .await
            .status,
        200
    );
    let requeued = all[3];
    let outcome = client.post(&format!("dead-letters/{requeued}/requeue"), &json!({})).await;
    assert_eq!(outcome.status, 200, "{outcome:?}");
    assert_eq!(discard(&client, &format!("dead-letters/{}", all[2])).await.0, 204);
    assert_eq!(discard(&client, "dead-letters?all=true").await, (200, json!({"discarded": 2})));
    let trail = async |client: &Client, path: &str| {
        let answer = client.get(path).await;
        described::check("GET", path, &answer);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let before = trail(&client, "dead-letters/removals").await;
    let told: Vec<(&str, u64)> = before["removals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| (each["end"].as_str().unwrap(), each["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("discarded", 2), ("discarded", 1), ("requeued", 1)]);
    assert_eq!(before["removals"][2]["dead_letters"], json!([{"first": requeued, "last": requeued}]));
    let page = trail(&client, "dead-letters/removals?limit=1").await;
    let path = format!("dead-letters/removals?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    let rest = trail(&client, &path).await;
    assert_eq!((&rest["removals"][1], &rest["next_cursor"]), (&before["removals"][2], &Value::Null));
    // All of it is durable, and so is the last number that was given.
    drop(server);
    let server = setup.start();
    let client = Client::new(&server.address);
    assert_eq!(trail(&client, "dead-letters/removals").await, before);
    let task = client.submit(&json!({"description": "x", "options": {"tier": "small"}})).await;
    let event = json!({"specversion": "1.0", "type": "task.validated", "source": "/qa", "id": "after the start",
        "data": {"task_id": task, "artifact_id": "never made", "score": 1}});
    client.post("events", &event).await;
    wait_for(&client, 1).await;
    assert!(ids(&client, "").await[0] > all[0], "a number is given twice");
}
