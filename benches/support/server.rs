//! The service, in this process or as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use dats::clock::Stopwatch;
use dats::config::{Config, Flag, Sources};
use dats::service::{Rights, Service};
use tokio_util::sync::CancellationToken;

/// The service in this process, on a runtime of its own.
#[derive(Debug)]
pub(crate) struct Running {
    /// Address of the service.
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts the service on a data directory, with the default settings.
    pub(crate) fn start(dir: &Path) -> Self {
        let flag = |name, key, value: &str| Flag { name, key, value: value.to_owned() };
        let flags = vec![
            flag("--listen", "server.listen", "127.0.0.1:0"),
            flag("--data-dir", "engine.data_dir", &dir.display().to_string()),
        ];
        let config = Config::load(&Sources { flags, ..Sources::default() }).expect("the default settings");
        let stop = CancellationToken::new();
        let (sender, address) = std::sync::mpsc::channel();
        let token = stop.clone();
        let thread = std::thread::spawn(move || {
            let workers = config.server.worker_threads;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let service = Service::start(&config, Rights::default()).await.expect("a service");
                sender.send(service.address()).expect("a receiver");
                service.run(token).await.expect("a store that holds");
            });
        });
        Self { address: address.recv().expect("an address"), stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The real binary as a child process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Address of the service.
    pub(crate) address: SocketAddr,
    /// Time from the start of the process to its readiness.
    pub(crate) started_in: Duration,
}

impl Process {
    /// Starts the service and waits until it is ready.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// As [`Self::start`], with environment variables.
    pub(crate) fn start_with(dir: &Path, environment: &[(&str, String)]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_dats")), dir, environment)
    }

    /// As [`Self::start_with`], with another binary.
    pub(crate) fn start_program(program: &Path, dir: &Path, environment: &[(&str, String)]) -> Self {
        let started = Stopwatch::start();
        let mut child = Command::new(program)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let started_in = started.elapsed();
        let address = line.trim().strip_prefix("dats listening on http://").and_then(|text| text.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the service did not start: {line}"));
        Self { child, address, started_in }
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory, in MiB.
    pub(crate) fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        kib / 1024
    }

    /// Returns the processor time used so far by all threads.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a running process");
        // The name of the program, in brackets, may contain spaces: fields are counted after it.
        let fields = stat.rsplit_once(')').expect("a name in brackets").1;
        let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        // A tick is 10 ms on every Linux that the service supports (USER_HZ).
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Returns the bytes written to the disk so far, as the system counts them.
    pub(crate) fn bytes_written(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).expect("a running process");
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|text| text.parse().ok()).expect("a count of bytes")
    }
}

impl Drop for Process {
    /// `kill -9`.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
