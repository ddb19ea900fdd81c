//! A private Postgres as a child process: under its own user, with a data
//! directory of its own, on a free port of the loopback interface, and gone
//! with the process that runs the tests, however that ends.
//!
//! Tests that leave the server alone share one and get a database each; tests
//! that stop, freeze or fill it start their own.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

/// Who may connect: only over TCP, and with this password.
pub(crate) const USER: &str = "dats";
pub(crate) const PASSWORD: &str = "correct-horse";
const START: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
static DATABASES: AtomicU64 = AtomicU64::new(0);

/// A running server.
pub(crate) struct Postgres {
    /// Before the directory goes: its small disk, if it has one.
    disk: Option<SmallDisk>,
    home: TempDir,
    binaries: PathBuf,
    owner: Option<(u32, u32)>,
    pub(crate) port: u16,
    child: Mutex<Option<Child>>,
}

/// A database of a test.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) server: Arc<Postgres>,
    pub(crate) name: String,
}

/// A database on the shared server; `None`: there is no Postgres here, and
/// the test is skipped. With `CI=true` that is a failure.
pub(crate) async fn database() -> Option<Database> {
    let shared = {
        let mut shared = SHARED.lock().unwrap();
        match shared.upgrade() {
            Some(server) => Some(server),
            None => Postgres::start().map(|server| {
                let server = Arc::new(server);
                *shared = Arc::downgrade(&server);
                server
            }),
        }
    };
    Some(Database::on(shared?).await)
}

/// A database on a server of its own, for tests that break it.
pub(crate) async fn private_database() -> Option<Database> {
    Some(Database::on(Arc::new(Postgres::start()?)).await)
}

/// The same on a disk of its own of so many MiB; `None` also where none can
/// be made.
pub(crate) async fn database_on_small_disk(mib: u32) -> Option<Database> {
    Some(Database::on(Arc::new(Postgres::start_on(Some(mib))?)).await)
}

impl Database {
    /// A new database on a server.
    pub(crate) async fn on(server: Arc<Postgres>) -> Self {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let admin = server.connect("postgres").await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Self { server, name }
    }

    /// The address with its password.
    pub(crate) fn url(&self) -> String {
        self.url_through(self.server.port)
    }

    /// The same through a proxy.
    pub(crate) fn url_through(&self, port: u16) -> String {
        format!("postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/{}?sslmode=disable", self.name)
    }

    /// A connection to it.
    pub(crate) async fn connect(&self) -> Client {
        self.server.connect(&self.name).await
    }

