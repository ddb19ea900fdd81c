//! The wall clock at a start: a store whose last commit lies in the future is
//! refused, unless an operator says that the clock is right. And no expiry is
//! kept as a calendar time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dats::clock::Clock;
use dats::store::{Batch, ClockUpdate, Error, Store};
use dats::task::{Now, Timestamp};

use crate::support::client::Client;
use crate::support::fixtures::CACHE_BYTES;
use crate::support::process::{Setup, run_in};

/// Makes a commit at which the wall clock shows this.
fn commit_at(data: &Path, wall: Timestamp, look: ClockUpdate) {
    let store = Store::open(data, CACHE_BYTES).unwrap();
    let observed = store.view().unwrap().clocks().unwrap().last.observed;
    let mut batch = Batch::default();
    batch.keep_clocks(look);
    batch.commit(&store, Now { observed, wall }).unwrap();
}

#[tokio::test]
async fn a_last_commit_in_the_future_is_refused_unless_the_clock_is_accepted() {
    let setup = Setup::new();
    let submitted = {
        let mut server = setup.start();
        let client = Client::new(&server.address);
        let body = serde_json::json!({"description": "waits"});
        let submitted = client.post("tasks", &body).await.json();
        server.kill();
        submitted
    };
    let future = Clock::new().wall().after(Duration::from_hours(24));
    commit_at(&setup.data_dir(), future, ClockUpdate::Accepted);
    for _ in 0..2 {
        let ended = setup.try_start().err().expect("to be refused");
        assert_eq!(ended.status.code(), Some(4), "{}", ended.stderr);
        let refusal = ended.stderr.lines().last().unwrap();
        let today = Clock::new().wall().to_string();
        for part in [&future.to_string(), &today[..10], "--accept-clock"] {
            assert!(refusal.contains(part), "{part} is not in {refusal}");
        }
    }
    let data = setup.data_dir().display().to_string();
    let pruned = run_in(&[], &["prune", "--older-than", "1d", "--data-dir", &data]);
    assert_eq!(pruned.code, 4, "{}", pruned.stderr);
    // Once accepted it needs no flag any more.
    for setup in [setup.clone().flag("--accept-clock"), setup.clone()] {
        let mut server = setup.start();
        let client = Client::new(&server.address);
        let path = format!("tasks/{}", submitted["task_id"].as_str().unwrap());
        let task = client.get(&path).await.json();
        assert_eq!(task["created_at"], submitted["created_at"]);
        server.kill();
    }
    assert!(setup.log().contains("wall clock accepted"));
}

#[test]
fn five_minutes_are_within_reason_and_a_run_without_a_commit_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let check = |now| Store::open(dir.path(), CACHE_BYTES).unwrap().check_clock(now);
    check(now).expect("a new store has no last commit");
    commit_at(dir.path(), now, ClockUpdate::Accepted);
    check(now).unwrap();
    check(now.before(Duration::from_mins(5))).unwrap();
    let early = now.before(Duration::from_mins(5)).before(Duration::from_micros(1));
    match check(early) {
        Err(Error::ClockBehind { last_commit, now: shown }) => assert_eq!((last_commit, shown), (now, early)),
        other => panic!("{other:?}"),
    }
    // The service ran with a wrong clock, and nothing happened.
    commit_at(dir.path(), now.after(Duration::from_hours(9000)), ClockUpdate::Idle);
    check(now).unwrap();
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Fields that are calendar times by their meaning: what people see, and what a
/// client has asked for.
const CALENDAR: [(&str, &str); 6] = [
    ("store/view/provenance.rs", "until: Option<Timestamp>"),
    ("task/state.rs", "until: Timestamp"),
    ("task/change.rs", "until: Timestamp"),
    ("engine/api/work.rs", "until: Timestamp"),
    ("engine/api/work.rs", "deadline: Timestamp"),
    ("amqp/broker.rs", "since: Timestamp"),
];

/// The types keep observed time and the wall clock apart; this keeps a new
/// expiry from being given the wrong one.
#[test]
fn no_expiry_is_a_calendar_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for module in ["task", "engine", "wire", "store", "amqp", "routing", "http"] {
        sources(&root.join(module), &mut files);
    }
    let words = ["until", "deadline", "since", "due", "expires", "expiry", "queued_since", "not_before", "swept_at"];
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        // Frozen copies of old rows are what they were.
        if name.starts_with("store/upgrade") {
            continue;
        }
        for line in fs::read_to_string(&file).unwrap().lines() {
            for kind in ["Timestamp", "Option<Timestamp>"] {
                for word in words {
                    let field = format!("{word}: {kind}");
                    let is_field = line.contains(&format!(" {field}")) || line.contains(&format!("({field}"));
                    // The option of a submission is a calendar time.
                    let is_asked =
                        word == "not_before" && ["task/request.rs", "http/api/tasks/submission.rs"].contains(&&*name);
                    if is_field && !is_asked && !CALENDAR.contains(&(&name, &field)) {
                        wrong.push(format!("{name}: {}", line.trim()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "expiries count observed time, as a `Moment`: {wrong:#?}");
}
