//! What the benches share: a closed-loop HTTP load generator, the limits that
//! the service is held against, and a server of its own for each.

pub mod limits;
pub mod load;
pub mod server;
