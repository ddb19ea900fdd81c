//! What a command that talks to a server needs.

use super::output::Screen;
use crate::client::Client;

/// The server of a command, and the form of its output.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) screen: Screen,
}
