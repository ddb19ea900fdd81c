//! Limits on open connections: in all, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::Limits;

/// Counts open connections, in all and by address.
#[derive(Debug, Clone)]
pub(in crate::http) struct ConnectionLimiter {
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: usize,
}

/// Permits one connection until it is dropped.
#[derive(Debug)]
pub(in crate::http) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    limiter: ConnectionLimiter,
    address: IpAddr,
}

impl ConnectionLimiter {
    pub(in crate::http) fn new(limits: &Limits) -> Self {
        let all = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        Self { all, by_address: Arc::default(), per_address: limits.connections_per_address }
    }

    /// Permits a connection from `peer`; `None` if that would exceed a limit.
    pub(in crate::http) fn try_acquire(&self, peer: SocketAddr) -> Option<ConnectionPermit> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let address = peer.ip().to_canonical();
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let open = by_address.entry(address).or_default();
        if *open >= self.per_address {
            return None;
        }
        *open += 1;
        Some(ConnectionPermit { _permit: permit, limiter: self.clone(), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut by_address = self.limiter.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = by_address.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}
