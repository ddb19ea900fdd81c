//! A server of the same binary, as a child process with a directory of its own.
//! Both are gone when it is dropped.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::clock::Stopwatch;

/// Longest start, also over what a killed server left.
const START: Duration = Duration::from_mins(1);
/// What the line begins with that says it is ready.
const READY: &str = "dats listening on ";

/// Which program is the server, and what is set for it besides the defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Program {
    /// Another program than this one.
    pub(super) path: Option<PathBuf>,
    /// Settings by their names in the environment.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// The server. Fields are dropped in this order: the process first.
#[derive(Debug)]
pub(super) struct Private {
    process: Process,
    directory: Directory,
    program: Program,
    /// The same over all starts, so that clients find it again.
    address: SocketAddr,
    /// Where it listens now.
    pub(super) url: String,
    pub(super) client: Client,
}

impl Private {
    /// Starts one on a free port.
    pub(super) async fn start(program: Program) -> Result<Self, Failure> {
        let directory = Directory(std::env::temp_dir().join(format!("dats-bench-{}", Uuid::now_v7().simple())));
        let address = free_address()?;
        let (process, url) = Process::start(&program, address, &directory.0).await?;
        let client = Client::new(&url, None).map_err(Failure::Usage)?;
        Ok(Self { process, directory, program, address, url, client })
    }

    /// The id of its process.
    pub(super) fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Its data directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// How it ended, if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.0.try_wait().ok().flatten()
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        self.process.end();
    }

    /// Starts it again over what it left; how long that took.
    pub(super) async fn start_again(&mut self) -> Result<Duration, Failure> {
        let started = Stopwatch::start();
        (self.process, self.url) = Process::start(&self.program, self.address, &self.directory.0).await?;
        Ok(started.elapsed())
    }
}

#[derive(Debug)]
struct Process(Child);

impl Process {
    async fn start(program: &Program, address: SocketAddr, directory: &Path) -> Result<(Self, String), Failure> {
        let failed = |what: &dyn std::fmt::Display| Failure::Failed(format!("can't start a server of its own: {what}"));
        let child = command(program, address, directory).and_then(|mut command| command.spawn());
        let mut child = child.map_err(|error| failed(&error))?;
        let stdout = child.stdout.take();
        // From here on it is ended however this ends.
        let process = Self(child);
        let line = tokio::task::spawn_blocking(move || stdout.map(first_line));
        let line = timeout(START, line).await.map_err(|_| failed(&format!("not ready in {} s", START.as_secs())))?;
        let line = line.ok().flatten().unwrap_or_default();
        match line.trim().strip_prefix(READY) {
            Some(url) => Ok((process, url.to_owned())),
            // Why, it has said on stderr, which is also ours.
            None => Err(failed(&"it ended before it was ready")),
        }
    }

    fn end(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// With nothing of the user's environment: a database, a broker or an Agent that
/// is configured there must not hear of it.
fn command(program: &Program, address: SocketAddr, directory: &Path) -> std::io::Result<Command> {
    let path = match &program.path {
        Some(path) => path.clone(),
        None => std::env::current_exe()?,
    };
    let mut command = Command::new(path);
    command.env_clear().env("DATS__TELEMETRY__LOG_LEVEL", "warn");
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.args(["serve", "--listen", &address.to_string(), "--data-dir"]).arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// An address that nobody listens on.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map_err(|error| Failure::Failed(format!("there is no free port: {error}")))
}

fn first_line(stdout: ChildStdout) -> String {
    let mut line = String::new();
    // What can't be read is not there.
    let _ = BufReader::new(stdout).read_line(&mut line);
    line
}

/// A directory that is removed at the end.
#[derive(Debug)]
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What can't be removed is in the system's directory for that.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
