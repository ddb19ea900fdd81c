//! Converts the merged tree to the checked [`Config`]. Sections are made here only, so a
//! section that exists holds valid settings.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::task::{Domain, MAX_ATTEMPTS, MAX_TIMEOUT, Priority, QaProfile, Router, Tier};

use crate::address::{Address, InvalidAddress};
use crate::replica;

use super::error::Problem;
use super::origin::Origin;
use super::rabbitmq;
use super::reader::{NAME, Reader, shown};
use super::rules::{self, find, one_of};
use super::settings::{
    Config, Engine, Events, Fallback, LogFormat, LogLevel, Routing, Security, Server, Storage, TaskManagement,
    Telemetry,
};
use super::tree::{Node, Value};

/// The longest time in any setting: a century.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;
const MAX_HOURS: u64 = MAX_SECONDS / 3600;
const MAX_COUNT: u64 = 1 << 32;
const MAX_MIB: u64 = 1 << 30;

/// Checks every setting. The error holds all problems.
pub(super) fn check(tree: &Node) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(tree);
    let tiers = reader.list("routing.tiers", NAME, |name| Tier::new(name).ok());
    let routing = routing(&mut reader, &tiers);
    let task_management = task_management(&mut reader, &tiers);
    let server = server(&mut reader);
    let engine = engine(&mut reader);
    let events = events(&mut reader, &tiers);
    let storage = storage(&mut reader);
    let security = Security { api_key: reader.secret("security.api_key") };
    let telemetry = telemetry(&mut reader);
    match (routing, task_management) {
        (Some(routing), Some(task_management)) if reader.problems.is_empty() => Ok(Config {
            server,
            engine,
            task_management,
            routing,
            storage,
            events,
            security,
            telemetry,
            notices: Vec::new(),
        }),
        _ => Err(reader.problems),
    }
}

fn server(reader: &mut Reader<'_>) -> Server {
    let listen = reader.parsed("server.listen", "IP:PORT or localhost:PORT, such as 127.0.0.1:8000", parse_address);
    let threads = reader.optional_whole("server.worker_threads", 1..=1024);
    Server {
        listen: listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        worker_threads: threads.and_then(|threads| usize::try_from(threads).ok()).unwrap_or_else(half_the_cores),
        allowed_hosts: reader.any_list(
            "server.allowed_hosts",
            "the name of a host without a port, such as dats.example.com",
            parse_host,
        ),
        max_connections: reader.count("server.max_connections", 1..=1_000_000),
        max_connections_per_address: reader.count("server.max_connections_per_address", 1..=1_000_000),
        max_streams: reader.count("server.max_streams", 1..=1_000_000),
        header_timeout: reader.seconds("server.header_timeout_seconds", 1..=3600),
        body_timeout: reader.seconds("server.body_timeout_seconds", 1..=3600),
        max_body_bytes: reader.count("server.max_body_bytes", 1024..=1 << 30),
        walk_timeout: reader.seconds("server.walk_timeout_seconds", 1..=3600),
        drain_timeout: reader.seconds("server.drain_timeout_seconds", 0..=3600),
    }
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse::<u16>().ok()?))),
        None => text.parse().ok(),
    }
}

fn parse_host(text: &str) -> Option<String> {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name = !text.is_empty() && text.len() <= 253 && text.bytes().all(is_of_name);
    (is_name && !text.ends_with('.')).then(|| text.to_ascii_lowercase())
}

fn half_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

