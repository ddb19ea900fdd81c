//! The running service, from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::backends::{services, start_export};
use super::background::Background;
use super::error::{StartError, StoreFailed};
use super::open::open_engine;
use super::settings::http_settings;
use crate::amqp::{self, Broker};
use crate::clock::Clock;
use crate::config::Config;
use crate::engine::{Engine, WriterThread};
use crate::http::{self, App, Backends};
use crate::replica::{self, Ownership, Replicator};
use crate::routing::Driver;
use crate::telemetry::Export;

/// How often the writer's thread is checked.
const POLL: Duration = Duration::from_millis(100);

/// The running service.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
    engine: Engine,
    app: Arc<App>,
    /// `None` without Agent and RAG.
    driver: Option<Driver>,
    /// `None` without a broker.
    broker: Option<amqp::Driver>,
    /// `None` without a database.
    replicator: Option<Replicator>,
    /// Cancelled when another data directory becomes the owner of the copy.
    lost: CancellationToken,
    /// `None` without a collector.
    export: Option<Export>,
    /// `None` without broker, database and collector.
    background: Option<Background>,
    writer: WriterThread,
}

impl Service {
    /// Opens the store, recovers the state and binds the address. Requests are answered once
    /// [`Self::run`] is called.
    pub async fn start(config: &Config, rights: Rights) -> Result<Self, StartError> {
        Self::start_unless(config, rights, &CancellationToken::new()).await
    }

    /// As [`Self::start`]. If the disk has no room to apply the journal, waits for room until
    /// `stop` is cancelled, and then fails.
    pub async fn start_unless(config: &Config, rights: Rights, stop: &CancellationToken) -> Result<Self, StartError> {
        let address = config.server.listen;
        let failed = |source| StartError::Bind { address, source };
        // Binds before opening the store, so that a second service does not touch the data.
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let clock = Clock::new();
        let copy = config.storage.replica(rights.adopt);
        let routing = config.routing.settings();
        let needs_background =
            copy.is_some() || config.events.rabbitmq.is_some() || config.telemetry.traces().is_some();
        let background = needs_background.then(Background::new).transpose().map_err(StartError::Threads)?;
        let export = start_export(config, background.as_ref(), &clock)?;
        let tracer = export.as_ref().map(|export| export.tracer().clone());
        let services = Arc::new(services(&routing, &clock)?.traced(tracer.as_ref()));
        let (engine, writer) = open_engine(config, &clock, rights.accept_clock, stop)?;
        let ownership = match claim_copy(config, copy.clone(), &engine, (address, rights.take_over)).await {
            Ok(ownership) => ownership,
            Err(error) => {
                writer.stop()?;
                return Err(StartError::NotOwner(error));
            }
        };
        let has_backends = routing.agent.is_some() || routing.rag.is_some();
        let driver = has_backends.then(|| Driver::new(engine.clone(), services.clone(), &routing, clock.clone()));
        let lost = ownership.lost();
        let replicator = copy.map(|settings| Replicator::new(engine.clone(), settings, ownership, clock.clone()));
        let broker = config.events.rabbitmq.as_ref().map(|settings| {
            let broker = Arc::new(Broker::new(format!("{}:{}", settings.host, settings.port), clock.clone()));
            let driver = amqp::Driver::new(engine.clone(), settings.clone(), broker.clone(), clock.clone());
            (driver.with_tracer(tracer.as_ref()), broker)
        });
        let (broker, shown) = broker.unzip();
        let replica = replicator.as_ref().map(Replicator::status);
        let described = config.described_broker();
        let backends = Backends { services, broker: shown, described, replica, tracer };
        let app = http::build(engine.clone(), backends, http_settings(config, address), clock)
            .map_err(StartError::Threads)?;
        Ok(Self { listener, address, engine, app, driver, broker, replicator, lost, export, background, writer })
    }

