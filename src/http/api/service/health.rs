//! `GET /health`, `/health/detailed`, `/livez`, `/readyz` and `/metrics`: the health of the service for people, for
//! orchestrators and for Prometheus.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::amqp::{self, LinkFigures, LinkState};
use crate::engine::Figures;
use crate::http::api::app::{App, Call};
use crate::http::api::service::registry;
use crate::http::openapi::words::{HealthStatus, TasksByPhase};
use crate::http::server::reply::{self, Reply, Time};
use crate::replica;
use crate::routing::ServiceFigures;
use crate::task::{Now, Phase, Tier};

/// The media type that Prometheus expects.
const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Whether the service works.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(in crate::http) struct HealthWire<'a> {
    /// The state of the service in one word.
    #[schema(value_type = HealthStatus)]
    status: &'static str,
    /// The version of the service.
    version: &'a str,
    /// When the state was determined.
    timestamp: Time,
    /// Present if the service works only in part: `not_owner` if another data directory has taken over the copy in
    /// Postgres, so that this service refuses changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
}

/// Whether the service works, with the state of its dependencies.
#[derive(Serialize, ToSchema)]
#[schema(as = DetailedHealth)]
pub(in crate::http) struct DetailedHealthWire<'a> {
    /// The state of the service in one word: `degraded` while a dependency is away and the rest works.
    #[schema(value_type = String)]
    status: &'static str,
    /// The version of the service.
    #[schema(value_type = String)]
    version: &'a str,
    /// When the state was determined.
    timestamp: Time,
    /// The dependencies by name: `store`, and those of `agent`, `rag`, `rabbitmq` and `postgres` that are configured.
    #[schema(value_type = BTreeMap<String, Dependency>)]
    dependencies: Dependencies,
    /// Counts of the service.
    figures: HealthFigures<'a>,
    /// `not_owner` if another data directory has taken over the copy in Postgres.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
}

/// The state of a dependency of the service.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Dependency {
    /// The state in one word.
    #[schema(value_type = String)]
    status: &'static str,
    /// Counts and times of the dependency.
    #[serde(flatten)]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    figures: Value,
}

/// Dependencies by name, in the order of the response.
struct Dependencies(Vec<(&'static str, Dependency)>);

impl Serialize for Dependencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, dependency)| (name, dependency)))
    }
}

/// Counts of the service.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct HealthFigures<'a> {
    /// The number of tasks in each phase.
    #[schema(value_type = TasksByPhase)]
    tasks: Map<String, Value>,
    /// The number of projects.
    projects: u64,
    /// The number of paused projects.
    paused_projects: u64,
    /// The paused tiers.
    paused_tiers: Vec<&'a Tier>,
    /// The newest position in the log.
    log_head: u64,
    /// The oldest position in the log.
    log_tail: u64,
    /// The number of commits since the start.
    commits: u64,
    /// The number of commands since the start.
    commands: u64,
    /// The number of commands that wait for the writer.
    queued_commands: u64,
    /// The number of accepted events since the start, by outcome.
    #[schema(value_type = BTreeMap<String, u64>)]
    events: Map<String, Value>,
    /// The number of dead letters.
    dead_letters: u64,
    /// The number of tasks whose answer is in memory.
    hot_tasks: u64,
}

/// Whether the process is alive, or ready for requests.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Probe {
    /// `alive`, `ready` or `not ready`.
    #[schema(value_type = String)]
    status: &'static str,
    /// Why the service is not ready: `not_owner` if another data directory has taken over the copy in Postgres, `full` or
    /// `waiting_for_room` if the disk has no room for a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
}

/// What the state of the service follows from.
struct Health {
    is_accepting: bool,
    reason: Option<&'static str>,
    engine: Figures,
    services: Vec<ServiceFigures>,
    broker: Option<(amqp::Figures, String)>,
    replica: Option<replica::Figures>,
}

/// Returns the reason for which the process refuses changes although it is well.
fn halt_reason(app: &App) -> Option<&'static str> {
    app.engine.is_halted().then_some("not_owner")
}

impl Health {
    fn read(app: &App) -> Self {
        Self {
            is_accepting: app.engine.is_accepting(),
            reason: halt_reason(app),
            engine: app.engine.figures(),
            services: app.services.figures().services,
            broker: app.broker.as_ref().map(|broker| (broker.figures(), broker.address().to_owned())),
            replica: app.replica.as_ref().map(|replica| replica.figures()),
        }
    }

    /// Returns the state of the store. Without room for submissions, the rest still works.
    fn store_status(&self) -> &'static str {
        match (self.is_accepting, self.engine.is_disk_low()) {
            (false, _) => "unhealthy",
            (true, true) => "degraded",
            (true, false) => "healthy",
        }
    }

    /// Returns the state of the service. Without one of its dependencies, the rest still works.
    fn status(&self) -> (StatusCode, &'static str) {
        if !self.is_accepting {
            return (StatusCode::SERVICE_UNAVAILABLE, self.store_status());
        }
        let is_degraded = self.reason.is_some()
            || self.broker.as_ref().is_some_and(|(broker, _)| broker.state() != LinkState::Connected)
            || self.services.iter().any(|service| service.away_since.is_some())
            || self.replica.as_ref().is_some_and(|replica| replica.state.is_interrupted());
        (StatusCode::OK, if is_degraded { "degraded" } else { self.store_status() })
    }

    fn dependencies(&self, now: Now) -> Dependencies {
        let figures = &self.engine;
        let store = json!({
            "size_bytes": figures.store_bytes,
            "free_mib": figures.free_mib,
            "reserve_mib": figures.reserve_mib,
            "room": figures.room.as_str(),
        });
        let mut all = vec![("store", Dependency { status: self.store_status(), figures: store })];
        all.extend(self.services.iter().map(|service| (service.service, service_health(service, now))));
        if let Some((broker, address)) = &self.broker {
            all.push(("rabbitmq", broker_health(broker, address, figures, now)));
        }
        all.extend(self.replica.iter().map(|replica| ("postgres", replica_health(replica, now))));
        Dependencies(all)
    }
}

