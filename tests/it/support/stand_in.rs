//! The stand-ins for Agent and RAG as child processes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::support::process::BINARY;

/// Longest start on a loaded machine.
const START: Duration = Duration::from_secs(30);

/// A running stand-in; dropping it kills it.
pub(crate) struct StandIn {
    child: Child,
    /// Its address with the base path.
    pub(crate) url: String,
}

impl StandIn {
    /// `dats simulate agent` on a free port.
    pub(crate) fn agent(options: &[&str]) -> Self {
        Self::start("agent", "127.0.0.1:0", options)
    }

    /// `dats simulate rag` on a free port.
    pub(crate) fn rag(options: &[&str]) -> Self {
        Self::start("rag", "127.0.0.1:0", options)
    }

    /// Either of them, on a given address.
    pub(crate) fn start(kind: &str, listen: &str, options: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.env_clear().args(["simulate", kind, "--quiet", "--latency-ms", "1", "--jitter-ms", "0"]);
        command.args(["--listen", listen]).args(options).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (told, lines) = sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = told.send(line);
        });
        let line = lines.recv_timeout(START).unwrap_or_default();
        let mut stand_in = Self { child, url: String::new() };
        let url = line.trim().strip_prefix(kind).and_then(|rest| rest.strip_prefix(" listening on "));
        url.unwrap_or_else(|| panic!("{kind} {options:?} did not start: {line:?}")).clone_into(&mut stand_in.url);
        stand_in
    }

    /// `IP:PORT`, to be started on again.
    pub(crate) fn listen(&self) -> String {
        self.url.trim_start_matches("http://").trim_end_matches("/api/v1").to_owned()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.kill();
    }
}