    /// Returns the address on which the service listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Watches the threads of the engine. When one makes no progress any more, `on_stall` is
    /// called with the position of each thread; it is expected to end the process.
    pub fn watch(&self, on_stall: impl FnOnce(&str) + Send + 'static) -> Result<(), StartError> {
        self.engine.watch(on_stall).map_err(StartError::Threads)
    }

    /// Serves until `shutdown`, then drains: requests under way are answered, their changes are
    /// committed, and the store is closed. After an error of the store, nothing more is
    /// acknowledged.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreFailed> {
        let Self { listener, app, driver, broker, replicator, lost, export, background, writer, .. } = self;
        let stop = shutdown.child_token();
        // Stops the work on tasks when another data directory becomes their owner.
        let work = stop.child_token();
        let lose = work.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = lost.cancelled() => lose.cancel(),
                () = lose.cancelled() => {}
            }
        });
        let drained = CancellationToken::new();
        let replicator = replicator
            .zip(background.as_ref())
            .and_then(|(replicator, threads)| threads.spawn(replicator.run(drained.clone())));
        let driver = driver.map(|driver| tokio::spawn(driver.run(work.clone())));
        let broker =
            broker.zip(background.as_ref()).and_then(|(broker, threads)| threads.spawn(broker.run(work.clone())));
        let server = tokio::spawn(http::serve(listener, app, stop.clone()));
        let failed = tokio::select! {
            () = shutdown.cancelled() => false,
            () = wait_for_end(&writer) => true,
        };
        stop.cancel();
        // It ends within the drain timeout; a panic in it was logged.
        let _ = server.await;
        if let Some(driver) = driver {
            // Requests under way are repeated after the next start.
            let _ = driver.await;
        }
        if let Some(broker) = broker {
            // Unconfirmed events are published again after the next start.
            let _ = broker.await;
        }
        // In parallel with the end of the writer, which must not wait for a collector.
        let export = export.map(|export| tokio::task::spawn_blocking(move || export.stop()));
        let writer = tokio::task::spawn_blocking(move || if failed { writer.join() } else { writer.stop() });
        let ended = writer.await;
        // The state does not change any more, so the copy can become complete.
        drained.cancel();
        if let Some(replicator) = replicator {
            // Changes that it has not copied are copied after the next start.
            let _ = replicator.await;
        }
        if let Some(export) = export {
            // Spans that were not sent were logged.
            let _ = export.await;
        }
        match ended {
            Ok(result) => Ok(result?),
            Err(_) => Ok(()),
        }
    }
}

/// What the user has permitted for a start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    /// Replace a copy in the database that belongs to another data directory.
    pub adopt: bool,
    /// Take over the copy from which the directory was restored, even if its owner is active.
    pub take_over: bool,
    /// Start even if the last commit is in the future of the wall clock.
    pub accept_clock: bool,
}

/// Returns the ownership of the copy by the data directory. A restored directory takes the copy
/// over first.
async fn claim_copy(
    config: &Config,
    copy: Option<replica::Settings>,
    engine: &Engine,
    (address, take_over): (SocketAddr, bool),
) -> Result<Ownership, replica::Error> {
    let ownership = Ownership::of_directory(&config.engine.data_dir, reachable(address), take_over)?;
    if let Some(settings) = copy.filter(|settings| !settings.adopt)
        && let Err(error) = replica::take_over(engine, settings, &ownership).await
    {
        let is_away = matches!(error, replica::Error::Away(_) | replica::Error::Slow(_));
        if !(take_over && is_away) {
            return Err(error);
        }
        tracing::warn!(%error, "the copy is taken over once the database is reachable");
    }
    Ok(ownership)
}

/// Returns the address for messages to operators, with the name of the machine.
fn reachable(address: SocketAddr) -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => address.to_string(),
        name if address.ip().is_unspecified() => format!("{name}:{}", address.port()),
        name => format!("{address} on {name}"),
    }
}

/// Waits until the writer has ended by itself.
async fn wait_for_end(writer: &WriterThread) {
    while !writer.is_finished() {
        tokio::time::sleep(POLL).await;
    }
}
