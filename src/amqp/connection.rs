//! A connection to the broker. Each request to the broker has a time limit, and
//! each error tells whether another attempt may succeed.

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

/// The time limit for connecting and for each request to the broker.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds between heartbeats. The connection counts as lost after two missing heartbeats.
const HEARTBEAT_SECONDS: u16 = 10;

/// Reply codes of refusals that repeat with each attempt: no access, other arguments, a missing
/// virtual host, an unknown command.
const REFUSALS: [u16; 6] = [402, 403, 406, 503, 530, 540];

/// Reply codes of refusals because of the content of one message: too large, or a wrong property.
const MESSAGE_REFUSALS: [u16; 2] = [311, 406];

/// Why a connection can no longer be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The broker can't be reached, or the connection was lost.
    #[error("{0}")]
    Away(String),
    /// The broker refuses a request, and will refuse the next attempt too.
    #[error("{0}")]
    Refused(String),
    /// The broker refuses a message because of its content, such as one above its size limit, and
    /// has closed the channel.
    #[error("{0}")]
    Message(String),
    /// The store of this service has failed, so no delivered message can be accepted.
    #[error("the store failed: {0}")]
    Store(String),
    /// This service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl Error {
    /// Returns the state of the connection after this error.
    pub(super) const fn state(&self) -> LinkState {
        match self {
            Self::Away(_) | Self::Stopping => LinkState::Away,
            Self::Refused(_) | Self::Message(_) => LinkState::Refused,
            Self::Store(_) => LinkState::StorageFailed,
        }
    }

    /// Returns the error with the step that failed.
    pub(super) fn at(self, what: &str) -> Self {
        match self {
            Self::Away(message) => Self::Away(format!("failed to {what}: {message}")),
            Self::Refused(message) => Self::Refused(format!("failed to {what}: {message}")),
            Self::Message(message) => Self::Message(format!("failed to {what}: {message}")),
            Self::Store(message) => Self::Store(message),
            Self::Stopping => Self::Stopping,
        }
    }

    /// Converts an error of the publish of a message.
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
            ErrorKind::IOError(cause) if is_invalid_certificate(cause) => Self::Refused(cause.to_string()),
            _ => Self::Away(error.to_string()),
        }
    }
}

/// Whether the certificate of the broker is invalid: of an unknown authority, or for another host.
fn is_invalid_certificate(cause: &std::io::Error) -> bool {
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

/// Waits for a request to the broker, for at most [`STEP_TIMEOUT`].
pub(super) async fn step<T>(what: &str, doing: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(STEP_TIMEOUT, doing).await {
        Ok(done) => done.map_err(|error| Error::from(error).at(what)),
        Err(_) => Err(Error::Away(format!("failed to {what}: no answer within {} s", STEP_TIMEOUT.as_secs()))),
    }
}

/// Waits for `doing`, or returns [`Error::Stopping`] when the service stops.
pub(super) async fn unless_stopped<T>(
    stop: &CancellationToken,
    doing: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        done = doing => done,
        () = stop.cancelled() => Err(Error::Stopping),
    }
}

/// An established connection to the broker.
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

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        step("open a channel", self.connection.create_channel()).await
    }

    /// Whether the broker has told this connection to stop publishing.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether the connection is established.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Closes the connection gracefully if it is still open; waits for at most 2 s.
    pub(super) async fn close(self) {
        let closing = self.connection.close(200, "stopping".into());
        let _ = tokio::time::timeout(Duration::from_secs(2), closing).await;
    }
}

/// Returns the trust anchors of an encrypted connection, in addition to those of the system.
fn tls(settings: &Settings) -> Result<OwnedTLSConfig, Error> {
    let Some(path) = &settings.ca_file else { return Ok(OwnedTLSConfig::default()) };
    let failed = |error: &dyn std::fmt::Display| Error::Refused(format!("failed to read {}: {error}", path.display()));
    // The client library accepts a file without certificates.
    let authorities = Authorities::read(path).map_err(|error| failed(&error))?;
    Ok(OwnedTLSConfig { identity: None, cert_chain: Some(authorities.text) })
}

fn uri(settings: &Settings) -> AMQPUri {
    let userinfo = AMQPUserInfo {
        username: settings.credentials.username.clone(),
        password: settings.credentials.password.clone(),
    };
    let connection_timeout = u64::try_from(STEP_TIMEOUT.as_millis()).ok();
    AMQPUri {
        scheme: if settings.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority { userinfo, host: settings.host.clone(), port: settings.port },
        vhost: settings.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(HEARTBEAT_SECONDS), connection_timeout, ..AMQPQueryString::default() },
    }
}

/// Returns a text as a short string of the protocol; `None` if it has more than 255 bytes.
pub(super) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

/// Returns a text as a short string of the protocol.
pub(super) fn name(text: &str) -> Result<ShortString, Error> {
    short(text).ok_or_else(|| Error::Refused(format!("`{text}` is longer than the 255 bytes that a name may have")))
}

/// Returns a table of headers or arguments with text values.
pub(super) fn table<'a>(entries: impl IntoIterator<Item = (&'static str, &'a str)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    table
}
