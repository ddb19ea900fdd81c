//! A connection to the broker: every step of it has a deadline, and every
//! error says whether trying again may help.

use std::future::Future;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio_util::sync::CancellationToken;

use super::broker::LinkState;
use super::settings::Settings;
use crate::engine;
use crate::tls::Authorities;

/// Longest time to connect, and for any other step.
const STEP: Duration = Duration::from_secs(10);
/// Seconds between signs of life on a connection; after two without one it
/// counts as lost.
const HEARTBEAT_SECONDS: u16 = 10;

/// Reply codes of a broker that will refuse the same again: access, other
/// arguments, a virtual host that is not there, what it does not know.
const REFUSALS: [u16; 6] = [402, 403, 406, 503, 530, 540];

/// Those that are about the content of one message: it is too large, or one of its
/// properties is wrong.
const MESSAGE_REFUSALS: [u16; 2] = [311, 406];

/// Why a connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The broker can't be reached, or has gone.
    #[error("{0}")]
    Away(String),
    /// The broker refuses what it is asked, and will again.
    #[error("{0}")]
    Refused(String),
    /// The broker refuses a message for itself, such as one above its limit, and has
    /// closed the channel that it came by.
    #[error("{0}")]
    Message(String),
    /// The store of this service fails: nothing that is delivered can be taken.
    #[error("the store failed: {0}")]
    Store(String),
    /// This service stops.
    #[error("the service is stopping")]
    Stopping,
}

impl Error {
    /// What the connection is in then.
    pub(super) const fn state(&self) -> LinkState {
        match self {
            Self::Away(_) | Self::Stopping => LinkState::Away,
            Self::Refused(_) | Self::Message(_) => LinkState::Refused,
            Self::Store(_) => LinkState::StorageFailed,
        }
    }

    /// The same about something that was being done.
    pub(super) fn at(self, what: &str) -> Self {
        match self {
            Self::Away(message) => Self::Away(format!("failed to {what}: {message}")),
            Self::Refused(message) => Self::Refused(format!("failed to {what}: {message}")),
            Self::Message(message) => Self::Message(format!("failed to {what}: {message}")),
            Self::Store(message) => Self::Store(message),
            Self::Stopping => Self::Stopping,
        }
    }

    /// The error of a message that was published.
    pub(super) fn of_message(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(refusal) if MESSAGE_REFUSALS.contains(&refusal.get_id()) => {
                Self::Message(refusal.get_message().to_string())
            }
            _ => error.into(),
        }
    }
}

impl From<lapin::Error> for Error {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(refusal) if REFUSALS.contains(&refusal.get_id()) => {
                Self::Refused(refusal.get_message().to_string())
            }
            ErrorKind::ProtocolError(refusal) => Self::Away(refusal.get_message().to_string()),
            ErrorKind::IOError(cause) if is_unproven(cause) => Self::Refused(cause.to_string()),
            _ => Self::Away(error.to_string()),
        }
    }
}

/// Whether the broker could not prove who it is: by no known authority, or for
/// another host.
fn is_unproven(cause: &std::io::Error) -> bool {
    let cause = cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        match error {
            engine::Error::NotOwner | engine::Error::ShuttingDown | engine::Error::Unknown => Self::Stopping,
            error => Self::Away(error.to_string()),
        }
    }
}

/// Does one step within its time.
pub(super) async fn step<T>(what: &str, doing: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(STEP, doing).await {
        Ok(done) => done.map_err(|error| Error::from(error).at(what)),
        Err(_) => Err(Error::Away(format!("failed to {what}: no answer within {} s", STEP.as_secs()))),
    }
}

/// Does something unless the service stops meanwhile.
pub(super) async fn unless_stopped<T>(
    stop: &CancellationToken,
    doing: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        done = doing => done,
        () = stop.cancelled() => Err(Error::Stopping),
    }
}

/// A connection to the broker.
pub(super) struct Link {
    connection: Connection,
}

impl Link {
    /// Connects. `purpose` names the connection in the broker's lists.
    pub(super) async fn open(settings: &Settings, purpose: &str) -> Result<Self, Error> {
        let name = format!("dats orchestration, {purpose}");
        // Recovery inside the library is off, which is its default.
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let runtime = lapin::runtime::default_runtime()?;
        let connecting = Connection::connect_uri_with_config(uri(settings), properties, tls(settings)?, runtime);
        let connection = step("connect", connecting).await?;
        Ok(Self { connection })
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        step("open a channel", self.connection.create_channel()).await
    }

    /// Whether the broker takes no messages at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether it is still there.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Takes leave, if there is anybody to take leave of.
    pub(super) async fn close(self) {
        let closing = self.connection.close(200, "stopping".into());
        let _ = tokio::time::timeout(Duration::from_secs(2), closing).await;
    }
}

/// Whom an encrypted connection believes besides the authorities of the system.
fn tls(settings: &Settings) -> Result<OwnedTLSConfig, Error> {
    let Some(path) = &settings.ca_file else { return Ok(OwnedTLSConfig::default()) };
    let failed = |error: &dyn std::fmt::Display| Error::Refused(format!("failed to read {}: {error}", path.display()));
    // The client library takes a file without any in silence.
    let authorities = Authorities::read(path).map_err(|error| failed(&error))?;
    Ok(OwnedTLSConfig { identity: None, cert_chain: Some(authorities.text) })
}

fn uri(settings: &Settings) -> AMQPUri {
    let userinfo = AMQPUserInfo {
        username: settings.credentials.username.clone(),
        password: settings.credentials.password.clone(),
    };
    let connection_timeout = u64::try_from(STEP.as_millis()).ok();
    AMQPUri {
        scheme: if settings.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority { userinfo, host: settings.host.clone(), port: settings.port },
        vhost: settings.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(HEARTBEAT_SECONDS), connection_timeout, ..AMQPQueryString::default() },
    }
}

/// A text as a name of the protocol; `None`: it is too long for one.
pub(super) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

/// A name of the protocol that was checked to be short enough.
pub(super) fn name(text: &str) -> Result<ShortString, Error> {
    short(text).ok_or_else(|| Error::Refused(format!("`{text}` is longer than the 255 bytes that a name may have")))
}

/// A table with one text in it.
pub(super) fn table<'a>(entries: impl IntoIterator<Item = (&'static str, &'a str)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    table
}
