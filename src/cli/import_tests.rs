//! Import and export against the fake server.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::exit::Failure;
use super::export::{self, export};
use super::import::{Report, import};
use super::local::StoreArguments;
use super::output::{Format, Screen};
use super::session::Session;
use crate::client::Client;
use crate::client::LineBody;
use crate::client::fake_server::serve;
use crate::legacy::Folder;

fn id(number: usize) -> String {
    format!("0d5fa5a4-3b6e-4d2c-9a7e-{number:012}")
}

fn record(number: usize) -> Value {
    json!({"id": id(number), "task_id": format!("task {number}"), "outputs": [], "confidence": 0.1})
}

fn event(number: usize) -> Value {
    json!({"id": format!("event-{number}"), "action": "taint", "cascade_id": "c", "artifact_id": "a"})
}

/// Creates a folder with this number of records.
fn folder_of(records: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..records {
        let text = serde_json::to_string_pretty(&record(number)).unwrap();
        fs::write(folder.path().join(format!("{}.json", id(number))), text).unwrap();
    }
    folder
}

fn result(number: u64, line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    let id = line["id"].as_str().unwrap();
    match id {
        "event-1" => json!({"line": number, "kind": "taint_event", "id": id, "outcome": "refused", "reason": "other_event", "message": "no"}),
        _ if id.ends_with("00002") => json!({
            "line": number, "kind": "record", "id": id, "outcome": "refused", "reason": "cycle", "message": "it would close a cycle",
            "cycle": ["x", id, "x"],
        }),
        _ => json!({"line": number, "kind": "record", "id": id, "outcome": "created"}),
    }
    .to_string()
        + "\n"
}

fn results(body: &str) -> String {
    let lines: String = (1_u64..).zip(body.lines()).map(|(number, line)| result(number, line)).collect();
    let created = lines.matches("created").count();
    lines + &json!({"summary": {"created": created, "refused": 2, "newly_suspect": 3}}).to_string()
}

async fn import_into(address: &str, folder: &Path) -> Result<Report, Failure> {
    let client = Client::new(address, None).unwrap();
    let transport = async |chunks| Ok(client.exchange_lines("/provenance/import", chunks).await?);
    import(Folder::open(folder).unwrap(), ProgressBar::hidden(), transport).await
}

#[tokio::test]
async fn valid_entries_are_sent_and_invalid_ones_reported() {
    let asked = Arc::new(Mutex::new(String::new()));
    let address = serve({
        let asked = Arc::clone(&asked);
        move |request| {
            assert_eq!(request.header("content-type"), "application/x-ndjson");
            asked.lock().unwrap().clone_from(&request.body);
            (200, results(&request.body))
        }
    })
    .await;
    let folder = folder_of(4);
    fs::write(folder.path().join("a.json"), "").unwrap();
    fs::write(folder.path().join("b.json"), "{\"id\": 7}").unwrap();
    let events = serde_json::to_string_pretty(&json!([event(0), event(1), {"id": "e"}])).unwrap();
    fs::write(folder.path().join("taint_events.json"), &events).unwrap();
    let report = import_into(&address, folder.path()).await.unwrap();

    let sent = asked.lock().unwrap().clone();
    let expected: Vec<Value> = (0..4).map(record).chain([event(0), event(1)]).collect();
    let lines: Vec<Value> = sent.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, expected);
    let place = |text: &str| u64::try_from(events.find(text).unwrap()).unwrap();
    // The offset of an event is that of its brace in the list.
    let second = u64::try_from(events[..events.find("event-1").unwrap()].rfind('{').unwrap()).unwrap();
    let bad: Vec<_> = report.bad.iter().map(|bad| (bad.file.as_str(), bad.offset, bad.reason.as_str())).collect();
    assert_eq!(
        bad,
        [
            ("a.json", 0, "empty"),
            ("b.json", 7, "bad_value"),
            ("taint_events.json", place("\"e\""), "bad_value"),
            (format!("{}.json", id(2)).as_str(), 0, "cycle"),
            ("taint_events.json", second, "other_event"),
        ]
    );
    let summary = report.summary;
    assert_eq!((summary.files, summary.created, summary.refused, summary.unreadable), (7, 4, 2, 3));
    assert_eq!((summary.newly_suspect, report.unlisted), (Some(3), 0));
}

/// Starts a server that answers each line while it reads, and stops reading while its answers
/// are not taken.
async fn streaming_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer_streaming)));
        }
    });
    format!("http://{address}")
}

async fn answer_streaming(request: Request<Incoming>) -> Result<Response<LineBody>, Infallible> {
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(async move {
        let (mut body, mut text, mut number) = (request.into_body(), Vec::new(), 0);
        while let Some(Ok(frame)) = body.frame().await {
            text.extend_from_slice(&frame.into_data().unwrap());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                number += 1;
                let answer = result(number, std::str::from_utf8(&line).unwrap());
                sender.send(Bytes::from(answer)).await.unwrap();
            }
        }
        let summary = json!({"summary": {"created": number - 1}}).to_string();
        sender.send(Bytes::from(summary)).await.unwrap();
    });
    Ok(Response::new(LineBody(body)))
}

