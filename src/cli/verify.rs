//! `dats verify`: whether the store of a stopped service is sound.

use clap::Args;

use super::exit::Failure;
use super::output::line;
use super::serve::Settings;
use crate::config::Config;
use crate::service;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.settings.sources())?;
    service::verify(&config).map_err(|error| Failure::Store(format!("{error:#}")))?;
    line(&format!("the store in {} is sound", config.engine.data_dir.display()))
}