fn engine(reader: &mut Reader<'_>) -> Engine {
    let days = reader.whole("engine.retention_days", 0..=36_500);
    Engine {
        data_dir: reader
            .parsed("engine.data_dir", "the path of a directory", |path| {
                (!path.is_empty()).then(|| PathBuf::from(path))
            })
            .unwrap_or_default(),
        verify_at_start: reader.flag("engine.verify_at_start"),
        queue_capacity: reader.count("engine.queue_capacity", 1..=1 << 20),
        group_commit_max: reader.count("engine.group_commit_max", 1..=65_536),
        store_cache_bytes: reader.mebibytes("engine.store_cache_mib", 1..=MAX_MIB),
        hot_tasks_bytes: reader.mebibytes("engine.hot_tasks_mib", 0..=MAX_MIB),
        retention: (days > 0).then(|| Duration::from_secs(days * 86_400)),
        checkpoint_tasks: reader.whole("engine.checkpoint_tasks", 1..=1_000_000),
        checkpoint_every: hours(reader, "engine.checkpoint_hours", 1),
        checkpoints_kept: reader.count("engine.checkpoints_kept", 0..=1000),
        idempotency: hours(reader, "engine.idempotency_hours", 1),
        idempotency_max_keys: reader.whole("engine.idempotency_max_keys", 1..=MAX_COUNT),
        max_projects: reader.whole("engine.max_projects", 1..=MAX_COUNT),
        min_free_disk_bytes: reader.mebibytes("engine.min_free_disk_mib", 0..=MAX_MIB),
    }
}

fn hours(reader: &mut Reader<'_>, path: &str, min: u64) -> Duration {
    Duration::from_secs(reader.whole(path, min..=MAX_HOURS) * 3600)
}

fn task_management(reader: &mut Reader<'_>, tiers: &[Tier]) -> Option<TaskManagement> {
    let timeout_range = 1..=MAX_TIMEOUT.as_secs();
    let priorities = Priority::ALL.map(|priority| (priority.as_str(), priority));
    let default_priority = reader.word("task_management.default_priority", &priorities);
    let qa_profile_default =
        reader.parsed("task_management.qa_profile_default", NAME, |name| QaProfile::new(name).ok());
    let escalate_to = escalation(reader, tiers);
    let backoff_initial = reader.seconds("task_management.backoff_initial_seconds", 0..=MAX_SECONDS);
    let backoff_max = reader.seconds("task_management.backoff_max_seconds", 0..=MAX_SECONDS);
    refuse_above(
        reader,
        &TimeSetting { path: "task_management.backoff_initial_seconds", time: backoff_initial },
        &TimeSetting { path: "task_management.backoff_max_seconds", time: backoff_max },
    );
    let lease_default = reader.seconds("task_management.lease_default_seconds", 1..=MAX_SECONDS);
    let lease_max = reader.seconds("task_management.lease_max_seconds", 1..=MAX_SECONDS);
    refuse_above(
        reader,
        &TimeSetting { path: "task_management.lease_default_seconds", time: lease_default },
        &TimeSetting { path: "task_management.lease_max_seconds", time: lease_max },
    );
    let max_lost_leases = reader.narrow("task_management.max_lost_leases", 1..=1000);
    let max_concurrent_per_project = reader.narrow("task_management.max_concurrent_per_project", 1..=1_000_000);
    let timeout_default = reader.seconds("task_management.timeout_default_seconds", timeout_range);
    let max_attempts_default = reader.narrow("task_management.max_attempts_default", 1..=MAX_ATTEMPTS.into());
    let aging = reader.seconds("task_management.aging_seconds", 1..=MAX_SECONDS);
    let validation_timeout = reader.optional_seconds("task_management.validation_timeout_seconds", 1..=MAX_SECONDS);
    let review_timeout = reader.optional_seconds("task_management.review_timeout_seconds", 1..=MAX_SECONDS);
    // Returns only after every setting was read, so that all problems are collected.
    Some(TaskManagement {
        default_priority: default_priority?,
        qa_profile_default: qa_profile_default?,
        max_concurrent_per_project,
        timeout_default,
        max_attempts_default,
        aging,
        backoff_initial,
        backoff_max,
        escalate_to,
        validation_timeout,
        review_timeout,
        lease_default,
        lease_max,
        max_lost_leases,
    })
}

/// A time with the path of its setting.
struct TimeSetting<'a> {
    path: &'a str,
    time: Duration,
}

/// Refuses a time that is longer than its maximum.
fn refuse_above(reader: &mut Reader<'_>, value: &TimeSetting<'_>, max: &TimeSetting<'_>) {
    if value.time > max.time {
        let node = reader.node(value.path);
        let allowed = format!("no more than {}, which is {}", max.path, max.time.as_secs());
        reader.refuse(value.path, node, &allowed);
    }
}

