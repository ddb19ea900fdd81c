//! Opens the store and starts its engine.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::error::StartError;
use super::settings::{engine_settings, to_usize};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::{Engine, WriterThread};
use crate::store::{self, Store};
use crate::task::Now;

/// Opens the store of a stopped service, or creates it, and starts its engine without any
/// other part of the service.
pub fn open(config: &Config) -> Result<(Engine, WriterThread), StartError> {
    Ok(open_engine(config, &Clock::new(), false, &CancellationToken::new())?)
}

/// Opens the store and starts its engine. With `accept_clock`, a last commit in the future of
/// the wall clock is accepted.
pub(super) fn open_engine(
    config: &Config,
    clock: &Clock,
    accept_clock: bool,
    stop: &CancellationToken,
) -> Result<(Engine, WriterThread), store::Error> {
    let cache_bytes = to_usize(config.engine.store_cache_bytes);
    let stop = stop.clone();
    let is_stopped = Arc::new(move || stop.is_cancelled());
    let (dir, verify) = (&config.engine.data_dir, config.engine.verify_at_start);
    let store = Store::open_for_service(dir, cache_bytes, verify, is_stopped)?;
    // A new store has no last commit.
    let last = store.view()?.clocks()?.last;
    if last != Now::default() {
        if !accept_clock {
            store.check_clock(clock.wall())?;
        }
        clock.resume(last);
        store.accept_clock(clock.now())?;
    }
    store.list_changes(config.storage.replica(false).is_some(), clock.now())?;
    Engine::start(store, engine_settings(config), clock)
}
