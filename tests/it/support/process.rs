//! The real binary as a child process: on a free port, with a data directory
//! of its own, and never left behind, however a test ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_dats");
/// Longest start, under strace on a loaded machine.
const START: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(5);

/// How to start a server: kept over restarts, so that they find the same data.
#[derive(Clone)]
pub(crate) struct Setup {
    home: Arc<TempDir>,
    environment: Vec<(String, String)>,
    listen: String,
    wrapper: Vec<String>,
    flags: Vec<String>,
    /// The data directory, where it is not below `home`.
    data: Option<PathBuf>,
}

/// A server that ended before it was ready.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How; a code, unless a signal ended it.
    pub(crate) status: ExitStatus,
    /// What it said.
    pub(crate) stderr: String,
}

impl Setup {
    /// A fresh data directory and the default settings.
    pub(crate) fn new() -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let listen = "127.0.0.1:0".to_owned();
        Self { home, environment: Vec::new(), listen, wrapper: Vec::new(), flags: Vec::new(), data: None }
    }

    /// With one setting, such as `DATS__SERVER__DRAIN_TIMEOUT_SECONDS`.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// On a fixed address.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Run by another program, such as strace.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// With a flag of `dats serve`.
    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// With the data directory elsewhere.
    pub(crate) fn data_in(mut self, directory: &Path) -> Self {
        self.data = Some(directory.to_owned());
        self
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| self.home.path().join("data"))
    }

    /// A path beside the data directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Everything the servers of this setup have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.beside("stderr")).unwrap_or_default()
    }

    /// Starts a server and waits until it is ready.
    pub(crate) fn try_start(&self) -> Result<Server, Ended> {
        self.try_start_with(File::options().create(true).append(true).open(self.beside("stderr")).unwrap())
    }

    /// Starts a server that logs to `log` and waits until it is ready.
    pub(crate) fn start_with(&self, log: impl Into<Stdio>) -> Server {
        self.try_start_with(log).unwrap_or_else(|ended| panic!("{}", ended.status))
    }

    fn try_start_with(&self, log: impl Into<Stdio>) -> Result<Server, Ended> {
        let mut words = self.wrapper.iter().map(String::as_str).chain([BINARY]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(["serve", "--listen", &self.listen, "--data-dir"])
            .arg(self.data_dir())
            .args(&self.flags);
        clean(&mut command).envs(self.environment.iter().cloned());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut server = Server { child, address: String::new(), is_wrapped: !self.wrapper.is_empty() };
        let (told, lines) = sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = told.send(line);
        });
        let line = lines.recv_timeout(START).expect("neither ready nor ended in time");
        match line.trim().strip_prefix("dats listening on http://") {
            Some(address) => {
                address.clone_into(&mut server.address);
                Ok(server)
            }
            None => Err(Ended { status: server.wait(START), stderr: self.log() }),
        }
    }

    /// As [`Self::try_start`], where it must become ready.
    pub(crate) fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|ended| panic!("{}: {}", ended.status, ended.stderr))
    }
}

/// Only what a test sets may reach a child, and the fault that is planted in all.
fn clean(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let planted = std::env::var_os("DATS_PLANTED").map(|name| ("DATS_PLANTED", name));
    command.env_clear().env("PATH", path).env("RUST_BACKTRACE", "1").envs(planted)
}

/// A running server; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    /// `IP:PORT`.
    pub(crate) address: String,
    is_wrapped: bool,
}

impl Server {
    /// `kill -9`, and wait until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.is_wrapped {
            self.signal("KILL");
        } else {
            let _ = self.child.kill();
        }
        let _ = self.wait(Duration::from_secs(10));
    }

    /// Sends a signal to the server itself, not to what it runs under.
    pub(crate) fn signal(&self, name: &str) {
        for pid in self.pids() {
            let _ = Command::new("kill").args([&format!("-{name}"), &pid]).stderr(Stdio::null()).status();
        }
    }

    /// The ids of the processes that serve.
    pub(crate) fn pids(&self) -> Vec<String> {
        let id = self.child.id();
        if !self.is_wrapped {
            return vec![id.to_string()];
        }
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        wait(&mut self.child, patience)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child, patience: Duration) -> ExitStatus {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process did not end within {patience:?}");
        std::thread::sleep(POLL);
    }
}

/// What a command of the command line did.
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

/// A command that runs beside a test, killed when dropped.
pub(crate) struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a command that does not end by itself.
pub(crate) fn beside(server: &str, arguments: &[&str]) -> Beside {
    Beside(command(server, arguments).stdout(Stdio::null()).spawn().unwrap())
}

/// Runs a command against `server`, with more environment; it must end by
/// itself.
pub(crate) fn run(server: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = command(server, arguments);
    command.envs(environment.iter().copied());
    ran(&mut command)
}

/// The same where no server is named.
pub(crate) fn run_in(environment: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = command("", arguments);
    command.env_remove("DATS_URL").envs(environment.iter().copied());
    ran(&mut command)
}

fn ran(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } =
        output(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

fn command(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    clean(&mut command).args(arguments).env("DATS_URL", format!("http://{server}")).stdin(Stdio::null());
    command
}

/// The output of a child that is killed when it takes too long.
fn output(child: Child) -> Output {
    let pid = child.id().to_string();
    let (done, waiting) = sync_channel::<()>(1);
    let watchdog = std::thread::spawn(move || {
        if waiting.recv_timeout(START) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    let _ = done.send(());
    let _ = watchdog.join();
    output
}
