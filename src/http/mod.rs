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

use server::{
    body, cursor, decoding, entries, exchange, guard, headers, problem, query, range, reads, reply, request, sse,
};

pub use api::app::{App, Others};
pub use api::settings::{ApiKey, Limits, Settings};
pub use openapi::openapi_text;
pub use server::connections::serve;
