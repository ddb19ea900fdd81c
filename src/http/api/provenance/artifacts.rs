//! `GET /artifacts/{id}`: what is known of an artifact, and who has made it;
//! `GET /artifacts/{id}/content`: the content itself, where an output carried
//! it.

use std::io::SeekFrom;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::engine::{Engine, Subject};
use crate::http::api::app::Call;
use crate::http::api::provenance::media_type;
use crate::http::api::provenance::walks::About;
use crate::http::server::body::Body;
use crate::http::server::cursor;
use crate::http::server::headers;
use crate::http::server::problem::Problem;
use crate::http::server::ranges;
use crate::http::server::reply::{self, Reply, Shown, Time};
use crate::lineage::{Graph, Node, RecordState};
use crate::store::{KeptContent, RecordOutput};
use crate::task::{ArtifactId, RecordId, hex};

/// Bytes of a file that are in memory at once, for each client.
const PIECE: usize = 64 * 1024;

/// What is known of an artifact.
#[derive(Serialize, ToSchema)]
#[schema(as = Artifact)]
pub(in crate::http) struct ArtifactWire<'a> {
    /// Its id.
    id: &'a ArtifactId,
    /// What it is.
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    /// Where it is, as the worker says.
    path: Option<&'a str>,
    /// Its language.
    language: Option<&'a str>,
    /// As the worker gave it.
    checksum: Option<&'a str>,
    /// Its size.
    size_bytes: Option<u64>,
    /// Where its content is, if it is kept here.
    content: Option<ContentWire>,
    /// The record that it stands for now, and what is known of that.
    #[serde(flatten)]
    bound: MadeWire<'a>,
    /// All that name it as an output, the newest first.
    records: Vec<MadeWire<'a>>,
    /// How many there are.
    total: usize,
    /// Where the next page of them begins; null on the last one.
    next_cursor: Option<String>,
    /// Most entries of a page.
    limit: usize,
}

/// A content that is kept here.
#[derive(Serialize, ToSchema)]
#[schema(as = KeptContent)]
pub(in crate::http) struct ContentWire {
    /// Where to get it.
    href: String,
    /// What it is served as.
    media_type: Option<String>,
    /// Its size.
    size_bytes: u64,
    /// Its digest.
    sha256: String,
}

/// A record that names an artifact as its output.
#[derive(Serialize, ToSchema)]
#[schema(as = ArtifactMaker)]
pub(in crate::http) struct MadeWire<'a> {
    /// The record.
    provenance_id: RecordId,
    /// When it was made.
    created_at: Time,
    #[serde(flatten)]
    about: About<'a>,
}

impl<'a> MadeWire<'a> {
    fn new(graph: &'a Graph, known: &RecordState) -> Self {
        let about = About::new(graph, known);
        Self { provenance_id: known.id, created_at: Shown(known.created_at), about }
    }
}

fn missing(id: &str) -> Problem {
    Problem::not_found("artifact_not_found", "artifact", id)
}

/// The artifact that an id names, and the record that it stands for.
fn bound(graph: &Graph, id: &str) -> Result<(ArtifactId, RecordState), Problem> {
    let artifact = ArtifactId::new(id).map_err(|_| missing(id))?;
    let node = Subject::Artifact(artifact.clone()).resolve(graph);
    let known = node.and_then(|node| graph.record(node)).ok_or_else(|| missing(id))?;
    Ok((artifact, known))
}

/// What a record says of an artifact.
async fn output(engine: &Engine, record: RecordId, artifact: &ArtifactId) -> Result<Option<RecordOutput>, Problem> {
    let outputs = engine.provenance().record(record).await?.map(|record| record.outputs).unwrap_or_default();
    Ok(outputs.into_iter().find(|output| output.artifact.id == *artifact))
}

fn media_type_of(output: &RecordOutput) -> HeaderValue {
    media_type::of(output.artifact.language.as_deref(), output.artifact.path.as_deref())
}

/// The records that name an artifact as an output, the newest first.
fn makers(graph: &Graph, artifact: &ArtifactId) -> Vec<Node> {
    let Some(artifact) = graph.find_artifact(artifact) else { return Vec::new() };
    let mut makers: Vec<Node> = graph.producers(artifact).collect();
    makers.sort_by_cached_key(|node| graph.record(*node).map(|known| std::cmp::Reverse((known.created_at, known.id))));
    makers
}

