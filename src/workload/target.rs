//! The server that a bench works on.

use super::server::PrivateServer;
use crate::client::Client;

/// A server that the bench started, or one that was running before and goes on afterwards.
#[derive(Debug)]
pub enum Target {
    /// Started for this bench.
    Private(PrivateServer),
    /// Running already.
    Running {
        /// URL of the server.
        url: String,
        /// A client for the server.
        client: Client,
    },
}

impl Target {
    /// Returns a client for the server.
    #[must_use]
    pub const fn client(&self) -> &Client {
        match self {
            Self::Private(private) => &private.client,
            Self::Running { client, .. } => client,
        }
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Private(private) => &private.url,
            Self::Running { url, .. } => url,
        }
    }

    /// Returns whether the bench started the server.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }
}
