//! What the benches share: HTTP load generators, closed-loop and at a fixed pace, the limits that
//! the service is held against, and a server of its own for each.

pub(crate) mod engine;
pub(crate) mod limits;
pub(crate) mod linked;
pub(crate) mod lives;
pub(crate) mod load;
pub(crate) mod pace;
pub(crate) mod server;
pub(crate) mod upsert;
