//! A shell in a directory of its own, in which the commands of a page run.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use regex::Regex;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::process::BINARY;

/// Longest time that one command may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// Encloses the exit code behind the output of a command.
const MARK: char = '\u{1e}';
/// An address of this machine in the text of a page.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"127\.0\.0\.1:(\d{4,5})").unwrap());

/// What a command has printed so far, and the code with which it has ended.
pub(super) struct Ran {
    pub(super) output: String,
    pub(super) code: i32,
}

/// The shell; dropping it ends all that was started in it.
pub(super) struct Session {
    shell: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    directory: TempDir,
    /// Free ports that stand for those of the page.
    ports: BTreeMap<String, u16>,
    commands: usize,
}

impl Session {
    pub(super) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("work")).unwrap();
        let programs = PathBuf::from(BINARY).parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .env_clear()
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("HOME", directory.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(directory.path().join("work"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = shell.stdout.take().unwrap();
        let (sent, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(read @ 1..) = stdout.read(&mut bytes) {
                if sent.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = shell.stdin.take().unwrap();
        let mut session = Self { shell, input, output, directory, ports: BTreeMap::new(), commands: 0 };
        let address = session.resolve("127.0.0.1:8000");
        session.run(&format!("export DATS__SERVER__LISTEN={address} DATS_URL=http://{address}"), |_| true);
        session
    }

    /// Replaces the ports of the page by free ones.
    pub(super) fn resolve(&mut self, text: &str) -> String {
        let replaced = ADDRESS.replace_all(text, |found: &regex::Captures<'_>| {
            let port = self.ports.entry(found[1].to_owned()).or_insert_with(free_port);
            format!("127.0.0.1:{port}")
        });
        replaced.into_owned()
    }

    /// Writes a file into the working directory.
    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join("work").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Runs a command and waits until it has ended and `is_complete` holds for its output:
    /// what a program in the background prints comes later.
    pub(super) fn run(&mut self, command: &str, mut is_complete: impl FnMut(&str) -> bool) -> Ran {
        self.commands += 1;
        let script = self.directory.path().join(format!("command-{}", self.commands));
        std::fs::write(&script, command).unwrap();
        let line = format!("{{ . {}; }} </dev/null 2>&1; printf '{MARK}%d{MARK}' $?\n", script.display());
        self.input.write_all(line.as_bytes()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let (mut bytes, mut ended) = (Vec::new(), None);
        loop {
            let patience = if ended.is_some() { Duration::from_secs(30) } else { PATIENCE };
            match self.output.recv_timeout(patience.min(deadline.duration_since(Instant::now()))) {
                Ok(more) => bytes.extend(more),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let parts: Vec<&str> = text.split(MARK).collect();
            if let [before, code, after] = parts[..] {
                ended = code.parse().ok();
                let output = format!("{before}{after}");
                if is_complete(&output) {
                    return Ran { output, code: ended.unwrap_or(-1) };
                }
                if !command.trim_end().ends_with('&') {
                    break;
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let output = text.split(MARK).enumerate().filter(|(index, _)| *index != 1).map(|(_, part)| part).collect();
        Ran { output, code: ended.unwrap_or(-1) }
    }

    /// Stops all that runs in the background, and waits for its end.
    pub(super) fn stop_jobs(&mut self) {
        self.run("kill $(jobs -p) 2>/dev/null; wait", |_| true);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.input.write_all(b"kill -9 $(jobs -p); exit\n");
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && self.shell.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
