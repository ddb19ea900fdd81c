//! A TCP proxy that does to a connection what networks do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What it does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They arrive.
    Pass,
    /// They are taken and go nowhere.
    Swallow,
    /// Connections are closed.
    Refuse,
}

/// A proxy on a port of its own, for as long as it lives.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    mode: watch::Sender<Mode>,
    /// Bytes that may still go to the server, before the connection is cut.
    budget: Arc<AtomicU64>,
}

impl Proxy {
    /// In front of a port of this machine.
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, seen) = watch::channel(Mode::Pass);
        let budget = Arc::new(AtomicU64::new(u64::MAX));
        let shared = budget.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target, seen.clone(), shared.clone()));
            }
        });
        Self { port, mode, budget }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Cuts the connection that sends so many bytes more, once.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::SeqCst);
    }
}

async fn serve(client: TcpStream, target: u16, mode: watch::Receiver<Mode>, budget: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let unlimited = Arc::new(AtomicU64::new(u64::MAX));
    tokio::select! {
        () = copy(from_client, to_server, mode.clone(), budget) => {}
        () = copy(from_server, to_client, mode.clone(), unlimited) => {}
        () = refused(mode) => {}
    }
}

async fn refused(mut mode: watch::Receiver<Mode>) {
    // The proxy may be gone.
    let _ = mode.wait_for(|mode| *mode == Mode::Refuse).await;
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mode: watch::Receiver<Mode>,
    budget: Arc<AtomicU64>,
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut piece).await {
        if count == 0 {
            return;
        }
        if *mode.borrow() == Mode::Swallow {
            continue;
        }
        let size = u64::try_from(count).unwrap();
        let left = budget.load(Ordering::SeqCst);
        if left != u64::MAX && left < size {
            budget.store(u64::MAX, Ordering::SeqCst);
            let _ = to.write_all(&piece[..usize::try_from(left).unwrap()]).await;
            return;
        }
        if left != u64::MAX {
            budget.store(left - size, Ordering::SeqCst);
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
