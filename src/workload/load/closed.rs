//! The closed loop. It runs on one thread of its own, which leaves the other core of a
//! two-core machine to the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::latency::{Latencies, Measured};
use crate::clock::Stopwatch;

/// Returns the bytes of the request with a number.
pub type MakeRequest = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// Sends requests over `connections` new connections for `duration`. An answer with
/// another status than `expected` counts as failed.
pub fn run_closed_loop(
    address: SocketAddr,
    connections: u64,
    duration: Duration,
    expected: u16,
    make: &MakeRequest,
) -> io::Result<Measured> {
    runtime()?.block_on(async {
        let started = Stopwatch::start();
        let mut clients = JoinSet::new();
        for first in 0..connections {
            let make = Arc::clone(make);
            clients.spawn(async move {
                let mut connection = Connection::open(address).await?;
                let (mut latencies, mut number) = (Latencies::default(), first);
                while started.elapsed() < duration {
                    send_one(&mut connection, number, expected, &make, &mut latencies).await?;
                    number += connections;
                }
                io::Result::Ok(latencies)
            });
        }
        let mut latencies = Latencies::default();
        while let Some(client) = clients.join_next().await {
            latencies.merge(client??);
        }
        Ok(Measured { latencies, took: started.elapsed() })
    })
}

async fn send_one(
    connection: &mut Connection,
    number: u64,
    expected: u16,
    make: &MakeRequest,
    latencies: &mut Latencies,
) -> io::Result<()> {
    let request = make(number);
    let asked = Stopwatch::start();
    let status = connection.call(&request).await?.0;
    let latency = asked.elapsed();
    if status == expected {
        latencies.record(latency);
    } else {
        latencies.record_failure(&format!("request {number} was answered {status}, not {expected}"));
    }
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Connections that stay open over several runs, for a bench that asks for a number of
/// requests rather than for a time.
#[derive(Debug)]
pub struct ClosedLoop {
    runtime: Runtime,
    connections: Vec<Connection>,
    sent: u64,
    latencies: Latencies,
}

impl ClosedLoop {
    /// Opens the connections.
    pub fn open(address: SocketAddr, connections: u64) -> io::Result<Self> {
        let runtime = runtime()?;
        let connections = runtime.block_on(async {
            let mut open = Vec::new();
            for _ in 0..connections {
                open.push(Connection::open(address).await?);
            }
            io::Result::Ok(open)
        })?;
        Ok(Self { runtime, connections, sent: 0, latencies: Latencies::default() })
    }

    /// Sends `count` requests over all connections together and returns how long that
    /// took. Fails if an answer has another status than `expected`.
    pub fn send(&mut self, count: u64, expected: u16, make: &MakeRequest) -> io::Result<Duration> {
        let Self { runtime, connections, sent, latencies } = self;
        let step = u64::try_from(connections.len()).unwrap_or(u64::MAX);
        let end = *sent + count;
        runtime.block_on(async {
            let started = Stopwatch::start();
            let mut clients = JoinSet::new();
            for (mut connection, first) in connections.drain(..).zip(*sent..) {
                let make = Arc::clone(make);
                clients.spawn(async move {
                    let (mut latencies, mut number) = (Latencies::default(), first);
                    while number < end {
                        send_one(&mut connection, number, expected, &make, &mut latencies).await?;
                        number += step;
                    }
                    io::Result::Ok((connection, latencies))
                });
            }
            while let Some(ended) = clients.join_next().await {
                let (connection, of_client) = ended??;
                connections.push(connection);
                if let Some(error) = of_client.first_error() {
                    return Err(io::Error::other(error));
                }
                latencies.merge(of_client);
            }
            *sent = end;
            Ok(started.elapsed())
        })
    }

    /// Returns the latencies of all answers so far in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let at = |part| self.latencies.quantile(part);
        format!("P50 {:.1?}, P95 {:.1?}, P99 {:.1?}, worst {:.1?}", at(0.5), at(0.95), at(0.99), at(1.0))
    }
}
