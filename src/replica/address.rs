//! The address of the database: a URL in libpq's form. Its password is never shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode};

/// Time limit for connecting to one address, and for a peer that does not answer.
const CONNECT: Duration = Duration::from_secs(5);
const SILENT: Duration = Duration::from_secs(20);
/// Idle time of a connection after which TCP keepalive probes begin.
const KEEPALIVE: Duration = Duration::from_secs(10);
const PORT: u16 = 5432;

/// How the identity of the database is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Not verified; the connection may even be unencrypted.
    None,
    /// The certificate must be signed by a known authority.
    Authority,
    /// The certificate must be signed by a known authority and name the host.
    Host,
}

/// The address of the database and the connection parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) config: tokio_postgres::Config,
    pub(super) trust: Trust,
    /// A file of authority certificates that replaces the system's.
    pub(super) root_certificates: Option<PathBuf>,
}

/// Why a text is not a valid address. The message never repeats the text, which may hold a
/// password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// The scheme is missing or another one.
    #[error("must begin with postgresql:// or postgres://")]
    Scheme,
    /// A part is malformed (host, port, user ...), or an option is unknown.
    #[error("is not of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or has an option that is not known")]
    Form,
    /// The user or the password holds an unescaped `@`. The text after it would be parsed as the
    /// host and shown.
    #[error("has more than one @: in a user or a password it is written %40")]
    At,
    /// The host, the user or the database is missing.
    #[error("must name a host, a user and a database")]
    Missing,
    /// The value of `sslmode` is unknown.
    #[error("has another sslmode than disable, prefer, require, verify-ca or verify-full")]
    SslMode,
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if !["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(InvalidAddress::Scheme);
        }
        let (rest, query) = text.split_once('?').unwrap_or((text, ""));
        if rest.matches('@').count() > 1 {
            return Err(InvalidAddress::At);
        }
        let (mut mode, mut root_certificates, mut others) = ("prefer".to_owned(), None, Vec::new());
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').ok_or(InvalidAddress::Form)?;
            let decoded = || percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "sslmode" => mode = decoded(),
                // Only the part before the `@` is treated as a secret, so a password in the query
                // is refused.
                "password" => return Err(InvalidAddress::Form),
                "sslrootcert" => root_certificates = Some(PathBuf::from(decoded())),
                _ => others.push(option),
            }
        }
        let plain = if others.is_empty() { rest.to_owned() } else { format!("{rest}?{}", others.join("&")) };
        let mut config: tokio_postgres::Config = plain.parse().map_err(|_| InvalidAddress::Form)?;
        if config.get_hosts().is_empty() || config.get_user().is_none() || config.get_dbname().is_none() {
            return Err(InvalidAddress::Missing);
        }
        let (ssl_mode, trust) = match mode.as_str() {
            "disable" => (SslMode::Disable, Trust::None),
            "prefer" => (SslMode::Prefer, Trust::None),
            // Same as libpq: with `sslrootcert`, `require` verifies against that authority.
            "require" if root_certificates.is_some() => (SslMode::Require, Trust::Authority),
            "require" => (SslMode::Require, Trust::None),
            "verify-ca" => (SslMode::Require, Trust::Authority),
            "verify-full" => (SslMode::Require, Trust::Host),
            _ => return Err(InvalidAddress::SslMode),
        };
        config.ssl_mode(ssl_mode).keepalives_idle(KEEPALIVE).tcp_user_timeout(SILENT);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        Ok(Self { config, trust, root_certificates })
    }
}

impl Address {
    /// Returns the connection parameters with `application` as the application name.
    pub(super) fn named(&self, application: &str) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        config.application_name(application);
        config
    }
}

impl fmt::Display for Address {
    /// Writes host, port and database, never the user or the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (at, host) in self.config.get_hosts().iter().enumerate() {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
            let comma = if at == 0 { "" } else { "," };
            match host {
                Host::Tcp(host) => write!(f, "{comma}{host}:{port}")?,
                Host::Unix(path) => write!(f, "{comma}{}:{port}", path.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_password() {
        let address: Address = "postgresql://dats:hunter2@postgres:5433/dats".parse().unwrap();
        assert_eq!(format!("{address} {address:?}"), "postgres:5433/dats postgres:5433/dats");
        let address: Address =
            "postgres://dats@a,b/dats?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem".parse().unwrap();
        assert_eq!(address.to_string(), "a:5432,b:5432/dats");
        assert_eq!((address.trust, address.root_certificates), (Trust::Host, Some(PathBuf::from("/etc/ca.pem"))));
    }

    #[test]
    fn refuses_what_is_no_address() {
        let refused = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(refused("mysql://u@h/d"), InvalidAddress::Scheme);
        assert_eq!(refused("postgresql://u:p@h:port/d"), InvalidAddress::Form);
        assert_eq!(refused("postgresql://u:p@h/d?colour=red"), InvalidAddress::Form);
        assert_eq!(refused("postgresql://u:p@ss@h/d"), InvalidAddress::At);
        assert_eq!(refused("postgresql://h/d"), InvalidAddress::Missing);
        assert_eq!(refused("postgresql://u@h/d?sslmode=allow"), InvalidAddress::SslMode);
    }
}
