//! A real `RabbitMQ` as a child process, with data, ports, a name and an epmd
//! of its own, and its faults. Nothing of it outlives the tests, however they
//! end: a watchdog waits for their end at the other side of a pipe.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use dats::clock::Stopwatch;
use tempfile::TempDir;

const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
/// Longest start and longest command, on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// Fewer threads and no spinning: tests share the cores.
const ERLANG: &str = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none";

/// Whether `RabbitMQ` is installed. Where it is not, the tests that need it are
/// skipped and say so; the gate requires it.
pub(crate) fn is_installed(test: &str) -> bool {
    let found = Path::new(PROGRAMS).join("rabbitmq-server").exists();
    if !found {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} needs rabbitmq-server, which is missing");
        println!("skipped: {test} needs rabbitmq-server (apt-get install rabbitmq-server)");
    }
    found
}

/// A broker.
pub(crate) struct RabbitMq {
    /// Where it takes connections.
    pub(crate) port: u16,
    dist_port: u16,
    epmd_port: u16,
    home: PathBuf,
    server: Mutex<Option<Child>>,
    epmd: Mutex<Child>,
    watchdog: Mutex<Watchdog>,
    _dir: TempDir,
}

/// The broker that tests share which do no harm to it.
pub(crate) fn shared() -> &'static RabbitMq {
    static SHARED: OnceLock<RabbitMq> = OnceLock::new();
    SHARED.get_or_init(RabbitMq::start)
}

impl RabbitMq {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with a port for encrypted connections, too.
    pub(crate) fn start_encrypted(authority: &Path, certificate: &Path, key: &Path) -> (Self, u16) {
        let [port] = free_ports();
        let settings = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_none\n",
            authority.display(),
            certificate.display(),
            key.display()
        );
        (Self::start_with(&settings), port)
    }

    /// The same that takes no message above a size, in bytes.
    pub(crate) fn start_limited(max_message_bytes: usize) -> Self {
        Self::start_with(&format!("max_message_size = {max_message_bytes}\n"))
    }

    fn start_with(settings: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("dats-rabbitmq-").tempdir().unwrap();
        let home = dir.path().to_owned();
        let settings = format!("disk_free_limit.absolute = 10MB\nheartbeat = 10\n{settings}");
        fs::write(home.join("rabbitmq.conf"), settings).unwrap();
        fs::write(home.join("plugins"), "[].").unwrap();
        let [port, dist_port, epmd_port] = free_ports();
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd comes with RabbitMQ");
        let watchdog = Watchdog::new(epmd.id(), &home);
        let broker = Self {
            port,
            dist_port,
            epmd_port,
            home,
            server: Mutex::new(None),
            epmd: Mutex::new(epmd),
            watchdog: Mutex::new(watchdog),
            _dir: dir,
        };
        broker.run();
        broker
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new(PROGRAMS).join(program));
        let home = |name: &str| self.home.join(name);
        command
            .env_clear()
            // It leaves a dump where it was started when it can not end as it wants.
            .current_dir(&self.home)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("LC_ALL", "C.UTF-8")
            .env("RABBITMQ_NODENAME", format!("dats{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", home("data"))
            .env("RABBITMQ_LOG_BASE", home("log"))
            .env("RABBITMQ_PID_FILE", home("pid"))
            .env("RABBITMQ_CONFIG_FILE", home("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home("plugins"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG)
            .stdin(Stdio::null());
        command
    }

    /// Starts the server again after [`Self::kill`].
    pub(crate) fn run(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(server.is_none(), "it runs");
        let log = fs::File::options().create(true).append(true).open(self.home.join("out")).unwrap();
        let mut command = self.command("rabbitmq-server");
        let errors = log.try_clone().unwrap();
        let child = command.stdout(log).stderr(errors).process_group(0).spawn().unwrap();
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        watchdog.watch(child.id());
        *server = Some(child);
        drop(server);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let started = Stopwatch::start();
        while !self.answers() {
            let said = || fs::read_to_string(self.home.join("out")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "RabbitMQ does not answer: {}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether it speaks its protocol: a port that is open is not enough.
    fn answers(&self) -> bool {
        use std::io::Read;
        let Ok(mut stream) = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut first = [0; 1];
        stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok() && stream.read_exact(&mut first).is_ok() && first == [1]
    }

    /// A command of `rabbitmqctl`, which takes a second or two.
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        let output = self.command("rabbitmqctl").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {said}{complained}");
        said
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = server.take().expect("it runs");
        signal_group(child.id(), "KILL");
        let _ = child.wait();
    }

    /// It hangs: connections stay, nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        signal_group(self.leader(), signal);
    }

    /// The process that leads the group of all that belong to the server.
    pub(crate) fn leader(&self) -> u32 {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().expect("it runs").id()
    }

    /// Says that its memory is used up, or that it is not any more: then it
    /// takes no messages.
    pub(crate) fn alarm(&self, is_on: bool) {
        self.control(&["set_vm_memory_high_watermark", if is_on { "0.00001" } else { "0.4" }]);
    }

    /// Closes every connection.
    pub(crate) fn close_connections(&self) {
        self.control(&["close_all_connections", "a test closes them"]);
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if self.server.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            self.thaw();
            self.kill();
        }
        let mut epmd = self.epmd.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = (epmd.kill(), epmd.wait());
    }
}

/// Sends a signal to the server, which leads a group of its own.
fn signal_group(leader: u32, signal: &str) {
    let group = format!("-{leader}");
    let _ = Command::new("kill").args([&format!("-{signal}"), "--", &group]).stderr(Stdio::null()).status();
}

fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Ends the server and epmd, and removes the files, once the tests have ended
/// and with them our side of the pipe.
struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    fn new(epmd: u32, home: &Path) -> Self {
        let script = format!(
            "while read -r id; do last=$id; done; \
             if [ -n \"$last\" ]; then kill -CONT -$last; kill -KILL -$last; fi 2>/dev/null; \
             kill -KILL {epmd} 2>/dev/null; rm -rf '{}'",
            home.display()
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = shell.process_group(0).spawn().unwrap();
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }

    /// From now on this is the server.
    fn watch(&mut self, server: u32) {
        writeln!(self.pipe.as_mut().expect("it is open"), "{server}").unwrap();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}
