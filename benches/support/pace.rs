//! The open loop over raw connections.

use std::net::SocketAddr;

use dats::workload::load::{Connection, Measured, Pace, run_open_loop};
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

/// Connections that take turns.
pub(crate) const CONNECTIONS: u32 = 64;

/// Opens the connections, sends requests at `pace`, and waits for every answer, which is
/// expected to have the status 201.
pub(crate) async fn run_at_pace(
    address: SocketAddr,
    pace: Pace,
    make: impl Fn(u64) -> Vec<u8> + Clone + Send + 'static,
) -> Measured {
    let mut connections = Vec::new();
    for _ in 0..pace.connections {
        connections.push(Connection::open(address).await.expect("a server that listens"));
    }
    let ask = move |mut connection: Connection, number| {
        let request = make(number);
        async move {
            let status = connection.call(&request).await.expect("a server that answers").0;
            let result = if status == 201 { Ok(()) } else { Err(format!("request {number} was answered {status}")) };
            (connection, result)
        }
    };
    run_open_loop(pace, connections, &ProgressBar::hidden(), &CancellationToken::new(), ask).await
}