fn escalation(reader: &mut Reader<'_>, tiers: &[Tier]) -> BTreeMap<Tier, Tier> {
    let path = "task_management.escalate_to";
    let node = reader.node(path);
    let mut map = BTreeMap::new();
    let Some(entries) = node.map() else {
        if node.value != Value::Null {
            reader.refuse(path, node, "a map from tier to tier, or null");
        }
        return map;
    };
    for entry in entries {
        let to = entry.node.text().and_then(|name| find(tiers, name));
        if let Some((from, to)) = find(tiers, &entry.key).zip(to) {
            map.insert(from, to);
        } else if entry.origin != Origin::Default {
            // A default that names a tier which is not configured is dropped.
            let to = shown(path, &entry.node);
            let message = format!("can't lead from {} to {to}: expected both to be {}", entry.key, one_of(tiers));
            reader.problems.push(Problem::at(&entry.origin, path, message));
        }
    }
    if let Some(tier) = map.keys().find(|tier| leads_back(&map, tier)) {
        let message = format!("has a cycle that leads from {tier} back to {tier}");
        reader.problems.push(Problem::at(&node.origin, path, message));
    }
    map
}

/// Returns whether escalating from `start` leads back to it. A path without a repetition is
/// never longer than the map.
fn leads_back(map: &BTreeMap<Tier, Tier>, start: &Tier) -> bool {
    std::iter::successors(map.get(start), |tier| map.get(*tier)).take(map.len()).any(|tier| tier == start)
}

fn routing(reader: &mut Reader<'_>, tiers: &[Tier]) -> Option<Routing> {
    let fallback = reader
        .word("routing.fallback", &[("wait", Fallback::Wait), ("builtin", Fallback::Builtin)])
        .unwrap_or(Fallback::Builtin);
    let fallback_after = reader.seconds("routing.fallback_after_seconds", 0..=MAX_SECONDS);
    let allowed = "the address of a service, such as http://agent-service:8000/api/v1";
    let agent = address(reader, "routing.agent_service_url", allowed);
    let rag = address(reader, "routing.rag_service_url", allowed);
    let is_encrypted = is_encrypted(reader, &["routing.agent_service_url", "routing.rag_service_url"]);
    let ca_file = reader.ca_file("routing.ca_file", is_encrypted, "neither service has an https:// address");
    let agent_timeout = reader.seconds("routing.agent_timeout_seconds", 1..=3600);
    let rag_timeout = reader.seconds("routing.rag_timeout_seconds", 1..=3600);
    let max_concurrent_calls = reader.count("routing.max_concurrent_calls", 1..=1024);
    let context_max_tokens = reader.narrow("routing.context_max_tokens", 1..=1_000_000);
    let max_depth = reader.narrow("routing.max_depth", 0..=16);
    let max_subtasks = reader.count("routing.max_subtasks", 1..=200);
    let default_tier = reader.parsed("routing.default_tier", &one_of(tiers), |name| find(tiers, name));
    let default_domain = reader.parsed("routing.default_domain", NAME, |name| Domain::new(name).ok());
    let rules = rules::read(reader, tiers);
    let router = Router::new(rules, default_domain?, default_tier?);
    if router.is_none() {
        reader.refuse("routing.rules", reader.node("routing.rules"), "keywords of less than a gigabyte in all");
    }
    let router = router?;
    Some(Routing {
        agent,
        rag,
        ca_file,
        agent_timeout,
        rag_timeout,
        max_concurrent_calls,
        context_max_tokens,
        max_depth,
        max_subtasks,
        fallback,
        fallback_after,
        tiers: tiers.to_vec(),
        router,
    })
}

/// Returns whether one of these addresses has the scheme https, valid or not.
fn is_encrypted(reader: &Reader<'_>, paths: &[&str]) -> bool {
    let scheme = |path: &&str| Some(reader.node(path).text()?.split_once("://")?.0);
    paths.iter().filter_map(scheme).any(|scheme| scheme.eq_ignore_ascii_case("https"))
}

