//! The composition root: opens, spawns and wires the parts, and ends them in
//! order.

mod background;
mod descriptors;
mod directory;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::background::Background;
pub use self::directory::{
    BackupReport, PruneReport, RestoreReport, backup, look_at_copy, prune, require_store, restore, restore_backup,
    verify,
};
use crate::amqp::{self, Broker};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::engine::{self, Engine, WriterThread};
use crate::http::{self, ApiKey, App, Others};
use crate::replica::{self, Ownership, Replicator};
use crate::routing::{self, Driver, Services};
use crate::store::{self, Store};
use crate::task::Now;
use crate::telemetry::{self, Export, NotStarted};
use crate::tls;

/// Largest request head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Longest time in which a client reads nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the writer's thread is looked at.
const WATCH: Duration = Duration::from_millis(100);
const MIB: u64 = 1024 * 1024;

/// The running service.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
    engine: Engine,
    app: Arc<App>,
    /// Without a service to ask there is none.
    driver: Option<Driver>,
    /// Without a broker there is none.
    broker: Option<amqp::Driver>,
    /// Without a database there is none.
    replicator: Option<Replicator>,
    /// Cancelled when another data directory has become the owner of the copy.
    lost: CancellationToken,
    /// Without a collector there is none.
    export: Option<Export>,
    /// Without any of the three there is none.
    background: Option<Background>,
    writer: WriterThread,
}

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting does not fit.
    #[error("{0}")]
    Config(String),
    /// The store can't be opened or read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The system has no thread left.
    #[error("failed to start a thread: {0}")]
    Threads(io::Error),
    /// The copy in the database that the data directory was restored from
    /// can't be taken over.
    #[error("the data directory was restored and can't take over the copy in the database: {0}")]
    NotOwner(replica::Error),
    /// The address can't be listened on.
    #[error("failed to listen on {address}: {source}")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// The store failed while the service ran.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreFailed(#[from] store::Error);

impl Service {
    /// Opens the store, recovers the state and binds the address. Nothing is
    /// answered before [`Self::run`].
    pub async fn start(config: &Config, rights: Rights) -> Result<Self, StartError> {
        Self::start_unless(config, rights, &CancellationToken::new()).await
    }

