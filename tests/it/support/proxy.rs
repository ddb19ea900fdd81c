//! A TCP proxy that does to connections what networks do: it passes them on,
//! delays, holds everything back, resets, refuses, or cuts after so many bytes.
//! It runs on a thread of its own, for tests of any kind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What happens to what is sent, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// It is passed on.
    Pass,
    /// It is passed on later.
    Delay(Duration),
    /// It is held back; the connection stays.
    Hold,
    /// It is taken and goes nowhere.
    Swallow,
    /// Connections are reset, new ones at once.
    Refuse,
}

#[derive(Debug, Clone, Copy)]
struct State {
    traffic: Traffic,
    /// More connections than this at once are reset.
    most: usize,
    /// Connections of an earlier generation are reset.
    generation: u64,
}

/// The proxy; dropping it ends every connection.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    left: Arc<AtomicU64>,
}

impl Proxy {
    /// A proxy in front of `target`.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (state, watching) = watch::channel(State { traffic: Traffic::Pass, most: usize::MAX, generation: 0 });
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let counter = left.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, target, watching, counter));
        });
        Self { address, state, left }
    }

    /// From now on this happens to what is sent.
    pub(crate) fn traffic(&self, traffic: Traffic) {
        self.state.send_modify(|state| {
            state.traffic = traffic;
            state.generation += u64::from(traffic == Traffic::Refuse);
        });
    }

    /// No more connections than this at once, from the next one on.
    pub(crate) fn at_most(&self, connections: usize) {
        self.state.send_modify(|state| state.most = connections);
    }

    /// Resets every connection there is.
    pub(crate) fn reset(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Cuts the connection over which the byte after so many more goes to the
    /// target, in the middle of whatever that is. Once.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.left.store(bytes, Ordering::SeqCst);
    }
}

async fn serve(
    listener: std::net::TcpListener,
    target: SocketAddr,
    mut state: watch::Receiver<State>,
    left: Arc<AtomicU64>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut carried = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = carried.join_next() => continue,
            changed = state.changed() => if changed.is_err() { return } else { continue },
        };
        let Ok((client, _)) = accepted else { continue };
        let State { traffic, most, .. } = *state.borrow();
        if traffic == Traffic::Refuse || carried.len() >= most {
            let _ = client.set_zero_linger();
            continue;
        }
        carried.spawn(carry(client, target, state.clone(), left.clone()));
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>, left: Arc<AtomicU64>) {
    let generation = state.borrow().generation;
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let unlimited = AtomicU64::new(u64::MAX);
    {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::select! {
            () = pass(from_client, to_server, state.clone(), &left) => {}
            () = pass(from_server, to_client, state.clone(), &unlimited) => {}
            _ = state.wait_for(|state| state.generation != generation) => {}
        }
    }
    // Whoever closes, the other side learns it the hard way.
    let _ = (client.set_zero_linger(), server.set_zero_linger());
}

async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut state: watch::Receiver<State>, left: &AtomicU64) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let traffic = state.borrow_and_update().traffic;
        match traffic {
            Traffic::Delay(time) => sleep(time).await,
            Traffic::Swallow => continue,
            Traffic::Pass | Traffic::Hold | Traffic::Refuse => {}
        }
        if state.wait_for(|state| state.traffic != Traffic::Hold).await.is_err() {
            return;
        }
        let allowed = take(left, count);
        if to.write_all(&buffer[..allowed]).await.is_err() || allowed < count {
            return;
        }
    }
}

/// Takes so many bytes of what is left before the cut; how many there were.
/// After the cut there is no limit any more.
fn take(left: &AtomicU64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap();
    let mut allowed = count;
    let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        if left == u64::MAX {
            allowed = count;
            return None;
        }
        allowed = count.min(left);
        Some(if allowed < count { u64::MAX } else { left - allowed })
    });
    usize::try_from(allowed).unwrap()
}
