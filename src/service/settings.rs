//! Converts the configuration to the settings of the parts.

use std::net::SocketAddr;
use std::time::Duration;

use super::descriptors;
use crate::amqp;
use crate::config::{self, Config};
use crate::engine;
use crate::http::{self, ApiKey};
use crate::telemetry;

/// Largest request head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Longest time in which a client reads nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a MiB.
pub(super) const MIB: u64 = 1024 * 1024;

/// Returns the settings of the export of traces; `None` without a collector.
pub(super) fn trace_settings(settings: &config::Telemetry) -> Option<telemetry::Settings> {
    let (endpoint, path) = settings.traces()?;
    let (ca_file, service_name) = (settings.ca_file.clone(), settings.service_name.clone());
    let version = env!("CARGO_PKG_VERSION");
    Some(telemetry::Settings { endpoint: endpoint.clone(), path, ca_file, service_name, version })
}

/// Converts a number of bytes; saturates on a machine with a smaller address space.
pub(super) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

pub(super) fn engine_settings(config: &Config) -> engine::Settings {
    let tasks = &config.task_management;
    engine::Settings {
        policy: config.policy(),
        router: config.routing.router.clone(),
        tiers: config.routing.tiers.clone(),
        default_priority: tasks.default_priority,
        default_qa_profile: tasks.qa_profile_default.clone(),
        default_timeout_seconds: u32::try_from(tasks.timeout_default.as_secs()).unwrap_or(u32::MAX),
        default_max_attempts: tasks.max_attempts_default,
        max_concurrent: tasks.max_concurrent_per_project,
        aging: tasks.aging,
        queue_capacity: config.engine.queue_capacity,
        group_max: config.engine.group_commit_max,
        hot_bytes: to_usize(config.engine.hot_tasks_bytes),
        retention: config.engine.retention,
        idempotency: config.engine.idempotency,
        idempotency_max_keys: to_usize(config.engine.idempotency_max_keys),
        max_projects: to_usize(config.engine.max_projects),
        dedup_window: config.events.dedup_window,
        dedup_max_ids: to_usize(config.events.dedup_max_ids),
        log_retention: config.events.retention,
        log_readers: config.events.rabbitmq.iter().map(|_| amqp::READER.to_owned()).collect(),
        min_free_mib: config.engine.min_free_disk_bytes / MIB,
        checkpoints: engine::CheckpointRules {
            every_tasks: config.engine.checkpoint_tasks,
            every: config.engine.checkpoint_every,
            kept: config.engine.checkpoints_kept,
        },
    }
}

pub(super) fn http_settings(config: &Config, address: SocketAddr) -> (http::Settings, http::ServerSettings) {
    let server = &config.server;
    let shares = descriptors::share(server.max_connections);
    let settings = http::Settings {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        service_name: config.telemetry.service_name.clone(),
        tiers: config.routing.tiers.clone(),
        lease_default: config.task_management.lease_default,
        lease_max: config.task_management.lease_max,
        heartbeat: config.events.heartbeat,
    };
    let server_settings = http::ServerSettings {
        api_key: config.security.api_key.as_ref().map(|key| ApiKey::new(key.expose())),
        allowed_hosts: server.allowed_hosts.clone(),
        is_loopback: address.ip().to_canonical().is_loopback(),
        limits: http::Limits {
            connections: shares.connections,
            reserve: shares.reserve,
            connections_per_address: server.max_connections_per_address,
            streams: server.max_streams,
            head_bytes: MAX_HEAD_BYTES,
            body_bytes: server.max_body_bytes,
            head_timeout: server.header_timeout,
            body_timeout: server.body_timeout,
            walk_timeout: server.walk_timeout,
            write_timeout: WRITE_TIMEOUT,
            drain_timeout: server.drain_timeout,
        },
    };
    (settings, server_settings)
}