/// Reads the address of a service, if one is set. `allowed` describes it in messages.
fn address(reader: &mut Reader<'_>, path: &str, allowed: &str) -> Option<Address> {
    let node = reader.node(path);
    if node.value == Value::Null {
        return None;
    }
    let message = match node.text().map(str::parse) {
        Some(Ok(address)) => return Some(address),
        // The address is not repeated, because it contains a password.
        Some(Err(error @ InvalidAddress::Credentials)) => format!("can't be used: the address {error}"),
        Some(Err(error)) => format!("can't be {}: it {error}", shown(path, node)),
        None => {
            reader.refuse(path, node, allowed);
            return None;
        }
    };
    reader.problems.push(Problem::at(&node.origin, path, message));
    None
}

fn storage(reader: &mut Reader<'_>) -> Storage {
    let allowed = "[a-z_][a-z0-9_]{0,62}, and not one of the copy's other tables";
    Storage {
        database: database(reader, "storage.database_url"),
        provenance_table: reader
            .parsed("storage.provenance_table", allowed, |name| is_table(name).then(|| name.to_owned()))
            .unwrap_or_default(),
        batch_rows: reader.count("storage.batch_rows", 1..=100_000),
        copy_contents: reader.flag("storage.copy_contents"),
        statement_timeout: reader.seconds("storage.statement_timeout_seconds", 1..=3600),
        retry_max: reader.seconds("storage.retry_max_seconds", 1..=3600),
    }
}

/// Reads the address of the database, if one is set. Messages never repeat it, because it
/// may contain a password.
fn database(reader: &mut Reader<'_>, path: &str) -> Option<replica::Address> {
    let node = reader.node(path);
    let message = match node.text().map(str::parse) {
        _ if node.value == Value::Null => return None,
        Some(Ok(address)) => return Some(address),
        Some(Err(error)) => {
            let error: replica::InvalidAddress = error;
            format!("can't be used: the address {error}")
        }
        None => "can't be used: expected text such as postgresql://dats:PASSWORD@postgres:5432/dats".to_owned(),
    };
    reader.problems.push(Problem::at(&node.origin, path, message));
    None
}

fn is_table(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    first && rest && name.len() <= 63 && !replica::OTHER_TABLES.contains(&name)
}

fn events(reader: &mut Reader<'_>, tiers: &[Tier]) -> Events {
    let minutes = reader.whole("events.park_minutes", 0..=MAX_SECONDS / 60);
    Events {
        park: Duration::from_secs(minutes * 60),
        dedup_window: hours(reader, "events.dedup_window_hours", 1),
        dedup_max_ids: reader.whole("events.dedup_max_ids", 1..=MAX_COUNT),
        retention: hours(reader, "events.retention_hours", 1),
        heartbeat: reader.seconds("events.heartbeat_seconds", 1..=300),
        rabbitmq: rabbitmq::read(reader, tiers),
    }
}

fn telemetry(reader: &mut Reader<'_>) -> Telemetry {
    Telemetry {
        log_level: reader.word("telemetry.log_level", &LogLevel::WORDS).unwrap_or(LogLevel::Info),
        log_format: reader
            .word("telemetry.log_format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
            .unwrap_or(LogFormat::Text),
        collector: address(
            reader,
            "telemetry.otlp_endpoint",
            "the address of a collector, such as http://collector:4318",
        ),
        traces_url: address(
            reader,
            "telemetry.otlp_traces_endpoint",
            "the URL that traces are posted to, such as http://collector:4318/v1/traces",
        ),
        ca_file: reader.ca_file(
            "telemetry.ca_file",
            is_encrypted(reader, &["telemetry.otlp_endpoint", "telemetry.otlp_traces_endpoint"]),
            "neither telemetry.otlp_endpoint nor telemetry.otlp_traces_endpoint is an https:// address",
        ),
        service_name: reader.text("telemetry.service_name"),
    }
}
