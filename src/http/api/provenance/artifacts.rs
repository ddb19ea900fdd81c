//! `GET /artifacts/{id}`: an artifact with the records that made it, and `GET /artifacts/{id}/content`: its
//! content, if it is stored here.

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
use crate::http::api::provenance::graph::StandingWire;
use crate::http::api::provenance::media_type;
use crate::http::server::body::Body;
use crate::http::server::cursor;
use crate::http::server::headers;
use crate::http::server::problem::Problem;
use crate::http::server::ranges;
use crate::http::server::reply::{self, Reply, Time};
use crate::lineage::{Graph, Node, RecordState};
use crate::store::{KeptContent, RecordOutput};
use crate::task::{ArtifactId, RecordId, hex};

/// The number of bytes of a file in memory, for each client.
const PIECE: usize = 64 * 1024;

/// An artifact.
#[derive(Serialize, ToSchema)]
#[schema(as = Artifact)]
pub(in crate::http) struct ArtifactWire<'a> {
    /// The id of the artifact.
    id: &'a ArtifactId,
    /// The type that the worker gave.
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    /// The path that the worker gave.
    path: Option<&'a str>,
    /// The language that the worker gave.
    language: Option<&'a str>,
    /// The checksum that the worker gave.
    checksum: Option<&'a str>,
    /// The size in bytes.
    size_bytes: Option<u64>,
    /// The stored content; null if it is not stored here.
    content: Option<ContentWire>,
    /// The record for which the artifact stands now.
    #[serde(flatten)]
    bound: MakerWire<'a>,
    /// A page of the records that made the artifact, newest first.
    records: Vec<MakerWire<'a>>,
    /// The number of these records.
    total: usize,
    /// The cursor of the next page of records; null on the last page.
    next_cursor: Option<String>,
    /// The largest number of entries of a page.
    limit: usize,
}

/// A stored content.
#[derive(Serialize, ToSchema)]
#[schema(as = KeptContent)]
pub(in crate::http) struct ContentWire {
    /// The path of the content.
    href: String,
    /// The media type of the content.
    media_type: Option<String>,
    /// The size in bytes.
    size_bytes: u64,
    /// The SHA-256 of the content, in hexadecimal.
    sha256: String,
}

/// A record that made an artifact.
#[derive(Serialize, ToSchema)]
#[schema(as = ArtifactMaker)]
pub(in crate::http) struct MakerWire<'a> {
    /// The id of the record.
    provenance_id: RecordId,
    /// When the record was made.
    created_at: Time,
    #[serde(flatten)]
    about: StandingWire<'a>,
}

impl<'a> MakerWire<'a> {
    fn new(graph: &'a Graph, known: &RecordState) -> Self {
        let about = StandingWire::new(graph, known);
        Self { provenance_id: known.id, created_at: Time(known.created_at), about }
    }
}

fn artifact_not_found(id: &str) -> Problem {
    Problem::not_found("artifact_not_found", "artifact", id)
}

/// Returns the artifact with an id, and the record for which it stands.
fn find_artifact(graph: &Graph, id: &str) -> Result<(ArtifactId, RecordState), Problem> {
    let artifact = ArtifactId::new(id).map_err(|_| artifact_not_found(id))?;
    let node = Subject::Artifact(artifact.clone()).resolve(graph);
    let known = node.and_then(|node| graph.record(node)).ok_or_else(|| artifact_not_found(id))?;
    Ok((artifact, known))
}

/// Returns the output of a record with the id of an artifact.
async fn find_output(
    engine: &Engine,
    record: RecordId,
    artifact: &ArtifactId,
) -> Result<Option<RecordOutput>, Problem> {
    let outputs = engine.provenance().record(record).await?.map(|record| record.outputs).unwrap_or_default();
    Ok(outputs.into_iter().find(|output| output.artifact.id == *artifact))
}

fn media_type_of(output: &RecordOutput) -> HeaderValue {
    media_type::of(output.artifact.language.as_deref(), output.artifact.path.as_deref())
}

/// Returns the records that made an artifact, newest first.
fn makers(graph: &Graph, artifact: &ArtifactId) -> Vec<Node> {
    let Some(artifact) = graph.find_artifact(artifact) else { return Vec::new() };
    let mut makers: Vec<Node> = graph.producers(artifact).collect();
    makers.sort_by_cached_key(|node| graph.record(*node).map(|known| std::cmp::Reverse((known.created_at, known.id))));
    makers
}

