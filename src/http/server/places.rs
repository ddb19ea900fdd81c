//! Places for connections: a bound in all, and one for each address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::api::settings::Limits;

/// Places for connections, in all and by address.
#[derive(Debug, Clone)]
pub(in crate::http) struct Places {
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: usize,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Place {
    _permit: OwnedSemaphorePermit,
    places: Places,
    address: IpAddr,
}

impl Places {
    pub(in crate::http) fn new(limits: &Limits) -> Self {
        let all = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        Self { all, by_address: Arc::default(), per_address: limits.connections_per_address }
    }

    /// A place for a connection from `peer`; `None` over a limit.
    pub(in crate::http) fn take(&self, peer: SocketAddr) -> Option<Place> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let address = peer.ip().to_canonical();
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = by_address.entry(address).or_default();
        if *taken >= self.per_address {
            return None;
        }
        *taken += 1;
        Some(Place { _permit: permit, places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.places.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = by_address.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}
