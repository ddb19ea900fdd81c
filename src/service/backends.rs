//! Clients of other services: Agent and RAG, and the collector of traces.

use super::background::Background;
use super::error::StartError;
use super::settings::trace_settings;
use crate::clock::Clock;
use crate::config::Config;
use crate::routing::{self, Services};
use crate::telemetry::{Export, ExportError};
use crate::tls;

/// Starts the export of traces, if a collector is configured.
pub(super) fn start_export(
    config: &Config,
    threads: Option<&Background>,
    clock: &Clock,
) -> Result<Option<Export>, StartError> {
    let Some((settings, runtime)) = trace_settings(&config.telemetry).zip(threads.and_then(Background::handle)) else {
        return Ok(None);
    };
    let export = Export::start(settings, runtime, clock.clone());
    export.map(Some).map_err(|error| match error {
        ExportError::Encryption(error) => ca_file_error("telemetry.ca_file", error),
        error @ ExportError::Library(_) => StartError::Config(error.to_string()),
    })
}

/// Checks that the files that the settings name can be used.
pub fn check(config: &Config) -> Result<(), StartError> {
    services(&config.routing.settings(), &Clock::new())?;
    let Some(settings) = trace_settings(&config.telemetry) else { return Ok(()) };
    settings.tls_config().map(drop).map_err(|error| ca_file_error("telemetry.ca_file", error))
}

/// Creates the clients of Agent and RAG.
pub(super) fn services(settings: &routing::Settings, clock: &Clock) -> Result<Services, StartError> {
    Services::new(settings, clock).map_err(|error| ca_file_error("routing.ca_file", error))
}

/// Converts an error of the CA certificates; `key` is the setting of their file.
fn ca_file_error(key: &str, error: tls::Error) -> StartError {
    StartError::Config(match error {
        tls::Error::File { path, reason } => format!(
            "{key} can't be {:?}: expected a file with CA certificates (PEM), but {reason}",
            path.display().to_string()
        ),
        tls::Error::NoTrustAnchor(_) => format!(
            "{key} can't be null: expected a file with CA certificates (PEM), because the system has none and an \
             address is https://"
        ),
        error @ tls::Error::Setup(_) => error.to_string(),
    })
}
