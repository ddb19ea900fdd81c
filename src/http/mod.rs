//! The HTTP interface.
//!
//! `server` accepts connections, reads requests and writes responses, and knows no endpoint. `api` has the endpoints,
//! in a folder for each topic, with a table in its `mod.rs`. `openapi` has the builders for their descriptions.
//! [`build`] puts the tables together, and [`serve`] serves them. HTTP status codes exist in this module only.
//!
//! Every resource that a client can use has a limit: connections (in total and for each address), headers, bodies (in
//! size and time), writes to clients that do not read, pages, and buffers of streams. A request over a limit gets a
//! problem.
//!
//! The status read of a task is the hot path. It spawns no task, boxes no future and takes no lock; it looks the task
//! up in the map of the engine.

mod api;
mod openapi;
mod server;

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use api::app::App;
pub use api::backends::Backends;
pub use api::openapi::openapi_text;
pub use api::settings::Settings;
pub use server::settings::{ApiKey, Limits, ServerSettings};

use crate::clock::Clock;
use crate::engine::Engine;

/// Builds the application with all its endpoints.
///
/// # Errors
/// Fails if the threads of the read pool cannot be started.
pub fn build(
    engine: Engine,
    backends: Backends,
    settings: (Settings, ServerSettings),
    clock: Clock,
) -> io::Result<Arc<App>> {
    App::new(&api::tables::endpoints(), api::openapi::render, engine, backends, settings, clock)
}

/// Serves `app` on `listener` until `shutdown`. Returns when every connection has
/// ended, at the latest after the drain timeout.
pub async fn serve(listener: TcpListener, app: Arc<App>, shutdown: CancellationToken) {
    server::connections::serve(listener, app, shutdown).await;
}
