//! Health for people, for orchestrators and for Prometheus.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::amqp::{self, LinkFigures, LinkState};
use crate::engine::Figures;
use crate::http::api::app::{App, Call};
use crate::http::api::service::registry;
use crate::http::openapi::HealthStatus;
use crate::http::server::reply::{self, Reply, Shown, Time};
use crate::replica;
use crate::routing::ServiceFigures;
use crate::task::{Now, Phase};

/// What Prometheus expects of this text.
const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

fn by_health(healthy: bool) -> (StatusCode, &'static str) {
    if healthy { (StatusCode::OK, "healthy") } else { (StatusCode::SERVICE_UNAVAILABLE, "unhealthy") }
}

/// Whether the service works.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(in crate::http) struct HealthWire<'a> {
    /// In one word.
    #[schema(value_type = HealthStatus)]
    status: &'static str,
    /// Of the service.
    version: &'a str,
    /// When that was.
    timestamp: Time,
    /// Why it does not do all of its work: `not_owner` where another data
    /// directory has taken over the copy in Postgres, and writes are refused here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
}

/// The reason for which no work is done here, although the process is well.
fn reason(app: &App) -> Option<&'static str> {
    app.engine.is_halted().then_some("not_owner")
}

/// `GET /health`
pub(in crate::http) fn health(call: &Call) -> Reply {
    call.require_no_query()?;
    let parts = Parts::of(&call.app);
    let (code, status) = parts.overall();
    let (version, timestamp) = (&call.app.settings.version, Shown(call.app.clock.wall()));
    let health = HealthWire { status, version, timestamp, reason: parts.reason };
    Ok(reply::json(code, &health))
}

/// What health is made of.
struct Parts {
    is_accepting: bool,
    /// The reason for which no work is done here, although the process is well.
    reason: Option<&'static str>,
    engine: Figures,
    services: Vec<ServiceFigures>,
    broker: Option<(amqp::Figures, String)>,
    replica: Option<replica::Figures>,
}

impl Parts {
    fn of(app: &App) -> Self {
        Self {
            is_accepting: app.engine.is_accepting(),
            reason: reason(app),
            engine: app.engine.figures(),
            services: app.services.figures().services,
            broker: app.broker.as_ref().map(|broker| (broker.figures(), broker.address().to_owned())),
            replica: app.replica.as_ref().map(|replica| replica.figures()),
        }
    }

    /// The store alone: without submissions the rest still works.
    fn store(&self) -> &'static str {
        match by_health(self.is_accepting) {
            (StatusCode::OK, _) if self.engine.is_disk_low() => "degraded",
            (_, status) => status,
        }
    }

    /// Everything, in one word: without one of the others the rest still works.
    fn overall(&self) -> (StatusCode, &'static str) {
        let (code, _) = by_health(self.is_accepting);
        let is_away = self.reason.is_some()
            || self.broker.as_ref().is_some_and(|(broker, _)| broker.state() != LinkState::Connected)
            || self.services.iter().any(|service| service.away_since.is_some())
            || self.replica.as_ref().is_some_and(|replica| replica.state.is_interrupted());
        (code, if is_away && code == StatusCode::OK { "degraded" } else { self.store() })
    }
}

/// `GET /health/detailed`
pub(in crate::http) fn detailed(call: &Call) -> Reply {
    call.require_no_query()?;
    let parts = Parts::of(&call.app);
    let (code, status) = parts.overall();
    let (figures, now) = (&parts.engine, call.app.clock.now());
    let mut dependencies = Map::new();
    let store_wire = json!({
        "status": parts.store(),
        "size_bytes": figures.store_bytes,
        "free_mib": figures.free_mib,
        "reserve_mib": figures.reserve_mib,
        "room": figures.room.as_str(),
    });
    dependencies.insert("store".to_owned(), store_wire);
    dependencies.extend(parts.services.iter().map(|service| (service.service.to_owned(), service_wire(service, now))));
    if let Some((broker, address)) = &parts.broker {
        dependencies.insert("rabbitmq".to_owned(), broker_wire(broker, address, figures, now));
    }
    dependencies.extend(parts.replica.iter().map(|replica| ("postgres".to_owned(), replica_wire(replica, now))));
    let mut body = json!({
        "status": status,
        "version": call.app.settings.version,
        "timestamp": call.app.clock.wall().to_string(),
        "dependencies": dependencies,
        "figures": figures_wire(figures),
    });
    if let (Some(reason), Some(body)) = (parts.reason, body.as_object_mut()) {
        body.insert("reason".to_owned(), reason.into());
    }
    Ok(reply::json(code, &body))
}

