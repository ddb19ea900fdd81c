//! `dats asyncapi`: prints the description of the messages on the broker.

use super::exit::Failure;
use super::output::line;
use crate::amqp::asyncapi_text;
use crate::config::Config;

pub(super) fn run() -> Result<(), Failure> {
    line(asyncapi_text(&Config::builtin().described_broker()).trim_end())
}
