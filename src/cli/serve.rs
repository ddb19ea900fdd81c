//! `dats serve`: the service itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::exit::Failure;
use super::output::line;
use super::signals::{no_runtime, stop_token};
use crate::config::{Config, Flag, LogFormat, LogLevel, Sources, Telemetry};
use crate::service::{Rights, Service, StartError};
use crate::telemetry::{self, Format, Log};

/// How long the last line of the log has to be written.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// Address and port to listen on, in place of the configured one.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Write to the configured database although it holds the copy of another
    /// data directory: that copy is replaced by one of this directory.
    #[arg(long)]
    adopt: bool,
    /// Take over the copy that this data directory was restored from, although
    /// the service that owns it was seen less than a minute ago.
    #[arg(long, conflicts_with = "adopt")]
    take_over: bool,
    /// Go on from the wall clock although the last commit lies in its future:
    /// what durations had left is kept, a `not_before` stays as it is.
    #[arg(long)]
    accept_clock: bool,
}

/// Where settings come from; the environment always counts too.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Settings {
    /// File with settings; without one the built-in defaults hold.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Directory of the store, in place of the configured one.
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
        // By the log, which does not wait for a reader that is stuck.
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

/// Says on stdout that the service is ready, on a thread of its own: whoever
/// reads stdout may be stuck, or gone.
fn announce(address: SocketAddr) {
    let ready = move || drop(line(&format!("dats listening on http://{address}")));
    if std::thread::Builder::new().name("dats-ready".to_owned()).spawn(ready).is_err() {
        tracing::warn!(%address, "no thread is left to say on stdout that the service is ready");
    }
}

/// Ends the process whose writer stands still: the service manager starts it
/// again, and what was acknowledged is in the journal.
fn end_stalled(stall: &str) {
    tracing::error!(stall, "the service stands still and ends");
    // The line is written by another thread, which may be stuck too.
    std::thread::sleep(LAST_WORDS);
    std::process::exit(i32::from(Failure::Store(String::new()).code()));
}

/// What a service that does not start is reported as.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(super) fn start_failure(error: StartError) -> Failure {
    let text = error.to_string();
    match error {
        StartError::Config(_) => Failure::Usage(text),
        StartError::Store(_) => Failure::Store(text),
        StartError::Bind { .. } | StartError::NotOwner(_) | StartError::Threads(_) => Failure::Failed(text),
    }
}

/// Libraries whose words are about what we tell of ourselves: that of the broker
/// calls it an error of its own when a queue is not there, that of the migrations
/// announces each of them.
const TOLD_BY_US: [&str; 2] = ["lapin", "refinery_core"];

/// Sends the log to stderr: stdout has the one line that says it is ready.
pub(super) fn start_log(settings: &Telemetry) -> Log {
    let level = match settings.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let libraries = if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF };
    let directives = TOLD_BY_US.iter().filter_map(|library| format!("{library}={libraries}").parse().ok());
    let filter = directives.fold(EnvFilter::default().add_directive(level.into()), EnvFilter::add_directive);
    let format = match settings.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    telemetry::start_log(filter, format)
}