#[tokio::test]
async fn answers_arrive_while_lines_are_sent() {
    // More lines than all buffers between hold together.
    let folder = folder_of(3000);
    let events: Vec<Value> = (10..30_000).map(event).collect();
    fs::write(folder.path().join("taint_events.json"), json!(events).to_string()).unwrap();
    let report = import_into(&streaming_server().await, folder.path()).await.unwrap();
    assert_eq!((report.summary.created, report.summary.refused), (32_989, 1));
    assert_eq!(report.bad[0].file, format!("{}.json", id(2)));
}

#[tokio::test]
async fn failures_of_the_server_are_distinguished() {
    let folder = folder_of(3);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    assert_eq!(import_into(&nobody, folder.path()).await.unwrap_err().code(), 3);

    let refusing = serve(|_| (404, json!({"title": "Not found", "status": 404}).to_string())).await;
    let failure = import_into(&refusing, folder.path()).await.unwrap_err();
    assert_eq!((failure.code(), failure.to_string()), (1, "Not found (status 404)".to_owned()));

    let stopping = serve(|request| (200, result(1, request.body.lines().next().unwrap()))).await;
    let failure = import_into(&stopping, folder.path()).await.unwrap_err();
    assert!(failure.to_string().contains("run it again"), "{failure}");

    let strange = serve(|_| (200, "<html>\n".to_owned())).await;
    assert!(
        import_into(&strange, folder.path()).await.unwrap_err().to_string().contains("is not the result of a line")
    );
}

fn session(address: &str) -> Session {
    Session { client: Client::new(address, None).unwrap(), screen: Screen::of_stdout(Format::Json) }
}

async fn export_from(address: &str, folder: &Path) -> Result<export::Report, Failure> {
    let lines = session(address).client.get_lines("/provenance/export").await?;
    export(folder, lines, &ProgressBar::hidden()).await
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn the_provenance_of_a_server_becomes_files() {
    let checkpoint = json!({"id": "c", "created_at": "2026-01-09T18:00:00", "trigger": "auto"});
    let all = [event(0), record(0), checkpoint.clone(), record(1), event(1)].map(|line| line.to_string() + "\n");
    let address = serve(move |_| (200, all.concat())).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let first = export_from(&address, &path).await.unwrap();
    assert_eq!((first.records, first.taint_events, first.checkpoints), (2, 2, 1));
    assert_eq!((first.created, first.updated, first.unchanged), (4, 0, 0));
    assert_eq!(read(&path.join(format!("{}.json", id(1)))), record(1));
    assert_eq!(read(&path.join("taint_events.json")), json!([event(0), event(1)]));
    assert_eq!(read(&path.join("checkpoints.json")), json!({"c": checkpoint}));
    fs::write(path.join(format!("{}.json", id(1))), "cut").unwrap();
    fs::remove_file(path.join("checkpoints.json")).unwrap();
    let second = export_from(&address, &path).await.unwrap();
    assert_eq!((second.created, second.updated, second.unchanged), (1, 1, 2));
}

/// An interrupted export leaves complete files, and does not change the lists.
#[tokio::test]
async fn an_interrupted_export_replaces_no_list() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let line = event(0).to_string() + "\n";
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("taint_events.json");
    fs::write(&list, "[]").unwrap();
    assert_eq!(export_from(&address, folder.path()).await.unwrap_err().code(), 3);
    assert_eq!(fs::read(&list).unwrap(), b"[]");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let strange = serve(|_| (200, event(0).to_string() + "\n{\"id\": 1}\n")).await;
    let failure = export_from(&strange, folder.path()).await.unwrap_err();
    assert!(failure.to_string().contains("/id must be a string, was 1"), "{failure}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_follower_writes_changes() {
    let exported = Arc::new(AtomicUsize::new(0));
    let address = serve({
        let exported = Arc::clone(&exported);
        move |request| match request.uri.split('?').next() {
            // Each call returns one event.
            Some("/api/v1/events") => {
                (200, "id: 1\nevent: e\ndata: {\"type\": \"dats.task.validated\"}\n\n".to_owned())
            }
            _ => (200, record(exported.fetch_add(1, Ordering::SeqCst)).to_string()),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let session = session(&address);
    let arguments =
        export::Arguments { folder: folder.path().to_owned(), follow: true, store: StoreArguments::default() };
    let followed = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::select! {
            result = export::run(&session, &arguments) => panic!("it ended: {result:?}"),
            () = async {
                while !folder.path().join(format!("{}.json", id(2))).exists() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            } => {}
        }
    });
    followed.await.unwrap();
    assert!(exported.load(Ordering::SeqCst) >= 3);
}
