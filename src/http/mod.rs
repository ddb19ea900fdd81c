//! The HTTP edge: from sockets to calls of the engine, and back.
//!
//! [`serve`] accepts connections within limits; each request is routed
//! by one table (`routes`), answered by the file of its resource, and
//! leaves with its request id and its measurements (`edge`). Status codes
//! exist in this module alone, and problems are made in `problem` alone.
//!
//! Everything has a limit: connections (in all and by address), headers,
//! bodies (size and time), writes to clients that do not read, pages,
//! buffers of streams. Over a limit the answer is a problem, never memory.
//!
//! Reading the status of a task is the hot path: it takes no task, no box
//! and no lock of its own, only a look-up in the engine's map.

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
