//! The broker and the database of this bench, and another service that uses the broker.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use lapin::options::{ConfirmSelectOptions, QueuePurgeOptions};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};

#[path = "../../tests/it/support/postgres.rs"]
#[expect(clippy::unwrap_used, dead_code, reason = "written for tests, and this bench uses a part of it")]
pub(crate) mod postgres;
#[path = "../../tests/it/support/rabbitmq.rs"]
#[expect(clippy::unwrap_used, dead_code, reason = "written for tests, and this bench uses a part of it")]
pub(crate) mod rabbitmq;

pub(crate) use rabbitmq::RabbitMq;

/// Submissions a second in the comparison with broker and database attached.
pub(crate) const ATTACHED_PER_SECOND: u32 = 2000;
pub(crate) const WORK_QUEUE: &str = "task.ready.small";

pub(crate) fn has_broker() -> bool {
    rabbitmq::is_installed("the bench `broker`")
}

pub(crate) fn start_broker() -> RabbitMq {
    RabbitMq::start()
}

/// Returns the environment of a service that uses the broker and dispatches every task.
pub(crate) fn environment(broker: &RabbitMq) -> Vec<(&'static str, String)> {
    vec![
        ("RABBITMQ_HOST", Ipv4Addr::LOCALHOST.to_string()),
        ("RABBITMQ_PORT", broker.port.to_string()),
        ("DATS__TASK_MANAGEMENT__MAX_CONCURRENT_PER_PROJECT", "1000000".to_owned()),
        ("DATS__TELEMETRY__LOG_LEVEL", "error".to_owned()),
    ]
}

/// Share of the processor time for broker and database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// The usual priority.
    Equal,
    /// Idle time only, which approximates a machine of their own.
    Rest,
}

/// Sets the share of broker and database, with all their threads. Threads that they start later
/// inherit it.
pub(crate) fn set_share(share: Share, broker: &RabbitMq, database: &postgres::Postgres) {
    let class = match share {
        Share::Equal => "--other",
        Share::Rest => "--idle",
    };
    let group = Command::new("pgrep").args(["--pgroup", &broker.leader().to_string()]).output().expect("pgrep");
    let group = String::from_utf8_lossy(&group.stdout).into_owned();
    for process in group.split_whitespace().map(str::to_owned).chain(database.pids()) {
        let mut chrt = Command::new("chrt");
        chrt.args(["--all-tasks", class, "--pid", "0", &process]).stdout(Stdio::null());
        // A process may have ended meanwhile.
        let _ = chrt.stderr(Stdio::null()).status().expect("chrt, which comes with the system");
    }
}

/// Another service, with a connection and a channel with confirms.
pub(crate) struct Peer {
    _connection: Connection,
    pub(crate) channel: Channel,
}

impl Peer {
    pub(crate) async fn connect(broker: SocketAddr) -> lapin::Result<Self> {
        let mut uri = AMQPUri::default();
        uri.authority.host = broker.ip().to_string();
        uri.authority.port = broker.port();
        "guest".clone_into(&mut uri.authority.userinfo.username);
        "guest".clone_into(&mut uri.authority.userinfo.password);
        uri.query.heartbeat = Some(5);
        let connection = Connection::connect_uri(uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { _connection: connection, channel })
    }

    /// Empties the work queue, because this bench has no workers.
    pub(crate) async fn purge(&self) {
        self.channel.queue_purge(WORK_QUEUE.into(), QueuePurgeOptions::default()).await.expect("a queue");
    }
}

pub(crate) async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}
