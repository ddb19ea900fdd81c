//! `POST /provenance/import` and `GET /provenance/export`: provenance as NDJSON in the format of the old program,
//! of any length.

use std::time::Duration;

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::http::api::app::Call;
use crate::http::server::body::Body;
use crate::http::server::content_type;
use crate::http::server::exchange::RequestBody;
use crate::http::server::reply::Reply;
use crate::task::{ProjectId, RecordId};
use crate::transfer::{self, Chunk};

/// The number of chunks that are buffered in each direction.
const CHUNKS: usize = 4;
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// A line of the response to an import: the result of a line of the request, or the end of the response.
#[expect(dead_code, reason = "describes the lines that `transfer` renders")]
#[derive(ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum ImportLine {
    /// The result of a line that was not empty.
    Line {
        /// The number of the line, from 1.
        line: u64,
        /// The kind of its object.
        kind: Option<String>,
        /// The id of its object.
        id: Option<String>,
        /// The id of the record here; absent if it is the same.
        #[schema(nullable = false)]
        provenance_id: Option<RecordId>,
        /// `created`, `updated`, `unchanged` or `refused`.
        outcome: String,
        /// A code for the reason of a refusal.
        #[schema(nullable = false)]
        reason: Option<String>,
        /// The reason of a refusal for people.
        #[schema(nullable = false)]
        message: Option<String>,
        /// The position of the fault in the line, in bytes.
        #[schema(nullable = false)]
        offset: Option<u64>,
        /// The records that would form a cycle.
        #[schema(nullable = false)]
        cycle: Option<Vec<RecordId>>,
        /// The first records that became suspect because of the line.
        #[schema(nullable = false)]
        newly_suspect: Option<Vec<RecordId>>,
        /// The number of records that became suspect because of the line.
        #[schema(nullable = false)]
        newly_suspect_count: Option<u64>,
    },
    /// The last line of a complete import.
    End {
        /// The counts of all lines.
        summary: ImportSummary,
    },
    /// The last line of an import that stopped early.
    Broken {
        /// Why the import stopped.
        error: ImportError,
    },
}

/// Why an import stopped early.
#[expect(dead_code, reason = "describes a line that `transfer` renders")]
#[derive(ToSchema)]
pub(in crate::http) struct ImportError {
    /// A stable code.
    code: String,
    /// The reason for people.
    detail: String,
}

/// The counts of an import.
#[expect(dead_code, reason = "describes a line that `transfer` renders")]
#[derive(ToSchema)]
pub(in crate::http) struct ImportSummary {
    /// The number of lines that were not empty.
    lines: u64,
    /// The number of lines that created an object.
    created: u64,
    /// The number of lines that changed an object.
    updated: u64,
    /// The number of lines that changed nothing.
    unchanged: u64,
    /// The number of refused lines.
    refused: u64,
    /// The number of records that are suspect here and were not in the import; null if there were too many to check.
    newly_suspect: Option<u64>,
    /// The number of records that were suspect in the import and are not here; null if there were too many to check.
    no_longer_suspect: Option<u64>,
}

/// Handles `POST /provenance/import`. The result of each line is sent while further lines arrive.
pub(in crate::http) fn import(call: Call) -> Reply {
    call.require_no_query()?;
    content_type::require_json_lines(call.headers())?;
    if !call.body.is_complete() {
        content_type::require_any(call.headers())?;
    }
    call.app.engine.check_writable()?;
    let permit = call.app.imports.acquire()?;
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let (results, answer) = mpsc::channel(CHUNKS);
    let timeout = call.app.server.limits.body_timeout;
    tokio::spawn(forward_body(call.body, timeout, call.stopping, sender));
    let app = call.app;
    // Ends with the body, or with the connection, which drops the receiver of the results.
    tokio::spawn(async move {
        transfer::import(&app.engine, app.imports.budget(), chunks, results).await;
        drop(permit);
    });
    Ok(ndjson_response(Body::Stream(answer)))
}

/// Forwards the body in chunks, no faster than they are received.
async fn forward_body(
    mut body: RequestBody,
    timeout: Duration,
    stopping: CancellationToken,
    chunks: mpsc::Sender<Chunk>,
) {
    loop {
        let data = tokio::select! {
            data = tokio::time::timeout(timeout, body.data()) => data,
            () = stopping.cancelled() => {
                let _ = chunks.send(Err("the service is shutting down: run the import again".to_owned())).await;
                return;
            }
            () = chunks.closed() => return,
        };
        let chunk = match data {
            Ok(None) => return,
            Ok(Some(Ok(data))) => Ok(data),
            Ok(Some(Err(_))) => Err("the connection broke before the end of the lines".to_owned()),
            Err(_) => Err(format!("no data was received for {} s", timeout.as_secs())),
        };
        let ends = chunk.is_err();
        if chunks.send(chunk).await.is_err() || ends {
            return;
        }
    }
}

/// Handles `GET /provenance/export`: all provenance, or that of one project.
pub(in crate::http) fn export(call: &Call) -> Reply {
    let mut query = call.query(&["project_id"]);
    let project: Option<ProjectId> = query.parsed("project_id");
    query.finish()?;
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let engine = call.app.engine.clone();
    // Ends with the connection, which drops the receiver of the chunks.
    tokio::spawn(async move { transfer::export(&engine, project.as_ref(), sender).await });
    Ok(ndjson_response(Body::Breakable(chunks)))
}

fn ndjson_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, NDJSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt;
    use hyper::StatusCode;

    use super::*;

    #[tokio::test]
    async fn a_broken_export_breaks_its_answer() {
        let (sender, chunks) = mpsc::channel(2);
        sender.send(Ok(Bytes::from_static(b"{}\n"))).await.unwrap();
        sender.send(Err(transfer::ExportFailed)).await.unwrap();
        let response = ndjson_response(Body::Breakable(chunks));
        assert_eq!((response.status(), &response.headers()[CONTENT_TYPE]), (StatusCode::OK, &NDJSON));
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{}\n");
        assert!(body.frame().await.unwrap().is_err());
    }
}
