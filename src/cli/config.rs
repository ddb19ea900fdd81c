//! `dats config`: shows or checks the settings.

use clap::Subcommand;

use super::exit::Failure;
use super::output::{Format, Screen, line};
use super::serve::{Settings, start_failure};
use crate::config::{Config, show_json, show_yaml};
use crate::service;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Print every setting with its value, and with its source if it is not a default.
    /// Secrets are shown as ***.
    #[command(after_help = "Example:\n  dats config show --config /etc/dats/dats.yaml")]
    Show(Settings),
    /// Check whether the service would start with these settings.
    #[command(after_help = "Example:\n  dats config check --config /etc/dats/dats.yaml")]
    Check(Settings),
}

pub(super) fn run(action: &Action, screen: &Screen) -> Result<(), Failure> {
    match action {
        Action::Show(settings) => {
            let sources = settings.sources();
            match screen.format {
                Format::Table => line(show_yaml(&sources)?.trim_end()),
                Format::Json => line(&show_json(&sources)?.to_string()),
            }
        }
        Action::Check(settings) => {
            let config = Config::load(&settings.sources())?;
            service::check(&config).map_err(start_failure)?;
            let (listen, data) = (config.server.listen, config.engine.data_dir);
            match screen.format {
                Format::Table => line(&format!("the settings are valid: http://{listen}, data in {}", data.display())),
                Format::Json => line(&serde_json::json!({"valid": true}).to_string()),
            }
        }
    }
}
