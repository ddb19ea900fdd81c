//! Settings of a bench from the environment, and runs of the closed loop.

use std::net::SocketAddr;
use std::time::Duration;

use dats::workload::load::{MakeRequest, Measured, run_closed_loop};

/// Reads a number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Returns whether `cargo test --benches` has started the bench, which then does nothing.
pub(crate) fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// Runs the closed loop against a server that must answer.
pub(crate) fn run(
    address: SocketAddr,
    connections: u64,
    duration: Duration,
    expected: u16,
    make: &MakeRequest,
) -> Measured {
    run_closed_loop(address, connections, duration, expected, make).expect("a server that answers")
}

/// Returns `holds` or `MISSED` for a target.
pub(crate) fn verdict(is_met: bool) -> &'static str {
    if is_met { "holds" } else { "MISSED" }
}
