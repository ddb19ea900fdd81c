//! Lines over HTTP: what is told of each.

use serde_json::{Value, json};

use super::{export, import, import_text, outcomes, record};
use crate::support::client::Client;
use crate::support::process::Setup;

fn tainted(mut record: Value) -> Value {
    record["taint"] = json!({
        "is_tainted": true, "tainted_at": "2026-01-10T00:00:00", "tainted_reason": "wrong", "tainted_by": "x",
        "is_suspect": false, "suspect_since": null, "suspect_source": "",
    });
    record["verification"]["status"] = json!("tainted");
    record
}

async fn flag(client: &Client, id: &str) -> Value {
    client.get(&format!("provenance/{id}")).await.json()["flag"].clone()
}

#[tokio::test]
async fn every_line_is_answered_and_the_good_ones_are_taken() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let giant = json!({"id": "giant", "task_id": "x".repeat(1 << 20)}).to_string();
    let [good, last] = [record("good", 1, &[], &["a"]), record("last", 2, &["a"], &[])];
    let text = format!("{good}\n\nno json\n{giant}\n{{\"id\": \"cut\", \"task\n[1]\n{{\"task_id\": \"t\"}}\n{last}");
    let results = import_text(&client, &text).await;
    let told: Vec<_> =
        results.iter().map(|it| (it["line"].as_u64(), it["id"].as_str(), it["reason"].as_str())).collect();
    assert_eq!(
        told,
        [
            (Some(1), Some("good"), None),
            (Some(3), None, Some("not_json")),
            (Some(4), None, Some("too_large")),
            (Some(5), None, Some("truncated")),
            (Some(6), None, Some("not_an_object")),
            (Some(7), None, Some("missing_id")),
            (Some(8), Some("last"), None),
            (None, None, None),
        ]
    );
    assert_eq!((&results[0]["outcome"], &results[6]["outcome"]), (&json!("created"), &json!("created")));
    assert_eq!(results[1]["offset"], 1);
    assert_eq!(
        results[7]["summary"],
        json!({
            "lines": 7, "created": 2, "updated": 0, "unchanged": 0, "refused": 5, "newly_suspect": 0,
            "no_longer_suspect": 0,
        })
    );
    assert_eq!(export(&client, "").await.len(), 2);
    let wrong = client.ask("POST", "provenance/import", &[("content-type", "application/json")], "{}").await.unwrap();
    assert_eq!((wrong.status, wrong.code().as_str()), (415, "unsupported_media_type"));
    let wrong = client.get("provenance/export?project=x").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (422, "validation_failed"));
}

#[tokio::test]
async fn ids_that_are_no_uuids_lead_to_their_records() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let odd = "old/récord 7";
    let results = import(&client, &[record(odd, 1, &[], &["art"]), record("two", 2, &["art"], &[])]).await;
    let derived = results[0]["provenance_id"].as_str().unwrap();
    let shown = client.get("provenance/old%2Fr%C3%A9cord%207").await.json();
    assert_eq!((&shown["id"], &shown["imported_as"]), (&json!(derived), &json!(odd)));
    assert_eq!(shown["task_id"], "task of old/récord 7");
    assert_eq!(client.get(&format!("provenance/{derived}")).await.json(), shown);
    assert_eq!(client.get("provenance/art").await.json(), shown);
    let dependents = client.get("provenance/old%2Fr%C3%A9cord%207/dependents").await.json();
    assert_eq!(dependents["total"], 1);
    // The task was never here, its records are.
    let missing = client.get("tasks/task%20of%20two").await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "task_not_found"));
    assert_eq!(missing.json()["records"], json!([results[1]["provenance_id"]]));
    let missing = client.get("tasks/task%20of%20two?wait=1").await;
    assert_eq!((missing.status, missing.json()["records"].as_array().unwrap().len()), (404, 1));
    assert_eq!(client.get("tasks/nothing").await.json()["records"], Value::Null);
    let listed = client.get("provenance?task_id=task%20of%20two").await.json();
    assert_eq!((&listed["total"], &listed["records"][0]["imported_as"]), (&json!(1), &json!("two")));
    let one = client.get("provenance/two/export?format=json").await.json();
    assert_eq!(one, record("two", 2, &["art"], &[]));
}

