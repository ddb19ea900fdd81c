//! The limits: the throughput of the machine without the work of the service.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dats::clock::Stopwatch;
use dats::task::{
    self, Domain, ExecutionMode, Now, Options, Policy, Priority, ProjectId, QaProfile, Resolved, Submission, TaskId,
    Tier, Timestamp,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Starts a hyper server that gives every request the same answer.
pub(crate) fn bare_hyper(answer: Bytes) -> SocketAddr {
    serve(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            // Reading the body is part of every answer to a POST.
            if request.method() == http::Method::POST {
                let _ = request.into_body().collect().await;
            }
            Ok::<_, Infallible>(json_answer(200, answer))
        }
    })
}

/// Starts a hyper server that accepts submissions as the service does, but stores them in memory
/// only: it parses the request, one thread creates the task, and a channel returns the
/// answer.
pub(crate) fn without_storage() -> SocketAddr {
    let (sender, receiver) = crossbeam_channel::bounded::<(Submission, oneshot::Sender<TaskId>)>(8192);
    std::thread::spawn(move || keep_in_memory(&receiver));
    serve(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let body = request.into_body().collect().await.map(|body| body.to_bytes().to_vec());
            let mut body = body.unwrap_or_default();
            let wire: WireSubmission = simd_json::serde::from_slice(&mut body).expect("a submission");
            let (reply, answer) = oneshot::channel();
            sender.try_send((wire.checked(), reply)).expect("room in the queue");
            let id = answer.await.expect("an answer");
            let body =
                format!("{{\"task_id\":\"{id}\",\"status\":\"pending\",\"created_at\":\"2026-01-09T18:00:00Z\"}}");
            Ok::<_, Infallible>(json_answer(201, Bytes::from(body)))
        }
    })
}

#[derive(serde::Deserialize)]
struct WireSubmission {
    description: String,
    project_id: String,
}

impl WireSubmission {
    fn checked(self) -> Submission {
        submission(&self.description, &self.project_id)
    }
}

/// Returns a submission without options.
pub(crate) fn submission(description: &str, project: &str) -> Submission {
    Submission {
        description: description.to_owned(),
        project: ProjectId::new(project).expect("a project id"),
        priority: None,
        options: Options::default(),
        metadata: None,
        execution_mode: ExecutionMode::Autonomous,
        constitution_override: None,
        traceparent: None,
        rerun_of: None,
    }
}

/// Returns what the router resolves for a submission without options.
pub(crate) fn resolved() -> Resolved {
    Resolved {
        priority: Priority::Normal,
        tier: Tier::new("small").expect("a tier"),
        domain: Domain::new("code-general").expect("a domain"),
        qa_profile: QaProfile::new("none").expect("a profile"),
        timeout_seconds: 600,
        max_attempts: 3,
        routing: None,
    }
}

fn keep_in_memory(receiver: &crossbeam_channel::Receiver<(Submission, oneshot::Sender<TaskId>)>) {
    let mut tasks = std::collections::HashMap::new();
    let policy = Policy::default();
    while let Ok((submission, reply)) = receiver.recv() {
        let id = TaskId::new(Uuid::now_v7());
        let now = Now::aligned(Timestamp::from_micros(1_700_000_000_000_000));
        let step = task::submit(id, &submission, resolved(), &[], now, &policy);
        tasks.insert(id, (submission, step.task));
        let _ = reply.send(id);
    }
}

fn json_answer(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Full::new(body)).expect("a valid answer")
}

/// Serves on a runtime with one worker, as the service does on two cores.
fn serve<S, F>(service: S) -> SocketAddr
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            sender.send(listener.local_addr().expect("an address")).expect("a receiver");
            tokio::spawn(accept(listener, service)).await.expect("a server");
        });
    });
    address.recv().expect("an address")
}

async fn accept<S, F>(listener: TcpListener, service: S)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).expect("a TCP socket");
        let service = service_fn(service.clone());
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// A file with allocated space, for durable writes.
#[derive(Debug)]
pub(crate) struct DurableFile {
    file: File,
    block: Vec<u8>,
    next: u64,
}

const BLOCKS: u64 = 4096;

impl DurableFile {
    /// Creates the file in `dir`, for blocks of `block_bytes`.
    pub(crate) fn new(dir: &Path, block_bytes: usize) -> Self {
        let path = dir.join("durable-file");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path).expect("a file");
        let this = Self { file, block: vec![7; block_bytes], next: 0 };
        for block in 0..BLOCKS {
            this.write(block);
        }
        this.file.sync_all().expect("a sync");
        this
    }

    fn write(&self, block: u64) {
        let offset = block * u64::try_from(self.block.len()).expect("a length");
        self.file.write_all_at(&self.block, offset).expect("a write");
    }

    /// Writes one block durably and returns how long that took.
    pub(crate) fn write_durably(&mut self) -> Duration {
        let started = Stopwatch::start();
        self.write(self.next % BLOCKS);
        self.file.sync_data().expect("a sync");
        self.next += 1;
        started.elapsed()
    }
}