    /// As [`Self::start`]. On a disk without room for what the journal has, the
    /// start waits for room until `stop` is cancelled, and fails then.
    pub async fn start_unless(config: &Config, rights: Rights, stop: &CancellationToken) -> Result<Self, StartError> {
        let address = config.server.listen;
        let failed = |source| StartError::Bind { address, source };
        // First the address: a second service must not touch the first one's data.
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let clock = Clock::new();
        let copy = config.storage.replica(rights.adopt);
        let routing = config.routing.settings();
        let is_wanted = copy.is_some() || config.events.rabbitmq.is_some() || config.telemetry.traces().is_some();
        let background = is_wanted.then(Background::new).transpose().map_err(StartError::Threads)?;
        let export = start_export(config, background.as_ref(), &clock)?;
        let tracer = export.as_ref().map(|export| export.tracer().clone());
        let services = Arc::new(services(&routing, &clock)?.traced(tracer.as_ref()));
        let (engine, writer) = open_engine(config, &clock, rights.accept_clock, stop)?;
        let ownership = match own(config, copy.clone(), &engine, (address, rights.take_over)).await {
            Ok(ownership) => ownership,
            Err(error) => {
                writer.stop()?;
                return Err(StartError::NotOwner(error));
            }
        };
        let asked = routing.agent.is_some() || routing.rag.is_some();
        let driver = asked.then(|| Driver::new(engine.clone(), services.clone(), &routing, clock.clone()));
        let lost = ownership.lost();
        let replicator = copy.map(|settings| Replicator::new(engine.clone(), settings, ownership, clock.clone()));
        let broker = config.events.rabbitmq.as_ref().map(|settings| {
            let broker = Arc::new(Broker::new(format!("{}:{}", settings.host, settings.port), clock.clone()));
            let driver = amqp::Driver::new(engine.clone(), settings.clone(), broker.clone(), clock.clone());
            (driver.traced(tracer.as_ref()), broker)
        });
        let (broker, shown) = broker.unzip();
        let replica = replicator.as_ref().map(Replicator::status);
        let described = config.described_broker();
        let others = Others { services, broker: shown, described, replica, tracer };
        let app =
            App::new(engine.clone(), others, http_settings(config, address), clock).map_err(StartError::Threads)?;
        Ok(Self { listener, address, engine, app, driver, broker, replicator, lost, export, background, writer })
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Watches the threads that everything waits for. `on_stall` is called with
    /// where each stands when one of them makes no progress any more: it is
    /// expected to end the process.
    pub fn watch(&self, on_stall: impl FnOnce(&str) + Send + 'static) -> Result<(), StartError> {
        self.engine.watch(on_stall).map_err(StartError::Threads)
    }

    /// Serves until `shutdown`, then drains: requests under way are answered,
    /// what they changed is committed, the store is closed. An error is one
    /// of the store, after which nothing more is acknowledged.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreFailed> {
        let Self { listener, app, driver, broker, replicator, lost, export, background, writer, .. } = self;
        let stop = shutdown.child_token();
        // Ends what works for tasks, where they are another directory's now.
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
            () = ended(&writer) => true,
        };
        stop.cancel();
        // It ends by itself within the drain timeout; a panic of it was logged.
        let _ = server.await;
        if let Some(driver) = driver {
            // What was under way is handed out again after the next start.
            let _ = driver.await;
        }
        if let Some(broker) = broker {
            // What was not confirmed is published again after the next start.
            let _ = broker.await;
        }
        // Beside the end of the writer, which waits for no collector.
        let export = export.map(|export| tokio::task::spawn_blocking(move || export.stop()));
        let writer = tokio::task::spawn_blocking(move || if failed { writer.join() } else { writer.stop() });
        let ended = writer.await;
        // From here on nothing changes by itself, either: the copy can have all.
        drained.cancel();
        if let Some(replicator) = replicator {
            // What it has not copied is copied after the next start.
            let _ = replicator.await;
        }
        if let Some(export) = export {
            // What was not sent was told of.
            let _ = export.await;
        }
        match ended {
            Ok(result) => Ok(result?),
            Err(_) => Ok(()),
        }
    }
}

/// What a start may do with a copy in the database that is another data directory's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    /// Replace it by a copy of this one, whoever owns it.
    pub adopt: bool,
    /// Take over the one that this directory was restored from, although its
    /// owner is alive.
    pub take_over: bool,
    /// Go on from the wall clock although the last commit lies in its future.
    pub accept_clock: bool,
}

/// The part of the data directory in the copy. One that was restored takes the
/// copy over first.
async fn own(
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
        tracing::warn!(%error, "the copy is taken over as soon as the database is there");
    }
    Ok(ownership)
}

/// The address for others: the name of the machine, where it listens on all of its addresses.
fn reachable(address: SocketAddr) -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => address.to_string(),
        name if address.ip().is_unspecified() => format!("{name}:{}", address.port()),
        name => format!("{address} on {name}"),
    }
}

/// The way to the collector, where one is configured.
fn start_export(config: &Config, threads: Option<&Background>, clock: &Clock) -> Result<Option<Export>, StartError> {
    let Some((settings, runtime)) = exporting(&config.telemetry).zip(threads.and_then(Background::handle)) else {
        return Ok(None);
    };
    let export = Export::start(settings, runtime, clock.clone());
    export.map(Some).map_err(|error| match error {
        NotStarted::Encryption(error) => nobody_to_believe("telemetry.ca_file", error),
        error @ NotStarted::Library(_) => StartError::Config(error.to_string()),
    })
}

fn exporting(settings: &config::Telemetry) -> Option<telemetry::Settings> {
    let (endpoint, path) = settings.traces()?;
    let (ca_file, service_name) = (settings.ca_file.clone(), settings.service_name.clone());
    let version = env!("CARGO_PKG_VERSION");
    Some(telemetry::Settings { endpoint: endpoint.clone(), path, ca_file, service_name, version })
}

