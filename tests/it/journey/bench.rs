//! `dats bench`: that it measures, says what, and leaves nothing behind. How fast
//! anything is on the machine of the tests is none of their business.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::fails;
use crate::support::client::Client;
use crate::support::process::{BINARY, Ran, Setup, run, run_in};

const SHORT: [&str; 7] = ["bench", "--seconds", "1", "--rate", "40", "--connections", "4"];

fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SHORT.iter().chain(more).copied().collect()
}

/// What it measured; how fast that was decides between two codes.
fn report(ran: &Ran) -> Value {
    let report: Value = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("no JSON, {error}: {}{}", ran.stdout, ran.stderr));
    assert_eq!(ran.code, i32::from(report["holds"] != true), "{report}");
    assert_eq!((&report["version"], &report["settings"]["seconds"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(1)));
    assert!(report["cores"].as_u64().unwrap() >= 1, "{report}");
    let names: Vec<_> =
        report["criteria"].as_array().unwrap().iter().map(|each| each["name"].as_str().unwrap()).collect();
    let expected = [
        "task submission, P95",
        "status query, P95",
        "lost tasks",
        "provenance query, slowest P95",
        "event to visible effect, worst",
    ];
    assert_eq!(names, expected);
    for what in ["submissions", "status_queries"] {
        assert_eq!((&report[what]["count"], &report[what]["failed"]), (&json!(40), &json!(0)), "{report}");
        assert!(report[what]["p95_ms"].as_f64().unwrap() > 0.0, "{report}");
    }
    assert_eq!((&report["tasks"]["lost"], &report["criteria"][2]["verdict"]), (&json!(0), &json!("holds")), "{report}");
    report
}

fn is_empty(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}

/// Processes of the binary with this text among their arguments.
fn processes_with(text: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let arguments = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    arguments.filter(|arguments| String::from_utf8_lossy(arguments).contains(text)).count()
}

#[test]
fn a_bench_of_its_own_server_loses_nothing_and_leaves_nothing() {
    let temporary = TempDir::new().unwrap();
    let place = temporary.path().to_str().unwrap();
    let foreign = [
        ("TMPDIR", place),
        // Nothing that is configured for others may reach its server.
        ("DATABASE_URL", "postgresql://127.0.0.1:1/none"),
        ("DATS__SERVER__LISTN", "unknown"),
    ];
    let ran = run_in(&foreign, &words(&["--records", "300", "--output", "json"]));
    let report = report(&ran);
    assert_eq!((&report["server"]["is_private"], &report["left_behind"]), (&json!(true), &Value::Null));
    let tasks = &report["tasks"];
    let killed = tasks["killed"]["acknowledged_before"].as_u64().unwrap();
    assert_eq!(tasks["acknowledged"], json!(1 + 40 + killed), "{report}");
    let (acknowledged, unanswered) = (tasks["acknowledged"].as_u64().unwrap(), tasks["unanswered"].as_u64().unwrap());
    assert!((acknowledged..=acknowledged + unanswered).contains(&tasks["counted"].as_u64().unwrap()), "{report}");
    let provenance = &report["provenance"];
    assert_eq!((&provenance["records"], &provenance["import"]["created"]), (&json!(300), &json!(300)), "{report}");
    let questions = provenance["questions"].as_array().unwrap();
    assert_eq!(questions.len(), 7);
    for question in questions {
        assert_eq!((&question["count"], &question["failed"]), (&json!(40), &json!(0)), "{question}");
    }
    let events = &report["events"]["figures"];
    assert!(events["count"].as_u64().unwrap() >= 2 && events["failed"] == 0, "{report}");
    assert!(is_empty(temporary.path()));
    assert_eq!(processes_with(place), 0);
}

#[test]
fn a_stopped_bench_takes_its_server_with_it() {
    let temporary = TempDir::new().unwrap();
    let place = temporary.path().to_str().unwrap();
    let mut bench = Command::new(BINARY)
        .args(["bench", "--seconds", "600", "--rate", "10"])
        .env_clear()
        .env("TMPDIR", place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..1000 {
        if processes_with(place) == 1 && !is_empty(temporary.path()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(processes_with(place), 1);
    let stopped = Command::new("kill").args(["-INT", &bench.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert_eq!(bench.wait().unwrap().code(), Some(130));
    assert_eq!(processes_with(place), 0);
    assert!(is_empty(temporary.path()));
}

#[tokio::test]
async fn a_bench_of_a_running_server_says_what_it_leaves() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let other = client.submit(&json!({"description": "not of the bench", "options": {"tier": "tiny"}})).await;
    let ran = run(&server.address, &[], &words(&["--output", "json"]));
    let report = report(&ran);
    assert_eq!((&report["server"]["is_private"], &report["provenance"]), (&json!(false), &Value::Null));
    assert_eq!(report["criteria"][3]["verdict"], "not_measured");
    assert!(report["criteria"][3]["note"].as_str().unwrap().contains("--records"), "{report}");
    assert!(report["events"]["figures"]["count"].as_u64().unwrap() >= 2, "{report}");
    assert!(ran.stderr.contains("works on http://") && ran.stderr.contains("projects bench-"), "{}", ran.stderr);
    assert!(report["left_behind"].as_str().unwrap().contains("archived projects bench-"), "{report}");
    // Nothing of it is open, and what was there before is as it was.
    let open = client.get("tasks?status=pending,running").await.json();
    assert_eq!((&open["total"], &open["tasks"][0]["task_id"]), (&json!(1), &json!(other)), "{open}");
    assert_eq!(open["tasks"][0]["phase"], "queued", "{open}");

    let table = run(&server.address, &[], &words(&["--records", "20"]));
    assert!(table.code == 0 || table.stdout.contains("MISSED"), "{}{}", table.stdout, table.stderr);
    for told in ["CRITERION", "lost tasks", "0 of 41", "dependents of the first", "20 records"] {
        assert!(table.stdout.contains(told), "{told} in\n{}", table.stdout);
    }
}

#[test]
fn what_can_not_be_benched_is_told() {
    let told = fails("127.0.0.1:1", 3, &SHORT);
    assert!(told.contains("can't reach http://127.0.0.1:1"), "{told}");
    for (flag, value, says) in [
        ("--seconds", "0", "0 is not in 1..=3600"),
        ("--connections", "2000", "2000 is not in 1..=1024"),
        ("--rate", "fast", "invalid value 'fast'"),
        ("--records", "9", "expected 0, or a number from 10 to 1000000"),
    ] {
        let told = fails("127.0.0.1:1", 2, &["bench", flag, value]);
        assert!(told.contains(says), "{flag} {value}: {told}");
    }
    let told = fails("not an address", 2, &SHORT);
    assert!(told.contains("is not an address"), "{told}");
}
