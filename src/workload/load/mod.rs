//! The load generator. Closed loop: each connection sends its next request when the last
//! one is answered. Open loop: each request has a time at which it is due, and its latency
//! counts from there.

mod closed;
mod connection;
mod latency;
mod open;

pub use closed::{ClosedLoop, MakeRequest, run_closed_loop};
pub use connection::{Connection, get_request, post_request};
pub use latency::{Figures, Latencies, Measured};
pub use open::{Pace, run_open_loop};
