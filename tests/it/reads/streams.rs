//! Streams: resumed after every position they give exactly the rest, and a
//! stream that follows gets exactly its own events, however slowly it reads.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::event;
use crate::support::client::Client;
use crate::support::process::Setup;

/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which nothing more is expected.
const SILENCE: Duration = Duration::from_millis(300);

/// An event of a stream: its id, its name, its data.
type Told = (u64, String, Value);

/// A stream that is read.
struct Reader {
    stream: TcpStream,
    text: Vec<u8>,
}

impl Reader {
    async fn open(client: &Client, path: &str, last_event_id: Option<u64>) -> Self {
        let mut stream = client.connect().await;
        let resume = last_event_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request = format!("GET /api/v1/{path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{resume}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, text: Vec::new() }
    }

    /// Reads a piece; `false`: the stream has ended, or is silent.
    async fn read(&mut self, wait: Duration) -> bool {
        let mut piece = vec![0; 1 << 16];
        let count = timeout(wait, self.stream.read(&mut piece)).await.map_or(0, Result::unwrap);
        self.text.extend_from_slice(&piece[..count]);
        count > 0
    }

    /// What came so far.
    fn told(&self) -> Vec<Told> {
        let text = unchunked(&self.text);
        // The last one may not be there as a whole.
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        whole.split("\n\n").filter_map(parsed).collect()
    }

    /// Reads `count` events, and makes sure that no more come.
    async fn exactly(&mut self, count: usize) -> Vec<Told> {
        // Looked at only when nothing comes: that takes time, and a slow reader is cut off.
        while self.read(SILENCE).await {}
        // Heartbeats come for ever.
        let deadline = Instant::now() + PATIENCE;
        while self.told().len() < count && Instant::now() < deadline && self.read(PATIENCE).await {
            while self.read(SILENCE).await {}
        }
        self.told()
    }
}

/// The body of an answer in chunks.
fn unchunked(bytes: &[u8]) -> String {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let (mut rest, mut body) = (&bytes[head..], Vec::new());
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let chunk = &rest[end + 2..];
        if chunk.len() < size + 2 {
            body.extend_from_slice(&chunk[..chunk.len().min(size)]);
            break;
        }
        body.extend_from_slice(&chunk[..size]);
        rest = &chunk[size + 2..];
    }
    String::from_utf8_lossy(&body).into_owned()
}

fn parsed(event: &str) -> Option<Told> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some((field("id")?.parse().unwrap(), field("event")?.to_owned(), serde_json::from_str(field("data")?).unwrap()))
}

/// A task from its submission to its end, by `make`; its id.
async fn life(client: &Client, project: &str, artifact: &str) -> String {
    let body = json!({
        "description": artifact, "project_id": project, "options": {"tier": "small", "qa_profile": "none"},
    });
    let task = client.submit(&body).await;
    let data =
        json!({"task_id": task, "artifact_id": artifact, "output": {"artifacts": [{"id": artifact, "type": "code"}]}});
    let answer = client.post("events", &event(&format!("{artifact} made"), "task.output.created", &data)).await;
    assert_eq!(answer.json()["outcome"], "applied", "{answer:?}");
    task
}

#[tokio::test]
async fn a_stream_goes_on_after_every_position() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let task = life(&client, "p", "a").await;
    life(&client, "q", "b").await;
    let head = client.get("events?limit=1000").await.json()["read_to"].as_u64().unwrap();
    let of_task = format!("tasks/{task}/stream");
    let filtered = [
        "events".to_owned(),
        format!("events?task_id={task}"),
        "events?project_id=q".to_owned(),
        "events?types=task.created,task.output.created".to_owned(),
        of_task.clone(),
    ];
    for path in &filtered {
        let whole = Reader::open(&client, path, Some(0)).await.exactly(1).await;
        assert!(whole.len() > 1, "{path}: {whole:?}");
        let mut resumed = JoinSet::new();
        for position in 0..=head {
            let expected: Vec<Told> = whole.iter().filter(|(id, ..)| *id > position).cloned().collect();
            resumed.spawn(goes_on(client.clone(), path.clone(), position, expected));
        }
        resumed.join_all().await;
    }
}

/// A stream that goes on after a position gives exactly what is expected.
async fn goes_on(client: Client, path: String, position: u64, expected: Vec<Told>) {
    let told = Reader::open(&client, &path, Some(position)).await.exactly(expected.len()).await;
    assert_eq!(told, expected, "{path} after {position}");
    // A query says the same, where there is no header.
    if path.starts_with("events") && expected.len() < 100 {
        let asked = super::with(&path, &format!("after={position}"));
        let told = Reader::open(&client, &asked, None).await.exactly(expected.len()).await;
        assert_eq!(told, expected, "{asked}");
    }
}

