//! `dats serve`: runs the service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::exit::Failure;
use super::output::line;
use super::signals::{no_runtime, stop_token};
use crate::config::{Config, Flag, LogFormat, LogLevel, Sources, Telemetry};
use crate::service::{Rights, Service, StartError};
use crate::telemetry::{self, Format, Log};

/// Time for the log thread to write its last line before the process exits.
const LOG_FLUSH_TIME: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  dats serve --config /etc/dats/dats.yaml\n  dats serve --listen 127.0.0.1:9000 --data-dir ./data"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Address and port to listen on; overrides `server.listen`.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Replace the copy in the configured database even if it belongs to another data
    /// directory.
    #[arg(long)]
    adopt: bool,
    /// Take over the copy from which this data directory was restored, even if its owner was
    /// active less than a minute ago.
    #[arg(long, conflicts_with = "adopt")]
    take_over: bool,
    /// Start even if the last commit is in the future of the wall clock. Remaining durations
    /// are kept, `not_before` times stay as they are.
    #[arg(long)]
    accept_clock: bool,
}

/// Sources of settings besides the environment.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Settings {
    /// Configuration file; if not given, the built-in defaults apply.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Directory of the store; overrides `engine.data_dir`.
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

impl Settings {
    pub(super) fn sources(&self) -> Sources {
        let mut sources = Sources::of_process(self.config.clone());
        if let Some(directory) = &self.data_dir {
            let value = directory.display().to_string();
            sources.flags.push(Flag { name: "--data-dir", key: "engine.data_dir", value });
        }
        sources
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut sources = arguments.settings.sources();
    if let Some(listen) = &arguments.listen {
        sources.flags.push(Flag { name: "--listen", key: "server.listen", value: listen.clone() });
    }
    let config = Config::load(&sources)?;
    let log = start_log(&config.telemetry);
    let rights =
        Rights { adopt: arguments.adopt, take_over: arguments.take_over, accept_clock: arguments.accept_clock };
    let served = run_service(&config, rights);
    served.map_err(|failure| {
        // Written through the log, which does not block on a stuck reader.
        log.line(&format!("error: {failure}"));
        Failure::Logged(failure.code())
    })
}

fn run_service(config: &Config, rights: Rights) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.server.worker_threads)
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    runtime.block_on(serve(config, rights))
}

async fn serve(config: &Config, rights: Rights) -> Result<(), Failure> {
    let stop = stop_token();
    let service = Service::start_unless(config, rights, &stop).await.map_err(start_failure)?;
    service.watch(end_stalled).map_err(start_failure)?;
    let data_dir = config.engine.data_dir.display();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), address = %service.address(), %data_dir, "serving");
    announce(service.address());
    let ended = service.run(stop).await;
    tracing::info!("stopped");
    ended.map_err(|error| Failure::Store(error.to_string()))
}

/// Prints on stdout that the service is ready. A separate thread does it, because the reader
/// of stdout may be stuck.
fn announce(address: SocketAddr) {
    let ready = move || drop(line(&format!("dats listening on http://{address}")));
    if std::thread::Builder::new().name("dats-ready".to_owned()).spawn(ready).is_err() {
        tracing::warn!(%address, "no thread is available to report on stdout that the service is ready");
    }
}

/// Ends the process because its writer makes no progress. The service manager restarts it,
/// and acknowledged requests are in the journal.
fn end_stalled(stall: &str) {
    tracing::error!(stall, "the service makes no progress and exits");
    // Another thread writes the line. It may be stuck, too, so the wait is limited.
    std::thread::sleep(LOG_FLUSH_TIME);
    std::process::exit(i32::from(Failure::Store(String::new()).code()));
}

/// Converts the reason for which the service did not start.
#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn start_failure(error: StartError) -> Failure {
    let text = error.to_string();
    match error {
        StartError::Config(_) => Failure::Usage(text),
        StartError::Store(_) => Failure::Store(text),
        StartError::Bind { .. } | StartError::NotOwner(_) | StartError::Threads(_) => Failure::Failed(text),
    }
}

/// Libraries whose log lines repeat those of the service: the AMQP client logs a missing queue
/// as an error, the migration library logs each migration.
const SILENCED_LIBRARIES: [&str; 2] = ["lapin", "refinery_core"];

/// Starts the log on stderr. Stdout only gets the line that reports readiness.
pub(super) fn start_log(settings: &Telemetry) -> Log {
    let level = match settings.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let libraries = if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF };
    let directives = SILENCED_LIBRARIES.iter().filter_map(|library| format!("{library}={libraries}").parse().ok());
    let filter = directives.fold(EnvFilter::default().add_directive(level.into()), EnvFilter::add_directive);
    let format = match settings.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    telemetry::start_log(filter, format)
}
