//! Problems of a service that has too much to do: a client may come again.

use hyper::StatusCode;

use super::Problem;

impl Problem {
    /// Too many connections.
    pub(in crate::http) fn too_many_connections() -> Self {
        let detail = "too many connections are open, in all or from this address";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The service is overloaded", detail).retry_after(1)
    }

    /// All places for event streams are taken.
    pub(in crate::http) fn too_many_streams(most: usize) -> Self {
        let detail = format!(
            "there are {most} event streams already (server.max_streams): come again, or read pages instead \
             (Accept: application/json)"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The service is overloaded", detail).retry_after(5)
    }

    /// All places for imports are taken.
    pub(in crate::http) fn too_many_imports(most: usize) -> Self {
        let detail = format!("there are {most} imports at work already: come again when one has ended");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The service is overloaded", detail).retry_after(5)
    }

    /// All places for expensive reads are taken.
    pub(in crate::http) fn too_many_reads() -> Self {
        let detail = "too many lists, trees and exports are read at once, or clients do not read theirs: come again, \
                      or ask for less at once (limit)";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The service is overloaded", detail).retry_after(1)
    }

    /// All places for large bodies are taken.
    pub(in crate::http) fn too_many_bodies() -> Self {
        let detail = "too many large bodies are decoded at once: come again, or send less at once";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The service is overloaded", detail).retry_after(1)
    }

    /// The memory for bodies is taken.
    pub(in crate::http) fn too_many_body_bytes() -> Self {
        let detail = "the bodies of requests that are not answered yet are too large together: come again, or send \
                      less at once";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The service is overloaded", detail).retry_after(1)
    }
}
