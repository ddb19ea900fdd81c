//! A cascade that is taken back is gone as a whole, or stands as a whole, at
//! whatever moment the service is killed.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Client;
use crate::support::process::Setup;

const ROOTS: u64 = 12;

/// Records, each with one that was made of it, and a rollback behind which all of them are.
async fn work(client: &Client, round: u64) {
    for number in 0..ROOTS {
        for (artifact, inputs) in
            [(format!("root-{round}-{number}"), None), (format!("leaf-{round}-{number}"), Some(()))]
        {
            let options = json!({"tier": "small", "qa_profile": "none"});
            let task = client.submit(&json!({"description": "x", "project_id": "p", "options": options})).await;
            let inputs: Vec<String> = inputs.map(|()| format!("root-{round}-{number}")).into_iter().collect();
            let output = json!({
                "specversion": "1.0", "type": "dats.task.output.created", "source": "/w", "id": artifact,
                "data": {"task_id": task, "artifact_id": artifact, "inputs_consumed": inputs},
            });
            assert_eq!(client.post("events", &output).await.json()["outcome"], "applied");
        }
        let taint = json!({"reason": "bad", "cascade_id": format!("cascade-{round}")});
        let answer = client.post(&format!("provenance/root-{round}-{number}/taint"), &taint).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

async fn flags(client: &Client) -> (u64, u64) {
    let status = client.get("projects/p/status").await.json();
    (status["tainted"].as_u64().unwrap(), status["suspect"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_undo_is_whole_or_absent() {
    let setup = Setup::new();
    let mut server = setup.start();
    let (mut whole, mut absent) = (0, 0);
    for round in 0..8 {
        let client = Client::new(&server.address);
        work(&client, round).await;
        assert_eq!(flags(&client).await, (ROOTS, ROOTS), "round {round}");
        let (asked, path) = (client.clone(), format!("cascades/cascade-{round}/clear"));
        let undo = tokio::spawn(async move { asked.try_post(&path, &json!({}), &[]).await });
        // From before it comes to after its answer.
        tokio::time::sleep(Duration::from_micros(round * 1000)).await;
        server.kill();
        let acknowledged = undo.await.unwrap().is_ok_and(|answer| answer.status == 200);
        server = setup.start();
        let client = Client::new(&server.address);
        let now = flags(&client).await;
        assert!(now == (0, 0) || now == (ROOTS, ROOTS) && !acknowledged, "round {round}: {now:?}, {acknowledged}");
        let standing = client.get(&format!("cascades/cascade-{round}")).await.json()["standing"].as_u64().unwrap();
        assert_eq!(standing, now.0, "round {round}");
        whole += u32::from(now.0 == 0);
        absent += u32::from(now.0 > 0);
        client.post(&format!("cascades/cascade-{round}/clear"), &json!({})).await;
        assert_eq!(flags(&client).await, (0, 0), "round {round}");
    }
    println!("{whole} were whole, {absent} absent");
}