#[tokio::test]
async fn lists_are_in_the_order_of_time_over_pages() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let seconds = [5, 3, 9, 1, 9, 7, 2, 8];
    let numbered = seconds.iter().enumerate();
    let records: Vec<Value> = numbered.map(|(at, second)| record(&format!("r{at}"), *second, &[], &[])).collect();
    import(&client, &records).await;
    let (mut times, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("provenance?limit=3{cursor}")).await.json();
        assert_eq!(page["total"], 8);
        times.extend(page["records"].as_array().unwrap().iter().map(|record| record["created_at"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected = [9, 9, 8, 7, 5, 3, 2, 1].map(|second| json!(format!("2026-01-09T18:00:0{second}Z")));
    assert_eq!(times, expected);
    let between = "provenance?created_after=2026-01-09T18:00:03Z&created_before=2026-01-09T18:00:08Z";
    let page = client.get(between).await.json();
    let ids: Vec<_> =
        page["records"].as_array().unwrap().iter().map(|it| it["imported_as"].as_str().unwrap()).collect();
    assert_eq!((ids, &page["total"]), (vec!["r5", "r0", "r1"], &json!(3)));
    let none = client.get("provenance?created_after=2026-01-09T18:00:08Z&created_before=2026-01-09T18:00:03Z").await;
    assert_eq!(none.json()["records"], json!([]));
}

#[tokio::test]
async fn a_record_that_would_close_a_cycle_is_left_out() {
    let setup = Setup::new();
    let server = setup.start();
    let client = Client::new(&server.address);
    let records =
        [record("a", 1, &["c1"], &["a1"]), record("b", 1, &["a1"], &["b1"]), record("c", 1, &["b1"], &["c1"])];
    let results = import(&client, &records).await;
    assert_eq!(outcomes(&results), ["created", "created", "refused"]);
    let ids: Vec<&Value> = results[..2].iter().map(|it| &it["provenance_id"]).collect();
    let cycle = results[2]["cycle"].as_array().unwrap();
    assert_eq!((&results[2]["reason"], cycle.len(), cycle.first()), (&json!("cycle"), 4, cycle.last()));
    assert!(ids.iter().all(|id| cycle.contains(id)), "{cycle:?}");
    assert_eq!(client.get("provenance/c").await.status, 404);
    // One that is there stays as it was when its new form would close a cycle.
    let c = record("c", 1, &[], &["c1"]);
    assert_eq!(outcomes(&import(&client, std::slice::from_ref(&c)).await), ["created"]);
    assert_eq!(outcomes(&import(&client, &records).await), ["unchanged", "unchanged", "refused"]);
    assert_eq!(client.get("provenance/c/export?format=json").await.json(), c);
    let dependencies = client.get("provenance/b/dependencies").await.json();
    drop(server);
    let server = setup.start();
    let client = Client::new(&server.address);
    assert_eq!(client.get("provenance/b/dependencies").await.json(), dependencies);
    assert_eq!(dependencies["total"], 2);
}

#[tokio::test]
async fn taints_become_facts_and_suspicion_follows_from_them() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let bad = tainted(record("bad", 1, &[], &["x"]));
    let mut told = record("told", 2, &["x"], &["y"]);
    told["taint"] = json!({"is_tainted": false, "is_suspect": true});
    let mut wrongly = record("wrongly", 2, &[], &["z"]);
    wrongly["taint"] = json!({"is_tainted": false, "is_suspect": true});
    let new = record("new", 3, &["y"], &[]);
    let results = import(&client, &[new.clone(), wrongly.clone(), told.clone(), bad.clone()]).await;
    assert_eq!(results[3]["newly_suspect"], json!([results[0]["provenance_id"]]));
    let summary = &results[4]["summary"];
    assert_eq!((&summary["newly_suspect"], &summary["no_longer_suspect"]), (&json!(1), &json!(1)));
    for (id, expected) in [("bad", "tainted"), ("told", "suspect"), ("new", "suspect"), ("wrongly", "clean")] {
        assert_eq!(flag(&client, id).await, expected, "{id}");
    }
    let shown = client.get("provenance/bad").await.json();
    assert_eq!((&shown["tainted_at"], &shown["tainted_reason"]), (&json!("2026-01-10T00:00:00Z"), &json!("wrong")));
    assert_eq!(client.get("projects/old/status").await.json()["suspect"], 2);
    // The files have what changed by the rule, and nothing else.
    let exported = export(&client, "").await;
    let of = |id: &str| exported.iter().find(|it| it["id"] == *id).unwrap().clone();
    assert_eq!(
        (of("bad"), of("told")),
        (bad.clone(), {
            let mut told = told.clone();
            // The old program's word for what it was told.
            told["verification"]["status"] = of("told")["verification"]["status"].clone();
            told
        })
    );
    assert_eq!(
        (of("new")["taint"]["is_suspect"].clone(), of("wrongly")["taint"]["is_suspect"].clone()),
        (json!(true), json!(false))
    );
    assert_eq!(exported.len(), 4, "what an import found is no event of ours");
    let trail = client.get("taint-events?cascade_id=import").await.json();
    assert_eq!(trail["taint_events"].as_array().unwrap().len(), 3);
    // A file that says otherwise later withdraws what it said, and only that.
    let good = record("bad", 1, &[], &["x"]);
    let again = import(&client, std::slice::from_ref(&good)).await;
    assert_eq!(outcomes(&again), ["updated"]);
    assert_eq!((flag(&client, "bad").await, flag(&client, "new").await), (json!("clean"), json!("clean")));
    let asked = client.post("provenance/bad/taint", &json!({"reason": "ours"})).await;
    assert_eq!(asked.status, 200);
    let mut changed = good;
    changed["task_id"] = json!("another");
    assert_eq!(outcomes(&import(&client, &[changed]).await), ["updated"]);
    assert_eq!((flag(&client, "bad").await, flag(&client, "new").await), (json!("tainted"), json!("suspect")));
    assert_eq!(client.get("provenance?task_id=task%20of%20bad").await.json()["total"], 0);
    assert_eq!(client.get("provenance?task_id=another").await.json()["total"], 1);
    let json = client.get("provenance/bad/export?format=json").await.json();
    assert_eq!(
        (&json["taint"]["tainted_reason"], &json["verification"]["status"]),
        (&json!("ours"), &json!("tainted"))
    );
}

fn event(number: usize, record: &str) -> Value {
    json!({
        "id": format!("event {number}"), "timestamp": "2026-01-09T18:00:00.5", "artifact_id": format!("art {number}"),
        "provenance_id": record, "reason": "why", "source_artifact_id": "", "source_provenance_id": "",
        "cascade_depth": number, "cascade_id": format!("cascade {}", number % 2), "action": "suspect",
    })
}

#[tokio::test]
async fn taint_events_are_taken_once_and_listed_behind_our_own() {
    let setup = Setup::new();
    let server = setup.start();
    let client = Client::new(&server.address);
    let events: Vec<Value> = (0..5).map(|number| event(number, "r")).collect();
    import(&client, &[record("r", 1, &[], &["art 0"])]).await;
    assert_eq!(outcomes(&import(&client, &events).await), ["created"; 5]);
    let mut other = event(1, "r");
    other["reason"] = json!("another");
    let again = import(&client, &[event(0, "r"), other, event(5, "elsewhere"), event(5, "elsewhere")]).await;
    assert_eq!(outcomes(&again), ["unchanged", "refused", "created", "unchanged"]);
    assert_eq!(again[1]["reason"], "other_event");
    client.post("provenance/r/taint", &json!({"reason": "ours"})).await;
    drop(server);
    let server = setup.start();
    let client = Client::new(&server.address);
    let (mut reasons, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("taint-events?limit=2{cursor}")).await.json();
        let events = page["taint_events"].as_array().unwrap();
        reasons.extend(events.iter().map(|it| (it["reason"].clone(), it["cascade_depth"].clone())));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected = [("ours", 0), ("why", 5), ("why", 4), ("why", 3), ("why", 2), ("why", 1), ("why", 0)];
    assert_eq!(reasons, expected.map(|(reason, depth)| (json!(reason), json!(depth))));
    for (filter, count) in [
        ("cascade_id=cascade%201", 3),
        ("artifact_id=art%203", 1),
        ("provenance_id=r", 6),
        ("provenance_id=elsewhere", 1),
    ] {
        let found = client.get(&format!("taint-events?{filter}")).await.json();
        assert_eq!(found["taint_events"].as_array().unwrap().len(), count, "{filter}");
    }
    let exported = export(&client, "").await;
    assert_eq!((exported.len(), &exported[1..6]), (8, events.as_slice()));
    assert_eq!((&exported[7]["reason"], &exported[7]["action"]), (&json!("ours"), &json!("taint")));
    assert_eq!(export(&client, "?project_id=old").await.len(), 7);
    assert_eq!(export(&client, "?project_id=none").await.len(), 0);
}

/// What was made here goes out in the old form, and comes in elsewhere.
#[tokio::test]
async fn own_records_are_exported_and_known_again() {
    let (here, elsewhere) = (Setup::new().start(), Setup::new().start());
    let (here, elsewhere) = (Client::new(&here.address), (Client::new(&elsewhere.address), elsewhere, here));
    let (there, ..) = &elsewhere;
    let options = json!({"tier": "small", "domain": "analysis", "qa_profile": "none"});
    let task = here.submit(&json!({"description": "work", "project_id": "p", "options": options})).await;
    let leased = here.post("queues/small/lease", &json!({"worker_id": "w", "max": 1})).await;
    assert_eq!(leased.status, 200, "{leased:?}");
    let output = json!({
        "specversion": "1.0", "type": "dats.task.output.created", "source": "/worker", "id": "1",
        "data": {"task_id": task, "artifact_id": "made", "model_used": "m", "confidence": 0.1, "inputs_consumed": ["q"]},
    });
    assert_eq!(here.post("events", &output).await.status, 200);
    here.post("provenance/made/taint", &json!({"reason": "bad"})).await;
    assert_eq!(here.post("projects/p/checkpoints", &json!({"description": "here"})).await.status, 201);
    let exported = export(&here, "").await;
    assert_eq!(exported.len(), 3);
    assert_eq!((&exported[2]["trigger"], &exported[2]["is_valid"]), (&json!("manual"), &json!(true)));
    let (record, event) = (&exported[0], &exported[1]);
    assert_eq!((&record["task_id"], &record["tier"], &record["attempt"]), (&json!(task), &json!("small"), &json!(1)));
    assert_eq!((&record["taint"]["is_tainted"], &record["taint"]["tainted_reason"]), (&json!(true), &json!("bad")));
    assert_eq!((&event["provenance_id"], &event["action"]), (&record["id"], &json!("taint")));
    assert_eq!(outcomes(&import(&here, &exported).await), ["unchanged", "unchanged", "unchanged"]);
    assert_eq!(export(&here, "").await, exported);
    let mut other = record.clone();
    other["task_id"] = json!("another");
    let refused = import(&here, &[other]).await;
    assert_eq!((outcomes(&refused), &refused[0]["reason"]), (vec!["refused"], &json!("made_here")));
    assert_eq!(outcomes(&import(there, &exported).await), ["created", "created", "created"]);
    assert_eq!(export(there, "").await, exported);
    assert_eq!(there.get("provenance/made").await.json()["tier"], "small");
    assert_eq!(there.get(&format!("tasks/{task}")).await.json()["records"], json!([record["id"]]));
}
