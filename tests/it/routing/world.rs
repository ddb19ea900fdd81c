//! An engine and a driver in this process, between them and the stand-ins
//! nothing but what is there in earnest.

use std::sync::Arc;
use std::time::Duration;

use dats::clock::{Clock, Stopwatch};
use dats::engine::{PageStart, TaskFilter};
use dats::routing::{self, Breaker, Driver, Fallback, Services};
use dats::task::{Change, TaskId};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::fixtures;
use crate::support::service::Service;
use crate::support::stand_in::StandIn;

/// Settings with short waits, for either service where there is one.
pub(super) fn settings(agent: Option<&StandIn>, rag: Option<&StandIn>) -> routing::Settings {
    let service = |stand_in: &StandIn| routing::Service {
        try_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(20),
        retry_initial: Duration::from_millis(5),
        breaker: Breaker {
            failures: 3,
            cool_down_initial: Duration::from_millis(50),
            cool_down_max: Duration::from_millis(200),
        },
        ..super::service(&stand_in.url)
    };
    routing::Settings {
        agent: agent.map(service),
        rag: rag.map(|rag| routing::Service { call_timeout: Duration::from_secs(1), ..service(rag) }),
        fallback: Fallback::Wait,
        return_initial: Duration::from_millis(20),
        return_max: Duration::from_millis(200),
        ..routing::Settings::new(vec![fixtures::tier("small"), fixtures::tier("large")])
    }
}

/// Options of an agent that knows the engine's tiers.
pub(super) fn agent(options: &[&str]) -> StandIn {
    StandIn::agent(&[&["--tiers", "small,large"], options].concat())
}

pub(super) struct World {
    pub(super) service: Service,
    pub(super) services: Arc<Services>,
    settings: routing::Settings,
    driver: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    pub(super) fn new(settings: routing::Settings) -> Self {
        Self::with(settings, fixtures::settings())
    }

    /// With another engine than the usual one.
    pub(super) fn with(settings: routing::Settings, mut of_engine: dats::engine::Settings) -> Self {
        of_engine.policy.agent = settings.agent.is_some();
        of_engine.policy.rag = settings.rag.is_some();
        let services = Arc::new(Services::new(&settings, &Clock::new()).unwrap());
        let mut world = Self { service: Service::new(of_engine), services, settings, driver: None };
        world.start_driver();
        world
    }

    fn start_driver(&mut self) {
        let engine = self.service.engine().clone();
        let driver = Driver::new(engine, self.services.clone(), &self.settings, Clock::new());
        let stop = CancellationToken::new();
        self.driver = Some((stop.clone(), tokio::spawn(driver.run(stop))));
    }

    /// Ends the driver, whatever it is at.
    async fn stop_driver(&mut self) {
        if let Some((stop, ended)) = self.driver.take() {
            stop.cancel();
            ended.await.unwrap();
        }
    }

    /// Stops and starts everything; in between all invariants must hold.
    pub(super) async fn restart(mut self) -> Self {
        self.stop_driver().await;
        self.service = self.service.restart();
        self.services = Arc::new(Services::new(&self.settings, &Clock::new()).unwrap());
        self.start_driver();
        self
    }

    pub(super) async fn submit(&self, text: &str) -> TaskId {
        self.service.submit(fixtures::submission("p-1", text)).await
    }

    /// Waits for what is bound to happen.
    pub(super) async fn soon(&self, what: &str, mut happened: impl FnMut() -> bool) {
        self.service.soon(what, &mut happened).await;
    }

    /// Waits until a task is routed: it is dispatched, or has subtasks.
    pub(super) async fn routed(&self, task: TaskId) -> Value {
        self.soon("to be routed", || !is_waiting(&self.service.status(task))).await;
        self.service.status(task)
    }

    /// All tasks there are.
    pub(super) async fn count(&self) -> usize {
        let page = self.service.engine().tasks().list(TaskFilter::default(), PageStart::Offset(0), 1000).await.unwrap();
        page.tasks.len()
    }

    /// How often a change of this name stands in a task's history.
    pub(super) async fn times(&self, task: TaskId, name: &str) -> usize {
        self.service.history_names(task).await.iter().filter(|each| *each == name).count()
    }

    /// Whether the Agent has said that a task is to be split.
    pub(super) async fn is_to_be_split(&self, task: TaskId) -> bool {
        let history = self.service.history(task).await;
        history.iter().any(|entry| matches!(entry.change, Change::Analyzed { split: true, .. }))
    }

    /// Nothing is routed for a while.
    pub(super) async fn stays_waiting(&self, task: TaskId, time: Duration) {
        let started = Stopwatch::start();
        while started.elapsed() < time {
            assert_eq!(self.service.phase(task), "analyzing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn end(mut self) {
        self.stop_driver().await;
    }
}

/// Whether a task waits to be routed.
pub(super) fn is_waiting(status: &Value) -> bool {
    status["phase"] == "analyzing"
}

/// The subtasks that a status names.
pub(super) fn children(status: &Value) -> Vec<TaskId> {
    let children = status["children"].as_array().into_iter().flatten();
    children.map(|child| child.as_str().unwrap().parse().unwrap()).collect()
}