/// Handles `GET /artifacts/{id}`.
pub(in crate::http) async fn get(call: Call) -> Reply {
    let mut query = call.query(&["limit", "cursor"]);
    let limit = query.limit();
    let id = call.id();
    let scope = format!("artifact {id}");
    let before = query.cursor(&scope, |place| place.try_into().ok().map(RecordId::from_bytes));
    query.finish()?;
    let engine = &call.app.engine;
    let graph = engine.provenance().graph();
    let (artifact, known) = find_artifact(&graph, &id)?;
    let output = find_output(engine, known.id, &artifact).await?.ok_or_else(|| artifact_not_found(&id))?;
    let content = stored_content(engine, &output).await?;
    let (listed, of) = (graph.clone(), artifact.clone());
    let makers = call.app.queries.run(move |_| makers(&listed, &of)).await?;
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
        bound: MakerWire::new(&graph, &known),
        records: records.iter().map(|known| MakerWire::new(&graph, known)).collect(),
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

async fn stored_content(engine: &Engine, output: &RecordOutput) -> Result<Option<ContentWire>, Problem> {
    let Some(sha256) = output.content else { return Ok(None) };
    let length = engine.provenance().content_length(sha256).await?;
    let id = utf8_percent_encode(output.artifact.id.as_str(), NON_ALPHANUMERIC);
    Ok(length.map(|size_bytes| ContentWire {
        href: format!("/api/v1/artifacts/{id}/content"),
        media_type: media_type_of(output).to_str().ok().map(str::to_owned),
        size_bytes,
        sha256: hex(sha256),
    }))
}

/// Handles `GET /artifacts/{id}/content`: the content that the record made for which the artifact stands, or that
/// of the record in the query.
pub(in crate::http) async fn content(call: Call) -> Reply {
    let mut query = call.query(&["provenance_id"]);
    let record = query.parsed::<RecordId>("provenance_id");
    query.finish()?;
    let id = call.id();
    let engine = &call.app.engine;
    let (artifact, known) = find_artifact(&engine.provenance().graph(), &id)?;
    let output = find_output(engine, record.unwrap_or(known.id), &artifact).await?;
    let none = || Problem::not_found("content_not_found", "kept content of an artifact", &id);
    let output = output.ok_or_else(none)?;
    let sha256 = output.content.ok_or_else(none)?;
    let etag = headers::quoted(&hex(sha256));
    if call.if_none_match().is_some_and(|known| headers::matches(known, &etag)) {
        return Ok(reply::not_modified(etag));
    }
    let content = engine.provenance().content(sha256).await?.ok_or_else(none)?;
    let length = match &content {
        KeptContent::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        KeptContent::File(_, length) => *length,
    };
    let part = ranges::requested(call.headers(), &etag, length)?;
    let mut response = Response::new(content_body(content, part.clone().unwrap_or(0..length)));
    let headers = response.headers_mut();
    if let Some(Range { start, end }) = &part {
        let shown = HeaderValue::from_str(&format!("bytes {start}-{}/{length}", end - 1));
        headers.insert(CONTENT_RANGE, shown.unwrap_or(HeaderValue::from_static("bytes */*")));
    }
    let sent = part.as_ref().map_or(length, |part| part.end - part.start);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(sent));
    headers.insert(CONTENT_TYPE, media_type_of(&output));
    // A browser must not run what a worker wrote, whatever its media type.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, etag);
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Returns the body with a part of a content. A file is sent piece by piece, as fast as the client reads.
fn content_body(content: KeptContent, part: Range<u64>) -> Body {
    match content {
        KeptContent::Bytes(bytes) => {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Body::full(Bytes::from(bytes.clone()).slice(place(part.start)..place(part.end)))
        }
        KeptContent::File(file, _) => {
            let (pieces, body) = mpsc::channel(1);
            tokio::spawn(send_file(tokio::fs::File::from_std(file), part.clone(), pieces));
            Body::Measured(body, part.end - part.start)
        }
    }
}

/// Sends a part of a file. It ends early when the client disconnects or the file cannot be read; the latter cuts off
/// the response.
async fn send_file(mut file: tokio::fs::File, part: Range<u64>, pieces: mpsc::Sender<Bytes>) {
    if let Err(error) = file.seek(SeekFrom::Start(part.start)).await {
        return tracing::warn!(%error, "failed to read the content of an artifact");
    }
    let mut rest = file.take(part.end - part.start);
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        match rest.read_buf(&mut piece).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return tracing::warn!(%error, "failed to read the content of an artifact"),
        }
        if pieces.send(piece.freeze()).await.is_err() {
            return;
        }
    }
}