/// Handles `GET /health`.
pub(in crate::http) fn health(call: &Call) -> Reply {
    call.require_no_query()?;
    let health = Health::read(&call.app);
    let (code, status) = health.status();
    let (version, timestamp) = (&call.app.settings.version, Time(call.app.clock.wall()));
    Ok(reply::json(code, &HealthWire { status, version, timestamp, reason: health.reason }))
}

/// Handles `GET /health/detailed`.
pub(in crate::http) fn detailed(call: &Call) -> Reply {
    call.require_no_query()?;
    let health = Health::read(&call.app);
    let (code, status) = health.status();
    let wire = DetailedHealthWire {
        status,
        version: &call.app.settings.version,
        timestamp: Time(call.app.clock.wall()),
        dependencies: health.dependencies(call.app.clock.now()),
        figures: HealthFigures::new(&health.engine),
        reason: health.reason,
    };
    Ok(reply::json(code, &wire))
}

fn service_health(service: &ServiceFigures, now: Now) -> Dependency {
    let error = service.last_error.as_ref();
    let figures = json!({
        "breaker": service.state.as_str(),
        "away_since": service.away_since.map(|since| now.calendar(since).to_string()),
        "in_flight": service.in_flight,
        "last_error": error.map(|(at, message)| json!({"at": at.to_string(), "message": message})),
    });
    Dependency { status: if service.away_since.is_some() { "away" } else { "healthy" }, figures }
}

/// Returns the state of the broker, with the backlog of messages to publish.
fn broker_health(broker: &amqp::Figures, address: &str, figures: &Figures, now: Now) -> Dependency {
    let behind = figures.readers.iter().find(|behind| behind.reader == amqp::READER);
    let link = |link: &LinkFigures| json!({"status": link.state.as_str(), "since": link.since.to_string()});
    let waiting = broker
        .waiting
        .iter()
        .map(|(tier, waiting)| (tier.to_string(), json!({"ready": waiting.ready, "consumers": waiting.consumers})));
    let figures = json!({
        "address": address,
        "publisher": link(&broker.publisher),
        "consumer": link(&broker.consumer),
        "last_error": broker.last_error().map(|(at, message)| json!({"at": at.to_string(), "message": message})),
        "backlog_changes": behind.map_or(0, |behind| behind.changes),
        "backlog_seconds": behind.and_then(|behind| behind.oldest).map_or(0.0, |oldest| now.since(oldest).as_secs_f64()),
        "held": broker.held,
        "work_queues": waiting.collect::<Map<String, Value>>(),
    });
    Dependency { status: broker.state().as_str(), figures }
}

/// Returns the state of the copy in Postgres.
fn replica_health(replica: &replica::Figures, now: Now) -> Dependency {
    let error = replica.last_error.as_ref();
    let figures = json!({
        "doing": replica.state.as_str(),
        "database": replica.database,
        "owner": replica.owner,
        "lag_changes": replica.lag_changes,
        "lag_seconds": replica.behind_since.map_or(0, |since| now.since(since).as_secs()),
        "scanning": replica.scanning,
        "rejects": replica.rejects,
        "last_error": error.map(|(at, message)| json!({"at": at.to_string(), "message": message})),
    });
    Dependency { status: if replica.state.is_interrupted() { replica.state.as_str() } else { "healthy" }, figures }
}

impl<'a> HealthFigures<'a> {
    fn new(figures: &'a Figures) -> Self {
        let phases = Phase::ALL.map(|phase| (phase.as_str().to_owned(), figures.counters.phase(phase).into()));
        let events = figures.events.by_outcome().map(|(outcome, count)| (outcome.to_owned(), Value::from(count)));
        Self {
            tasks: phases.into_iter().collect(),
            projects: figures.projects,
            paused_projects: figures.paused_projects,
            paused_tiers: figures.paused_tiers().collect(),
            log_head: figures.head,
            log_tail: figures.tail,
            commits: figures.commits,
            commands: figures.commands,
            queued_commands: figures.queued_commands,
            events: events.into_iter().collect(),
            dead_letters: figures.dead_letters.kept,
            hot_tasks: figures.hot_tasks,
        }
    }
}

/// Handles `GET /livez`: the process is alive.
pub(in crate::http) fn live(call: &Call) -> Reply {
    call.require_no_query()?;
    Ok(reply::json(StatusCode::OK, &Probe { status: "alive", reason: None }))
}

/// Handles `GET /readyz`: whether the service is ready for requests.
pub(in crate::http) fn ready(call: &Call) -> Reply {
    call.require_no_query()?;
    let room = call.app.engine.room();
    let reason = halt_reason(&call.app).or_else(|| room.stands_still().then(|| room.as_str()));
    if reason.is_none() && call.app.engine.is_accepting() && !call.stopping.is_cancelled() {
        return Ok(reply::json(StatusCode::OK, &Probe { status: "ready", reason: None }));
    }
    Ok(reply::json(StatusCode::SERVICE_UNAVAILABLE, &Probe { status: "not ready", reason }))
}

/// Handles `GET /metrics`.
pub(in crate::http) fn metrics(call: &Call) -> Reply {
    call.require_no_query()?;
    let response = reply::rendered(StatusCode::OK, registry::render(&call.app.registry));
    Ok(reply::with_header(response, CONTENT_TYPE, METRICS))
}
