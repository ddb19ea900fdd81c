//! A server of the same program as a child process, with a data directory of its own.
//! Both are removed when the handle is dropped.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use super::error::Error;
use crate::client::Client;
use crate::clock::Stopwatch;

/// Longest start, also on the data directory of a killed server.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Beginning of the line with which the server reports that it is ready.
const READY: &str = "dats listening on ";

/// The program of a server, and its settings besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Path of the program; `None` for the one that runs now.
    pub path: Option<PathBuf>,
    /// Environment variables of the server.
    pub environment: Vec<(&'static str, String)>,
}

/// A running server. Fields are dropped in their order: the process before its directory.
#[derive(Debug)]
pub struct PrivateServer {
    process: Process,
    directory: TemporaryDirectory,
    program: Program,
    /// The same for all starts, so that clients find the server again.
    address: SocketAddr,
    /// URL of the server.
    pub url: String,
    /// A client for the server.
    pub client: Client,
}

impl PrivateServer {
    /// Starts a server on a free port and waits until it is ready.
    pub async fn start(program: Program) -> Result<Self, Error> {
        let directory = TemporaryDirectory::new("dats-bench");
        let address = free_address()?;
        let (process, url) = Process::start(&program, address, directory.path()).await?;
        let client = Client::new(&url, None).map_err(Error::Usage)?;
        Ok(Self { process, directory, program, address, url, client })
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Returns the data directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the exit status if the process has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.0.try_wait().ok().flatten()
    }

    /// Ends the process with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the server again on the same data directory and returns how long that took.
    pub async fn restart(&mut self) -> Result<Duration, Error> {
        let started = Stopwatch::start();
        (self.process, self.url) = Process::start(&self.program, self.address, self.directory.path()).await?;
        Ok(started.elapsed())
    }
}

#[derive(Debug)]
struct Process(Child);

impl Process {
    async fn start(program: &Program, address: SocketAddr, directory: &Path) -> Result<(Self, String), Error> {
        let failed = |what: &dyn std::fmt::Display| Error::Failed(format!("can't start a private server: {what}"));
        let child = command(program, address, directory).and_then(|mut command| command.spawn());
        let mut child = child.map_err(|error| failed(&error))?;
        let stdout = child.stdout.take();
        // From here on the process is killed on every return.
        let process = Self(child);
        let line = tokio::task::spawn_blocking(move || stdout.map(first_line));
        let line = timeout(START_TIMEOUT, line)
            .await
            .map_err(|_| failed(&format!("it was not ready within {} s", START_TIMEOUT.as_secs())))?;
        let line = line.ok().flatten().unwrap_or_default();
        match line.trim().strip_prefix(READY) {
            Some(url) => Ok((process, url.to_owned())),
            // The server has written the reason to stderr, which it shares with this process.
            None => Err(failed(&"it ended before it was ready")),
        }
    }

    fn kill(&mut self) {
        // An error means that the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the command of the server. It gets nothing of the user's environment: the server
/// must not reach a database, a broker or an Agent that is configured there.
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

/// Returns a loopback address with a free port.
fn free_address() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map_err(|error| Error::Failed(format!("there is no free port: {error}")))
}

fn first_line(stdout: ChildStdout) -> String {
    let mut line = String::new();
    // An unreadable line is handled like a missing one.
    let _ = BufReader::new(stdout).read_line(&mut line);
    line
}

/// A directory below the system's temporary one that is removed when dropped. Nothing is
/// created before it is used.
#[derive(Debug)]
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    /// Chooses a new name that begins with `prefix`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self(std::env::temp_dir().join(format!("{prefix}-{}", Uuid::now_v7().simple())))
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // What can't be removed stays in the system's temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
