//! Marks and clears made by hand survive an export and an import.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{export, import, outcomes, record};
use crate::support::client::Client;
use crate::support::process::{BINARY, Setup};
use crate::support::random::{Random, from_environment};

/// The flag of every record.
async fn flags(client: &Client) -> BTreeMap<String, String> {
    let records = export(client, "").await.into_iter().filter(|line| line.get("outputs").is_some());
    let flag = |record: &Value| match (&record["taint"]["is_tainted"], &record["taint"]["is_suspect"]) {
        (Value::Bool(true), _) => "tainted",
        (_, Value::Bool(true)) => "suspect",
        _ => "clean",
    };
    records.map(|record| (record["id"].as_str().unwrap().to_owned(), flag(&record).to_owned())).collect()
}

fn shuffle(random: &mut Random, lines: &mut [Value]) {
    for at in (1..lines.len()).rev() {
        lines.swap(at, random.index(at + 1));
    }
}

async fn say(client: &Client, what: &str, id: &str) {
    let said = client.post(&format!("provenance/{id}/{what}"), &json!({"reason": format!("{what} it")})).await;
    assert_eq!(said.status, 200, "{said:?}");
}

#[tokio::test]
async fn an_export_gives_the_same_flags_elsewhere_in_whatever_order_it_comes() {
    let first = from_environment("DATS_SEED", 1);
    let (mut words, mut cleared) = (0, 0);
    for seed in first..first + from_environment("DATS_ROUNDS", 3) {
        println!("DATS_SEED={seed} DATS_ROUNDS=1");
        let mut random = Random::new(seed);
        let (here, there) = (Setup::new(), Setup::new());
        let (here, there) = (here.start(), there.start());
        let (here, there) = (Client::new(&here.address), Client::new(&there.address));
        let name = |number: usize| format!("r{number:02}");
        let records: Vec<Value> = (0..40)
            .map(|number: usize| {
                let inputs: Vec<String> = (0..number.min(2)).map(|_| format!("a{}", random.index(number))).collect();
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                record(&name(number), u32::try_from(number).unwrap(), &inputs, &[&format!("a{number}")])
            })
            .collect();
        import(&here, &records).await;
        for _ in 0..40 {
            let what = ["taint", "suspect", "clear", "clear", "clear"][random.index(5)];
            say(&here, what, &name(random.index(40))).await;
            words += usize::from(what != "taint");
        }
        let expected = flags(&here).await;
        let exported = export(&here, "").await;
        let mut lines = exported.clone();
        shuffle(&mut random, &mut lines);
        let results = import(&there, &lines).await;
        assert!(outcomes(&results).iter().all(|outcome| *outcome == "created"), "{results:?}");
        assert_eq!(flags(&there).await, expected);
        let summary = &results.last().unwrap()["summary"];
        assert_eq!((&summary["newly_suspect"], &summary["no_longer_suspect"]), (&json!(0), &json!(0)));
        assert_eq!(export(&there, "").await.len(), exported.len());
        // Once more, in another order: nothing changes.
        shuffle(&mut random, &mut lines);
        assert!(outcomes(&import(&there, &lines).await).iter().all(|outcome| *outcome == "unchanged"));
        assert_eq!(flags(&there).await, expected);
        cleared += expected.values().filter(|flag| *flag == "clean").count();
    }
    assert!(words > 50 && cleared > 10, "{words} words, {cleared} clean records");
}

/// What is said here after an import is newer than what came with it.
#[tokio::test]
async fn an_import_that_comes_again_undoes_nothing() {
    let (here, there) = (Setup::new(), Setup::new());
    let (here, there) = (here.start(), there.start());
    let (here, there) = (Client::new(&here.address), Client::new(&there.address));
    import(&here, &[record("r1", 1, &[], &["a1"]), record("r2", 2, &["a1"], &["a2"]), record("r3", 3, &[], &["a3"])])
        .await;
    say(&here, "taint", "r1").await;
    say(&here, "clear", "r2").await;
    say(&here, "suspect", "r3").await;
    let exported = export(&here, "").await;
    import(&there, &exported).await;
    assert_eq!(flags(&there).await, flags(&here).await);
    assert_eq!(flags(&there).await.into_values().collect::<Vec<_>>(), ["tainted", "clean", "suspect"]);
    say(&there, "clear", "r1").await;
    say(&there, "taint", "r1").await;
    say(&there, "clear", "r3").await;
    let now = flags(&there).await;
    assert_eq!(now.clone().into_values().collect::<Vec<_>>(), ["tainted", "suspect", "clean"]);
    import(&there, &exported).await;
    assert_eq!(flags(&there).await, now);
}

/// A mark on what is suspect anyway changes no flag. It counts once the taint
/// above has gone, also where it was imported.
#[tokio::test]
async fn a_mark_on_a_suspect_is_told_of_too() {
    let (here, there) = (Setup::new(), Setup::new());
    let (here, there) = (here.start(), there.start());
    let (here, there) = (Client::new(&here.address), Client::new(&there.address));
    let records = [record("r1", 1, &[], &["a1"]), record("r2", 2, &["a1"], &["a2"]), record("r3", 3, &["a1"], &["a3"])];
    import(&here, &records).await;
    for (what, id) in [("taint", "r1"), ("suspect", "r2"), ("suspect", "r2")] {
        say(&here, what, id).await;
    }
    let told = here.get("taint-events?artifact_id=a2").await.json()["taint_events"].clone();
    let told = told.as_array().unwrap().iter().map(|event| (&event["action"], &event["cascade_depth"]));
    let suspect = json!("suspect");
    // Two cascades, each with an entry of its own, and what followed from the taint.
    let marked = (&suspect, &json!(0));
    assert_eq!(told.collect::<Vec<_>>(), [marked, marked, (&suspect, &json!(1))]);
    import(&there, &export(&here, "").await).await;
    for client in [&here, &there] {
        say(client, "clear", "r1").await;
        assert_eq!(flags(client).await.into_values().collect::<Vec<_>>(), ["clean", "suspect", "clean"]);
    }
}

/// What is said over HTTP is no event of the log; who follows learns of it all
/// the same, and before its look at everything each minute.
#[tokio::test]
async fn who_follows_learns_what_is_said() {
    let (here, folder) = (Setup::new(), tempfile::tempdir().unwrap());
    let here = here.start();
    let client = Client::new(&here.address);
    import(&client, &[record("r1", 1, &[], &["a1"]), record("r2", 2, &["a1"], &["a2"])]).await;
    let url = format!("http://{}", here.address);
    let mut following = std::process::Command::new(BINARY)
        .args(["export", "--follow", "--url", &url])
        .arg(folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = async |name: &str| {
        for _ in 0..300 {
            if folder.path().join(name).exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} is not there");
    };
    until("r2.json").await;
    // The first pass has ended, or sees it: either way it is told.
    say(&client, "taint", "r1").await;
    until("taint_events.json").await;
    following.kill().unwrap();
    following.wait().unwrap();
}
