//! `dats demo`: a real server with stand-ins for the services around it, a
//! few real submissions, and their life as it happens.

mod show;
mod story;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::Client;
use super::exit::{Failure, warn};
use super::output::{Screen, line};
use super::serve::{start_failure, start_log};
use super::signals::{no_runtime, stop_token};
use super::simulate::{agent, qa, rag, worker};
use crate::config::{Config, Flag, Sources};
use crate::service::{Rights, Service, StartError};
use crate::telemetry::Log;

/// Port tried first.
const USUAL_PORT: u16 = 8000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Directory of the store; without it a fresh one that is removed at the
    /// end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Port to serve on; without it 8000, or a free one where that is taken.
    #[arg(long)]
    port: Option<u16>,
    /// End when all tasks are done; exit code 1 if one was not completed.
    #[arg(long)]
    once: bool,
}

pub(super) fn run(arguments: &Arguments, screen: &Screen) -> Result<(), Failure> {
    let directory = Directory::new(arguments.data_dir.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)?;
    runtime.block_on(demonstrate(arguments, &directory, screen))
}

async fn demonstrate(arguments: &Arguments, directory: &Directory, screen: &Screen) -> Result<(), Failure> {
    let stop = stop_token();
    // What the server asks must be there before it asks.
    let agent = agent::listen(agent::Arguments::of_script(&story::SCRIPT)).await?;
    let rag = rag::listen(rag::Arguments::sound()).await?;
    let asked = Asked { agent: agent.url.clone(), rag: rag.url.clone() };
    let (service, _log) = start(arguments, directory, &asked).await?;
    let address = service.address();
    let url = format!("http://{address}");
    line(&format!("dats listening on {url}, data in {}", directory.path.display()))?;
    line(&format!("it asks an Agent at {} and RAG at {}\n", asked.agent, asked.rag))?;
    // The service stops after what calls it, and before what it calls.
    let (service_stop, asked_stop) = (CancellationToken::new(), CancellationToken::new());
    let agent = tokio::spawn(agent.run(asked_stop.clone()));
    let rag = tokio::spawn(rag.run(asked_stop.clone()));
    let server = tokio::spawn(service.run(service_stop.clone()));
    let client = Client::new(&url, None).map_err(Failure::Usage)?;
    let played = play(&client, screen, &stop, arguments.once).await;
    service_stop.cancel();
    let ended = match server.await {
        Ok(ended) => ended.map_err(|error| Failure::Store(error.to_string())),
        Err(error) => Err(Failure::Failed(format!("the server stopped: {error}"))),
    };
    asked_stop.cancel();
    // They have nothing to say at their end.
    let _ = tokio::join!(agent, rag);
    ended.and(played)
}

/// Where the services are that the server asks.
struct Asked {
    agent: String,
    rag: String,
}

/// Plays the story, then stays until a stop is asked.
async fn play(client: &Client, screen: &Screen, stop: &CancellationToken, once: bool) -> Result<(), Failure> {
    let stand_ins_stop = stop.child_token();
    let mut stand_ins = JoinSet::new();
    let played = tokio::select! {
        played = tell_story(client, screen, &mut stand_ins, &stand_ins_stop, once) => played,
        () = stop.cancelled() => Ok(()),
    };
    if !once && played.is_ok() && !stop.is_cancelled() {
        line("\nthe stand-ins keep running: submit more, or press Ctrl-C to end")?;
        stop.cancelled().await;
    }
    stand_ins_stop.cancel();
    while stand_ins.join_next().await.is_some() {}
    played
}

/// Submits the story, starts worker and QA and tells what happens. With
/// `once`, a task that was not completed is a failure.
async fn tell_story(
    client: &Client,
    screen: &Screen,
    stand_ins: &mut JoinSet<()>,
    stop: &CancellationToken,
    once: bool,
) -> Result<(), Failure> {
    // Before QA: it is told which task to reject.
    let mut cast = story::open(client).await?;
    start_stand_ins(client, story::rejected_once(&cast), stand_ins, stop);
    show::tell(client, &cast).await?;
    // By now there is something to estimate it from.
    let last = story::close(client).await?;
    show::tell(client, std::slice::from_ref(&last)).await?;
    cast.push(last);
    show::results(client, screen, &cast).await?;
    if once { show::verdict(client, &cast).await } else { show::explore(client, &cast) }
}

fn start_stand_ins(client: &Client, reject_first: BTreeSet<String>, set: &mut JoinSet<()>, stop: &CancellationToken) {
    let worker = worker::Arguments {
        tiers: Vec::new(),
        concurrency: 2,
        latency_ms: 400,
        jitter_ms: 600,
        failure_rate: 0.0,
        seed: 1,
        count: None,
        quiet: true,
    };
    let qa = qa::Arguments {
        latency_ms: 250,
        rejection_rate: 0.0,
        review_rate: 0.0,
        seed: 1,
        after: Some(0),
        quiet: true,
        reject_first,
    };
    set.spawn(complain(worker::run(client.clone(), worker, stop.clone())));
    set.spawn(complain(qa::run(client.clone(), qa, stop.clone())));
}

async fn complain(stand_in: impl Future<Output = Result<(), Failure>>) {
    if let Err(failure) = stand_in.await {
        warn(&format!("a stand-in stopped: {failure}"));
    }
}

/// Starts the service on the asked, the usual or a free port.
async fn start(arguments: &Arguments, directory: &Directory, asked: &Asked) -> Result<(Service, Log), Failure> {
    let first = arguments.port.unwrap_or(USUAL_PORT);
    let config = config(first, directory, asked)?;
    let log = start_log(&config.telemetry);
    let started = match Service::start(&config, Rights::default()).await {
        Err(StartError::Bind { .. }) if arguments.port.is_none() => {
            Service::start(&self::config(0, directory, asked)?, Rights::default()).await.map_err(start_failure)
        }
        started => started.map_err(start_failure),
    };
    Ok((started?, log))
}

/// The defaults, quiet, on this port and directory. The environment is left
/// out: a demo shows the same everywhere.
fn config(port: u16, directory: &Directory, asked: &Asked) -> Result<Config, Failure> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let data_dir = directory.path.display().to_string();
    let flags = vec![
        Flag { name: "--port", key: "server.listen", value: listen },
        Flag { name: "--data-dir", key: "engine.data_dir", value: data_dir },
        Flag { name: "demo", key: "telemetry.log_level", value: "warn".to_owned() },
        Flag { name: "demo", key: "routing.agent_service_url", value: asked.agent.clone() },
        Flag { name: "demo", key: "routing.rag_service_url", value: asked.rag.clone() },
        // What would be wasted on a handful of tasks.
        Flag { name: "demo", key: "engine.store_cache_mib", value: "16".to_owned() },
    ];
    Ok(Config::load(&Sources { flags, ..Sources::default() })?)
}

/// A directory that is removed at the end, unless it was asked for by name.
struct Directory {
    path: PathBuf,
    is_temporary: bool,
}

impl Directory {
    fn new(asked: Option<PathBuf>) -> Self {
        let is_temporary = asked.is_none();
        let fresh = || std::env::temp_dir().join(format!("dats-demo-{}", Uuid::now_v7().simple()));
        Self { path: asked.unwrap_or_else(fresh), is_temporary }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_temporary {
            // What can't be removed is in the system's directory for that.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