/// Whether what the settings name outside of them, such as files, is of use.
pub fn check(config: &Config) -> Result<(), StartError> {
    services(&config.routing.settings(), &Clock::new())?;
    let Some(settings) = exporting(&config.telemetry) else { return Ok(()) };
    settings.encryption().map(drop).map_err(|error| nobody_to_believe("telemetry.ca_file", error))
}

fn services(settings: &routing::Settings, clock: &Clock) -> Result<Services, StartError> {
    Services::new(settings, clock).map_err(|error| nobody_to_believe("routing.ca_file", error))
}

/// `key` names the file of the authorities.
fn nobody_to_believe(key: &str, error: tls::Error) -> StartError {
    StartError::Config(match error {
        tls::Error::File { path, reason } => format!(
            "{key} can't be {:?}: expected a file with certificates of authorities (PEM), but {reason}",
            path.display().to_string()
        ),
        tls::Error::Nobody(_) => format!(
            "{key} can't be null: expected a file with certificates of authorities (PEM), since the system knows none \
             and an address is https://"
        ),
        error @ tls::Error::Setup(_) => error.to_string(),
    })
}

/// Opens the store of a stopped service, which is made where there is none,
/// and starts its engine, with nothing around it.
pub fn open(config: &Config) -> Result<(Engine, WriterThread), StartError> {
    Ok(open_engine(config, &Clock::new(), false, &CancellationToken::new())?)
}

fn open_engine(
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
    // A new store has nothing to go on from.
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

/// Completes when the writer has ended by itself.
async fn ended(writer: &WriterThread) {
    while !writer.is_finished() {
        tokio::time::sleep(WATCH).await;
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn engine_settings(config: &Config) -> engine::Settings {
    let tasks = &config.task_management;
    engine::Settings {
        policy: config.policy(),
        router: config.routing.router.clone(),
        tiers: config.routing.tiers.clone(),
        default_priority: tasks.default_priority,
        default_qa_profile: tasks.qa_profile_default.clone(),
        default_timeout_seconds: u32::try_from(tasks.timeout_default.as_secs()).unwrap_or(u32::MAX),
        default_max_attempts: tasks.max_attempts_default,
        max_concurrent: tasks.max_concurrent_per_project,
        aging: tasks.aging,
        queue_capacity: config.engine.queue_capacity,
        group_max: config.engine.group_commit_max,
        hot_bytes: to_usize(config.engine.hot_tasks_bytes),
        retention: config.engine.retention,
        idempotency: config.engine.idempotency,
        idempotency_max_keys: to_usize(config.engine.idempotency_max_keys),
        max_projects: to_usize(config.engine.max_projects),
        dedup_window: config.events.dedup_window,
        dedup_max_ids: to_usize(config.events.dedup_max_ids),
        log_retention: config.events.retention,
        log_readers: config.events.rabbitmq.iter().map(|_| amqp::READER.to_owned()).collect(),
        min_free_mib: config.engine.min_free_disk_bytes / MIB,
        checkpoints: engine::CheckpointRules {
            every_tasks: config.engine.checkpoint_tasks,
            every: config.engine.checkpoint_every,
            kept: config.engine.checkpoints_kept,
        },
    }
}

fn http_settings(config: &Config, address: SocketAddr) -> http::Settings {
    let server = &config.server;
    let shares = descriptors::share(server.max_connections);
    http::Settings {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        service_name: config.telemetry.service_name.clone(),
        tiers: config.routing.tiers.clone(),
        api_key: config.security.api_key.as_ref().map(|key| ApiKey::new(key.expose())),
        allowed_hosts: server.allowed_hosts.clone(),
        is_loopback: address.ip().to_canonical().is_loopback(),
        lease_default: config.task_management.lease_default,
        lease_max: config.task_management.lease_max,
        heartbeat: config.events.heartbeat,
        limits: http::Limits {
            connections: shares.connections,
            reserve: shares.reserve,
            connections_per_address: server.max_connections_per_address,
            streams: server.max_streams,
            head_bytes: MAX_HEAD_BYTES,
            body_bytes: server.max_body_bytes,
            head_timeout: server.header_timeout,
            body_timeout: server.body_timeout,
            walk_timeout: server.walk_timeout,
            write_timeout: WRITE_TIMEOUT,
            drain_timeout: server.drain_timeout,
        },
    }
}