    /// Runs statements.
    pub(crate) async fn execute(&self, sql: &str) {
        self.connect().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The number that a query gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.try_number(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The same, where the tables may not be there yet.
    pub(crate) async fn try_number(&self, sql: &str) -> Result<i64, tokio_postgres::Error> {
        Ok(self.connect().await.query_one(sql, &[]).await?.get(0))
    }
}

impl Postgres {
    /// Makes a data directory and starts a server on it; `None`: it is not
    /// installed.
    fn start() -> Option<Self> {
        Self::start_on(None)
    }

    fn start_on(disk_mib: Option<u32>) -> Option<Self> {
        let Some(binaries) = binaries() else {
            assert!(std::env::var("CI").is_err(), "Postgres is not installed, and CI is set");
            println!("skipped: Postgres is not installed");
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = owner();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::create_dir(home.path().join("data")).unwrap();
        let disk = match disk_mib {
            Some(mib) => Some(SmallDisk::mount(&home.path().join("data"), mib)?),
            None => None,
        };
        let server = Self { disk, home, binaries, owner, port, child: Mutex::new(None) };
        server.initialize();
        server.run();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        self.own(&mut command);
        command
    }

    /// It refuses to run as root.
    pub(crate) fn own(&self, command: &mut Command) {
        command.env("LC_ALL", "C").current_dir(self.home.path());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
    }

    fn initialize(&self) {
        let password = self.home.path().join("password");
        fs::File::create(&password).unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        if let Some((user, group)) = self.owner {
            chown(self.data(), Some(user), Some(group)).unwrap();
            chown(&password, Some(user), Some(group)).unwrap();
        }
        let mut command = self.command("initdb");
        command.args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]);
        command.arg("--no-sync").arg("--pwfile").arg(&password).arg("--pgdata").arg(self.data());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // In the file, where who wants it otherwise can say so.
        let mut settings = fs::File::options().append(true).open(self.data().join("postgresql.conf")).unwrap();
        settings.write_all(b"fsync = off\n").unwrap();
    }

    /// Starts the server. The shell in between ends it when this process is
    /// gone and with it the other end of the pipe.
    pub(crate) fn run(&self) {
        let log = self.home.path().join("log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("sh");
        self.own(&mut command);
        // Again and again: while it starts, it does not listen to the signal.
        let script = "\"$@\" </dev/null & cat >/dev/null; while kill -QUIT $! 2>/dev/null; do sleep 0.1; done";
        command.arg("-c").arg(script).arg("sh");
        command.arg(self.binaries.join("postgres")).arg("-D").arg(self.data());
        for setting in [
            &format!("port={}", self.port),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=16MB",
            "max_connections=100",
        ] {
            command.arg("-c").arg(setting);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.child.lock().unwrap() = Some(child);
    }

    /// A connection as the one user there is.
    pub(crate) async fn connect(&self, database: &str) -> Client {
        let config = format!("host=127.0.0.1 port={} user={USER} password={PASSWORD} dbname={database}", self.port);
        let deadline = Instant::now() + START;
        loop {
            match tokio_postgres::connect(&config, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => {
                    assert!(Instant::now() < deadline, "{error:?}: {}", self.log());
                    sleep(POLL).await;
                }
            }
        }
    }

    /// Whether it has a disk of its own.
    pub(crate) const fn has_small_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Fills its disk, or makes room again.
    pub(crate) fn fill_disk(&self, full: bool) {
        assert!(self.disk.is_some(), "it has no disk of its own");
        let filler = self.data().join("filler");
        if !full {
            fs::remove_file(filler).unwrap();
            return;
        }
        let mut file = fs::File::create(filler).unwrap();
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Whether it still runs: a server whose disk is full may give up.
    pub(crate) fn is_running(&self) -> bool {
        self.pid().is_some_and(|pid| Path::new("/proc").join(pid).exists())
    }

    /// Gives the server a certificate and its key.
    pub(crate) async fn encrypt(&self, certificate: &Path, key: &Path) {
        for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = self.data().join(name);
            fs::copy(from, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = self.owner {
                chown(&to, Some(user), Some(group)).unwrap();
            }
        }
        let admin = self.connect("postgres").await;
        admin.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn pid(&self) -> Option<String> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().next().map(str::to_owned)
    }

    /// All processes of the server, the first one first.
    pub(crate) fn pids(&self) -> Vec<String> {
        let Some(first) = self.pid() else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        std::iter::once(first).chain(children.split_whitespace().map(str::to_owned)).collect()
    }

    fn signal(name: &str, pids: &[String]) {
        if !pids.is_empty() {
            let _ = Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
        }
    }

    /// Stops it: at once, as after a crash, or after ending the connections.
    pub(crate) fn stop(&self, immediately: bool) {
        let signal = if immediately { "QUIT" } else { "INT" };
        let pid = self.pid();
        Self::signal(signal, pid.as_slice());
        if let Some(mut child) = self.child.lock().unwrap().take() {
            while pid.as_ref().is_some_and(|pid| Path::new("/proc").join(pid).exists()) {
                std::thread::sleep(POLL);
            }
            drop(child.stdin.take());
            let _ = child.wait();
        }
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Freezes every process of it, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        Self::signal(if frozen { "STOP" } else { "CONT" }, &self.pids());
    }

    /// Whether transactions may write, unless they ask to.
    pub(crate) async fn set_read_only(&self, read_only: bool) {
        let admin = self.connect("postgres").await;
        let value = if read_only { "on" } else { "off" };
        let alter = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        admin.batch_execute("SET default_transaction_read_only = off").await.unwrap();
        admin.batch_execute(&alter).await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.freeze(false);
        self.stop(true);
    }
}

/// A small disk in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        let size = format!("size={mib}m");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).stderr(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: a small disk can't be mounted");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Where the programs are: Debian keeps each version in a folder of its own.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path));
    found.into_iter().rev().find(|dir| has_programs(dir))
}

fn has_programs(dir: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| dir.join(program).exists())
}

/// Root runs it as the user that the package made; others as themselves.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user named postgres");
        let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
        return Some((fields.next().unwrap(), fields.next().unwrap()));
    }
    None
}