/// `GET /artifacts/{id}`
pub(in crate::http) async fn get(call: Call) -> Reply {
    let mut query = call.query(&["limit", "cursor"]);
    let limit = query.limit();
    let id = call.id();
    let scope = format!("artifact {id}");
    let before = query.cursor(&scope, |place| place.try_into().ok().map(RecordId::from_bytes));
    query.finish()?;
    let engine = &call.app.engine;
    let graph = engine.provenance().graph();
    let (artifact, known) = bound(&graph, &id)?;
    let output = output(engine, known.id, &artifact).await?.ok_or_else(|| missing(&id))?;
    let content = content_of(engine, &output).await?;
    let (listed, of) = (graph.clone(), artifact.clone());
    let makers = call.app.walks.run(move |_| makers(&listed, &of)).await?;
    let from = before.and_then(|before| makers.iter().position(|node| graph.find(before) == Some(*node)));
    let page = makers.iter().skip(from.map_or(0, |from| from + 1));
    let records: Vec<_> = page.clone().take(limit).filter_map(|node| graph.record(*node)).collect();
    let last = records.last().filter(|_| page.len() > limit);
    let wire = ArtifactWire {
        id: &artifact,
        kind: output.artifact.kind.as_deref(),
        path: output.artifact.path.as_deref(),
        language: output.artifact.language.as_deref(),
        checksum: output.artifact.checksum.as_deref(),
        size_bytes: output.artifact.size_bytes,
        content,
        bound: MadeWire::new(&graph, &known),
        records: records.iter().map(|known| MadeWire::new(&graph, known)).collect(),
        total: makers.len(),
        next_cursor: last.map(|known| cursor::encode(&scope, &known.id.to_bytes())),
        limit,
    };
    let body = serde_json::to_vec(&wire).unwrap_or_default();
    let etag = headers::etag_of(&body);
    if call.if_none_match().is_some_and(|known| headers::matches(known, &etag)) {
        return Ok(reply::not_modified(etag));
    }
    Ok(reply::with_header(reply::rendered(StatusCode::OK, body), ETAG, etag))
}

async fn content_of(engine: &Engine, output: &RecordOutput) -> Result<Option<ContentWire>, Problem> {
    let Some(sha256) = output.content else { return Ok(None) };
    let length = engine.provenance().content_length(sha256).await?;
    let id = utf8_percent_encode(output.artifact.id.as_str(), NON_ALPHANUMERIC);
    Ok(length.map(|size_bytes| ContentWire {
        href: format!("/api/v1/artifacts/{id}/content"),
        media_type: media_type_of(output).to_str().ok().map(str::to_owned),
        size_bytes,
        sha256: hex(&sha256),
    }))
}

/// `GET /artifacts/{id}/content`: that of the record which the artifact
/// stands for now, or of another one that made it.
pub(in crate::http) async fn content(call: Call) -> Reply {
    let mut query = call.query(&["provenance_id"]);
    let record = query.parsed::<RecordId>("provenance_id");
    query.finish()?;
    let id = call.id();
    let engine = &call.app.engine;
    let (artifact, known) = bound(&engine.provenance().graph(), &id)?;
    let output = output(engine, record.unwrap_or(known.id), &artifact).await?;
    let none = || Problem::not_found("content_not_found", "kept content of an artifact", &id);
    let output = output.ok_or_else(none)?;
    let sha256 = output.content.ok_or_else(none)?;
    let etag = headers::quoted(&hex(&sha256));
    if call.if_none_match().is_some_and(|known| headers::matches(known, &etag)) {
        return Ok(reply::not_modified(etag));
    }
    let content = engine.provenance().content(sha256).await?.ok_or_else(none)?;
    let length = match &content {
        KeptContent::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        KeptContent::File(_, length) => *length,
    };
    let part = ranges::requested(call.headers(), &etag, length)?;
    let mut response = Response::new(body(content, part.clone().unwrap_or(0..length)));
    let headers = response.headers_mut();
    if let Some(Range { start, end }) = &part {
        let shown = HeaderValue::from_str(&format!("bytes {start}-{}/{length}", end - 1));
        headers.insert(CONTENT_RANGE, shown.unwrap_or(HeaderValue::from_static("bytes */*")));
    }
    let sent = part.as_ref().map_or(length, |part| part.end - part.start);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(sent));
    headers.insert(CONTENT_TYPE, media_type_of(&output));
    // What a worker wrote shall not run in a browser, whatever it says it is.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, etag);
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// A part of a content. A file is sent piece by piece, as fast as the client
/// takes them.
fn body(content: KeptContent, part: Range<u64>) -> Body {
    match content {
        KeptContent::Bytes(bytes) => {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Body::full(Bytes::from(bytes.clone()).slice(place(part.start)..place(part.end)))
        }
        KeptContent::File(file, _) => {
            let (pieces, body) = mpsc::channel(1);
            tokio::spawn(send(tokio::fs::File::from_std(file), part.clone(), pieces));
            Body::Measured(body, part.end - part.start)
        }
    }
}

/// Ends early when the client has gone; when the file can't be read, which
/// breaks off the answer.
async fn send(mut file: tokio::fs::File, part: Range<u64>, pieces: mpsc::Sender<Bytes>) {
    if let Err(error) = file.seek(SeekFrom::Start(part.start)).await {
        return tracing::warn!(%error, "the content of an artifact could not be read");
    }
    let mut rest = file.take(part.end - part.start);
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        match rest.read_buf(&mut piece).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return tracing::warn!(%error, "the content of an artifact could not be read"),
        }
        if pieces.send(piece.freeze()).await.is_err() {
            return;
        }
    }
}