fn service_wire(service: &ServiceFigures, now: Now) -> Value {
    let error = service.last_error.as_ref();
    json!({
        "status": if service.away_since.is_some() { "away" } else { "healthy" },
        "breaker": service.state.as_str(),
        "away_since": service.away_since.map(|since| now.calendar(since).to_string()),
        "in_flight": service.in_flight,
        "last_error": error.map(|(at, message)| json!({"at": at.to_string(), "message": message})),
    })
}

/// The broker: how it is, and how far what was to be published is behind.
fn broker_wire(broker: &amqp::Figures, address: &str, figures: &Figures, now: Now) -> Value {
    let behind = figures.readers.iter().find(|behind| behind.reader == amqp::READER);
    let link = |link: &LinkFigures| json!({"status": link.state.as_str(), "since": link.since.to_string()});
    let waiting = broker
        .waiting
        .iter()
        .map(|(tier, waiting)| (tier.to_string(), json!({"ready": waiting.ready, "consumers": waiting.consumers})));
    json!({
        "status": broker.state().as_str(),
        "address": address,
        "publisher": link(&broker.publisher),
        "consumer": link(&broker.consumer),
        "last_error": broker.last_error().map(|(at, message)| json!({"at": at.to_string(), "message": message})),
        "backlog_changes": behind.map_or(0, |behind| behind.changes),
        "backlog_seconds": behind.and_then(|behind| behind.oldest).map_or(0.0, |oldest| now.since(oldest).as_secs_f64()),
        "held": broker.held,
        "work_queues": waiting.collect::<Map<String, Value>>(),
    })
}

/// The copy in Postgres.
fn replica_wire(replica: &replica::Figures, now: Now) -> Value {
    let error = replica.last_error.as_ref();
    json!({
        "status": if replica.state.is_interrupted() { replica.state.as_str() } else { "healthy" },
        "doing": replica.state.as_str(),
        "database": replica.database,
        "owner": replica.owner,
        "lag_changes": replica.lag_changes,
        "lag_seconds": replica.behind_since.map_or(0, |since| now.since(since).as_secs()),
        "scanning": replica.scanning,
        "rejects": replica.rejects,
        "last_error": error.map(|(at, message)| json!({"at": at.to_string(), "message": message})),
    })
}

fn figures_wire(figures: &Figures) -> Value {
    let phases = Phase::ALL.map(|phase| (phase.as_str().to_owned(), figures.counters.phase(phase).into()));
    let events = figures.events.by_outcome().map(|(outcome, count)| (outcome.to_owned(), Value::from(count)));
    let events: Map<String, Value> = events.into_iter().collect();
    json!({
        "tasks": phases.into_iter().collect::<Map<String, Value>>(),
        "projects": figures.projects,
        "paused_projects": figures.paused_projects,
        "paused_tiers": figures.paused_tiers().collect::<Vec<_>>(),
        "log_head": figures.head,
        "log_tail": figures.tail,
        "commits": figures.commits,
        "commands": figures.commands,
        "queued_commands": figures.queued_commands,
        "events": events,
        "dead_letters": figures.dead_letters.kept,
        "hot_tasks": figures.hot_tasks,
    })
}

/// `GET /livez`: the process answers.
pub(in crate::http) fn live(call: &Call) -> Reply {
    call.require_no_query()?;
    Ok(reply::json(StatusCode::OK, &json!({"status": "alive"})))
}

/// `GET /readyz`: requests may be sent here.
pub(in crate::http) fn ready(call: &Call) -> Reply {
    call.require_no_query()?;
    let room = call.app.engine.room();
    if let Some(reason) = reason(&call.app).or_else(|| room.stands_still().then(|| room.as_str())) {
        let body = json!({"status": "not ready", "reason": reason});
        return Ok(reply::json(StatusCode::SERVICE_UNAVAILABLE, &body));
    }
    if call.app.engine.is_accepting() && !call.stopping.is_cancelled() {
        return Ok(reply::json(StatusCode::OK, &json!({"status": "ready"})));
    }
    Ok(reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "not ready"})))
}

/// `GET /metrics`
pub(in crate::http) fn metrics(call: &Call) -> Reply {
    call.require_no_query()?;
    let response = reply::rendered(StatusCode::OK, registry::render(&call.app.registry));
    Ok(reply::with_header(response, CONTENT_TYPE, METRICS))
}
