//! What the benches share: a closed-loop HTTP load generator, the limits that
//! the service is held against, and a server of its own for each.

pub(crate) mod engine;
pub(crate) mod limits;
pub(crate) mod linked;
pub(crate) mod load;
pub(crate) mod server;
