//! A small HTTP client for the service's own API, for the command line and for synthetic
//! workloads: JSON calls with a deadline, lines of JSON in both directions, and event
//! streams that resume after a lost connection.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use dats::client::Client;
//!
//! let client = Client::new("http://127.0.0.1:8000", None)?;
//! let health = client.get("/health").await?;
//! assert_eq!(health.json["status"], "healthy");
//! # Ok(())
//! # }
//! ```

mod api;
mod call;
mod error;
#[cfg(test)]
pub(crate) mod fake_server;
mod lines;
mod sse;
mod stream;
#[cfg(test)]
mod tests;

pub use api::{Answer, Client};
pub use call::{Call, LineBody, segment, with_query};
pub use error::{Error, FieldError, Problem};
pub use lines::{Lines, split_lines};
pub use sse::SseEvent;
pub use stream::{EventStream, Follower, RECONNECT_PAUSE};