/// More events than a stream takes at once, many of each commit: positions lie within
/// a commit, too.
#[tokio::test]
async fn a_long_stream_goes_on_after_every_position() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let wanted = json!({"description": "x", "project_id": "p", "options": {"tier": "tiny"}});
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let batch = client.post("tasks/batch", &json!({"tasks": vec![&wanted; 60]})).await.json();
        let ids = batch["results"].as_array().unwrap().iter().map(|each| each["task"]["task_id"].clone());
        tasks.extend(ids.map(|id| id.as_str().unwrap().to_owned()));
    }
    let busy = &tasks[0];
    client.post(&format!("tasks/{busy}/cancel"), &json!({})).await;
    for commit in 0..3 {
        let late =
            |number| event(&format!("{commit} {number}"), "task.failed", &json!({"task_id": busy, "error": "e"}));
        let late: Vec<Value> = (0..100).map(late).collect();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let answer = client.ask("POST", "events", &headers, Value::from(late).to_string()).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for path in ["events".to_owned(), format!("tasks/{busy}/stream")] {
        let whole = Reader::open(&client, &path, Some(0)).await.exactly(300).await;
        assert!(whole.len() > 300, "{path}: {} events", whole.len());
        let ids: Vec<u64> = whole.iter().map(|(id, ..)| *id).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{path}: {ids:?}");
        // Behind each event, and between those that this stream does not tell.
        for positions in (0..=whole.len()).collect::<Vec<_>>().chunks(64) {
            let mut resumed = JoinSet::new();
            for at in positions {
                let position = at.checked_sub(1).map_or(0, |before| ids[before]);
                resumed.spawn(goes_on(client.clone(), path.clone(), position, whole[*at..].to_vec()));
            }
            resumed.join_all().await;
        }
    }
}

#[tokio::test]
async fn a_page_of_events_goes_on_after_every_position() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    life(&client, "p", "a").await;
    let all = client.get("events?limit=1000").await.json();
    let all = all["events"].as_array().unwrap();
    let head = all.last().unwrap()["seq"].as_u64().unwrap();
    for position in 0..=head {
        let expected: Vec<&Value> = all.iter().filter(|each| each["seq"].as_u64().unwrap() > position).collect();
        for limit in 1..=all.len() {
            let page = client.get(&format!("events?after={position}&limit={limit}")).await.json();
            let told: Vec<&Value> = page["events"].as_array().unwrap().iter().collect();
            assert_eq!(told, expected[..limit.min(expected.len())], "after {position}, limit {limit}");
        }
    }
}

#[tokio::test]
async fn those_who_follow_get_their_own_events_and_no_other() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "x", "project_id": "p", "options": {"tier": "tiny"}})).await;
    let head = client.get("events?limit=1000").await.json()["read_to"].as_u64().unwrap();
    let paths = [
        "events".to_owned(),
        "events?project_id=q".to_owned(),
        format!("events?task_id={task}"),
        format!("events?task_id={task}&types=task.cancelled"),
        "events?types=task.created".to_owned(),
        format!("events?task_id={task}&project_id=other"),
    ];
    let mut readers = Vec::new();
    for path in paths {
        readers.push((Reader::open(&client, &path, None).await, path));
    }
    sleep(SILENCE).await;
    // Streams come and go while events are told to others.
    let mut passing = Vec::new();
    for number in 0..30 {
        passing.push(Reader::open(&client, "events?project_id=q", Some(0)).await);
        life(&client, if number % 3 == 0 { "q" } else { "p" }, &format!("a{number}")).await;
        if number % 2 == 0 {
            passing.remove(0);
        }
    }
    client.post(&format!("tasks/{task}/cancel"), &json!({})).await;
    for (mut reader, path) in readers {
        let asked = super::with(&path, &format!("after={head}&limit=1000"));
        let page = client.get(&asked).await.json();
        let expected: Vec<(u64, Value)> = page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["seq"].as_u64().unwrap(), item["event"].clone()))
            .collect();
        let told = reader.exactly(expected.len()).await;
        assert_eq!(told.into_iter().map(|(id, _, data)| (id, data)).collect::<Vec<_>>(), expected, "{path}");
    }
    for mut reader in passing {
        let told = reader.exactly(40).await;
        let ids: Vec<u64> = told.iter().map(|(id, ..)| *id).collect();
        assert!(ids.len() >= 30 && ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_misses_nothing() {
    let server = Setup::new().start();
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "x", "project_id": "p", "options": {"tier": "tiny"}})).await;
    client.post(&format!("tasks/{task}/cancel"), &json!({})).await;
    let mut slow = [
        Reader::open(&client, &format!("events?task_id={task}&types=task.failed"), None).await,
        Reader::open(&client, "events?types=task.failed", None).await,
    ];
    sleep(SILENCE).await;
    // More than is kept for streams and than the system holds for a connection.
    let text = "e".repeat(500_000);
    for number in 0..40 {
        let failure = json!({"task_id": task, "error": text});
        let answer = client.post("events", &event(&number.to_string(), "task.failed", &failure)).await;
        assert_eq!(answer.json()["outcome"], "stale", "{answer:?}");
    }
    for reader in &mut slow {
        let told = reader.exactly(40).await;
        let numbers: Vec<&str> = told.iter().map(|(_, _, data)| data["id"].as_str().unwrap()).collect();
        assert_eq!(numbers, (0..40).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_pages_are_not() {
    let server = Setup::new().with("DATS__SERVER__MAX_STREAMS", "2").start();
    let client = Client::new(&server.address);
    let held = [Reader::open(&client, "events", None).await, Reader::open(&client, "events", None).await];
    sleep(SILENCE).await;
    let ask = b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";
    let refused = client.raw(ask, SILENCE).await;
    assert!(refused.contains(" 503 ") && refused.contains("server.max_streams"), "{refused}");
    assert_eq!(client.get("events").await.status, 200);
    drop(held);
    sleep(SILENCE).await;
    let answer = client.raw(ask, SILENCE).await;
    assert!(answer.contains(" 200 "), "{answer}");
}
