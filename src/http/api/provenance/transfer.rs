//! `POST /provenance/import` and `GET /provenance/export`: provenance as
//! lines in the form of the old program, as long as they are.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::http::api::app::Call;
use crate::http::server::body::Body;
use crate::http::server::content_type;
use crate::http::server::exchange::RequestBody;
use crate::http::server::problem::Problem;
use crate::http::server::reply::Reply;
use crate::task::ProjectId;
use crate::transfer::{self, Chunk, ImportBudget};

/// Chunks that may wait on their way, in each direction.
const CHUNKS: usize = 4;
/// Most imports at once: each holds some MiB of lines.
const MOST_IMPORTS: usize = 8;
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The limits of all imports together.
#[derive(Debug)]
pub(in crate::http) struct Imports {
    places: Arc<Semaphore>,
    budget: ImportBudget,
}

impl Default for Imports {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST_IMPORTS)), budget: ImportBudget::default() }
    }
}

/// `POST /provenance/import`: lines in, a result for each out while they come.
pub(in crate::http) fn import(call: Call) -> Reply {
    call.require_no_query()?;
    content_type::require_json_lines(call.headers())?;
    if !call.body.is_complete() {
        content_type::require_any(call.headers())?;
    }
    call.app.engine.check_writable()?;
    let places = call.app.imports.places.clone();
    let place = places.try_acquire_owned().map_err(|_| Problem::too_many_imports(MOST_IMPORTS))?;
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let (results, answer) = mpsc::channel(CHUNKS);
    let patience = call.app.server.limits.body_timeout;
    tokio::spawn(receive(call.body, patience, call.stopping, sender));
    let app = call.app;
    // It ends with the body, or with the connection: then nobody takes its results.
    tokio::spawn(async move {
        transfer::import(&app.engine, &app.imports.budget, chunks, results).await;
        drop(place);
    });
    Ok(lines(Body::Stream(answer)))
}

/// Hands a body over in chunks, at the pace at which they are taken.
async fn receive(mut body: RequestBody, patience: Duration, stopping: CancellationToken, chunks: mpsc::Sender<Chunk>) {
    loop {
        let data = tokio::select! {
            data = tokio::time::timeout(patience, body.data()) => data,
            () = stopping.cancelled() => {
                let _ = chunks.send(Err("the service is shutting down: run it again".to_owned())).await;
                return;
            }
            () = chunks.closed() => return,
        };
        let chunk = match data {
            Ok(None) => return,
            Ok(Some(Ok(data))) => Ok(data),
            Ok(Some(Err(_))) => Err("the connection broke in the middle of the lines".to_owned()),
            Err(_) => Err(format!("nothing came for {} s", patience.as_secs())),
        };
        let ends = chunk.is_err();
        if chunks.send(chunk).await.is_err() || ends {
            return;
        }
    }
}

/// `GET /provenance/export`: everything, or all of one project.
pub(in crate::http) fn export(call: &Call) -> Reply {
    let mut query = call.query(&["project_id"]);
    let project: Option<ProjectId> = query.parsed("project_id");
    query.finish()?;
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let engine = call.app.engine.clone();
    // It ends with the connection: then nobody takes its chunks.
    tokio::spawn(async move { transfer::export(&engine, project.as_ref(), sender).await });
    Ok(lines(Body::Breakable(chunks)))
}

fn lines(body: Body) -> Response<Body> {
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
        let response = lines(Body::Breakable(chunks));
        assert_eq!((response.status(), &response.headers()[CONTENT_TYPE]), (StatusCode::OK, &NDJSON));
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{}\n");
        assert!(body.frame().await.unwrap().is_err());
    }
}
