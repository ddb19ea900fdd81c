//! `dats demo`: starts a server with stand-ins for the services around it, submits a few
//! tasks, and prints their steps.

mod show;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::exit::{Failure, warn};
use super::output::{Screen, line};
use super::serve::{start_failure, start_log};
use super::signals::{no_runtime, stop_token};
use crate::client::Client;
use crate::config::{Config, Flag, Sources};
use crate::service::{Rights, Service, StartError};
use crate::telemetry::Log;
use crate::workload::demo::{SCRIPT, rejected_once, start_stand_ins, submit_first, submit_last};
use crate::workload::simulate::{agent, rag};
use crate::workload::{Console, TemporaryDirectory};

/// Port that is tried first.
const DEFAULT_PORT: u16 = 8000;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dats demo --once")]
pub(super) struct Arguments {
    /// Directory of the store; if not given, a temporary one that is removed at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Port to serve on; if not given, 8000, or a free one if that is in use.
    #[arg(long)]
    port: Option<u16>,
    /// End when all tasks have ended, with exit code 1 if one was not completed.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(arguments: &Arguments, screen: &Screen) -> Result<(), Failure> {
    let temporary = TemporaryDirectory::new("dats-demo");
    let directory = arguments.data_dir.as_deref().unwrap_or_else(|| temporary.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)?;
    runtime.block_on(run_demo(arguments, directory, screen))
}

async fn run_demo(arguments: &Arguments, directory: &Path, screen: &Screen) -> Result<(), Failure> {
    let stop = stop_token();
    // Agent and RAG must listen before the server asks them.
    let agent = agent::listen(agent::Settings::for_script(&SCRIPT), Console::SILENT).await?;
    let rag = rag::listen(rag::Settings::without_faults(), Console::SILENT).await?;
    let backends = BackendUrls { agent: agent.url.clone(), rag: rag.url.clone() };
    let (service, _log) = start(arguments, directory, &backends).await?;
    let url = format!("http://{}", service.address());
    line(&format!("dats listening on {url}, data in {}", directory.display()))?;
    line(&format!("it asks an Agent at {} and RAG at {}\n", backends.agent, backends.rag))?;
    // The service stops after its clients, and before the services that it asks.
    let (service_stop, backends_stop) = (CancellationToken::new(), CancellationToken::new());
    let agent = tokio::spawn(agent.run(backends_stop.clone()));
    let rag = tokio::spawn(rag.run(backends_stop.clone()));
    let server = tokio::spawn(service.run(service_stop.clone()));
    let client = Client::new(&url, None).map_err(Failure::Usage)?;
    let played = play(&client, screen, &stop, arguments.once).await;
    service_stop.cancel();
    let ended = match server.await {
        Ok(ended) => ended.map_err(|error| Failure::Store(error.to_string())),
        Err(error) => Err(Failure::Failed(format!("the server stopped: {error}"))),
    };
    backends_stop.cancel();
    // Neither has a result.
    let _ = tokio::join!(agent, rag);
    ended.and(played)
}

/// URLs of the services that the server asks.
struct BackendUrls {
    agent: String,
    rag: String,
}

/// Plays the story, then runs until a stop is requested.
async fn play(client: &Client, screen: &Screen, stop: &CancellationToken, once: bool) -> Result<(), Failure> {
    let stand_ins_stop = stop.child_token();
    let mut stand_ins = JoinSet::new();
    let played = tokio::select! {
        played = play_story(client, screen, &mut stand_ins, &stand_ins_stop, once) => played,
        () = stop.cancelled() => Ok(()),
    };
    if !once && played.is_ok() && !stop.is_cancelled() {
        line("\nthe stand-ins keep running: submit more tasks, or press Ctrl-C to end")?;
        stop.cancelled().await;
    }
    stand_ins_stop.cancel();
    while stand_ins.join_next().await.is_some() {}
    played
}

/// Submits the tasks, starts worker and QA, and prints the steps. With `once`, a task that
/// was not completed is a failure.
async fn play_story(
    client: &Client,
    screen: &Screen,
    stand_ins: &mut JoinSet<()>,
    stop: &CancellationToken,
    once: bool,
) -> Result<(), Failure> {
    // QA needs the ids of the tasks to reject, so the tasks are submitted before it starts.
    let mut tasks = submit_first(client).await?;
    let console = Console { warn, ..Console::SILENT };
    start_stand_ins(client, rejected_once(&tasks), console, stand_ins, stop);
    show::print_steps(client, &tasks).await?;
    // By now the service has finished tasks from which to estimate this one.
    let last = submit_last(client).await?;
    show::print_steps(client, std::slice::from_ref(&last)).await?;
    tasks.push(last);
    show::print_results(client, screen, &tasks).await?;
    if once { show::check_completed(client, &tasks).await } else { show::print_commands(client, &tasks) }
}

/// Starts the service on the requested, the default or a free port.
async fn start(arguments: &Arguments, directory: &Path, backends: &BackendUrls) -> Result<(Service, Log), Failure> {
    let config = config(arguments.port.unwrap_or(DEFAULT_PORT), directory, backends)?;
    let log = start_log(&config.telemetry);
    let started = match Service::start(&config, Rights::default()).await {
        Err(StartError::Bind { .. }) if arguments.port.is_none() => {
            let config = self::config(0, directory, backends)?;
            Service::start(&config, Rights::default()).await.map_err(start_failure)
        }
        started => started.map_err(start_failure),
    };
    Ok((started?, log))
}

/// Returns the default settings with a quiet log, for a port and a directory. The environment
/// is ignored, so that the demo shows the same everywhere.
fn config(port: u16, directory: &Path, backends: &BackendUrls) -> Result<Config, Failure> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let data_dir = directory.display().to_string();
    let flags = vec![
        Flag { name: "--port", key: "server.listen", value: listen },
        Flag { name: "--data-dir", key: "engine.data_dir", value: data_dir },
        Flag { name: "demo", key: "telemetry.log_level", value: "warn".to_owned() },
        Flag { name: "demo", key: "routing.agent_service_url", value: backends.agent.clone() },
        Flag { name: "demo", key: "routing.rag_service_url", value: backends.rag.clone() },
        // A handful of tasks needs no larger cache.
        Flag { name: "demo", key: "engine.store_cache_mib", value: "16".to_owned() },
    ];
    Ok(Config::load(&Sources { flags, ..Sources::default() })?)
}
