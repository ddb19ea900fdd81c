//! Everything that can happen to a broker, a database, the ways to them and the
//! service, in a random order, while tasks travel. Afterwards every task has
//! ended, every event was heard under one id, every event that came in had one
//! effect, and the database has all of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::world::{Names, Peer, Recorder, health, qa, soon, status_within_patience, worker};
use crate::replication::equal::assert_equal;
use crate::support::client::Client;
use crate::support::postgres::{self, Database};
use crate::support::process::{Server, Setup};
use crate::support::proxy::{Proxy, Traffic};
use crate::support::rabbitmq::{self, RabbitMq};
use crate::support::random::{Random, from_environment};

/// Kinds of faults without a database, and with one.
const FAULTS: u64 = 10;
const FAULTS_WITH_DATABASE: u64 = 14;

/// The world that faults happen to.
struct Scene {
    broker: RabbitMq,
    names: Names,
    proxy: Proxy,
    database: Option<Database>,
    setup: Setup,
    server: Option<Server>,
}

impl Scene {
    fn client(&self) -> Client {
        Client::new(&self.server.as_ref().unwrap().address)
    }

    /// One fault, and its end.
    async fn fault(&mut self, number: u64, random: &mut Random) -> &'static str {
        let short = Duration::from_millis(200 + random.below(800));
        match number {
            0 => {
                self.server.as_mut().unwrap().kill();
                self.server = Some(self.setup.start());
                "the service was killed"
            }
            1 => {
                self.proxy.cut_after(random.below(20_000));
                sleep(short).await;
                "a connection was cut in the middle of a frame"
            }
            2 => {
                self.proxy.reset();
                "every connection of the service was reset"
            }
            3 => {
                self.broker.freeze();
                sleep(short).await;
                self.broker.thaw();
                "the broker hung"
            }
            4 => {
                self.proxy.traffic(Traffic::Hold);
                // Longer than a confirm may take.
                sleep(Duration::from_secs(4)).await;
                self.proxy.traffic(Traffic::Pass);
                "the network swallowed everything"
            }
            5 => {
                self.broker.close_connections();
                "the broker closed every connection"
            }
            6 => {
                self.broker.alarm(true);
                sleep(short).await;
                self.broker.alarm(false);
                "the broker was short of memory"
            }
            7 => {
                self.proxy.traffic(Traffic::Delay(Duration::from_millis(random.below(50))));
                sleep(short).await;
                self.proxy.traffic(Traffic::Pass);
                "the network was slow"
            }
            8 => {
                self.broker.kill();
                sleep(short).await;
                self.broker.run();
                "the broker was killed"
            }
            9 => {
                self.delete_queue().await;
                "the queue of the service was deleted"
            }
            _ => self.fault_of_database(number, short).await,
        }
    }

    /// The queue of the service. What was in it would be lost with it: the tasks
    /// have ended before. That of the workers has a test of its own: here the
    /// recorder hears every key, so that no task would come back for want of it.
    async fn delete_queue(&self) {
        let client = self.client();
        soon("it is connected", async || health(&client).await["status"] == "connected").await;
        let peer = Peer::connect(self.broker.address(), &self.names).await.unwrap();
        peer.delete_queue_of_service(&client).await;
        self.one_task().await;
    }

    /// A task that goes all the way, and with it a message through every queue. A broker
    /// that is killed just after a quorum queue was declared can bring it back without a
    /// leader, for good (seen with 3.10.8: "leader not known"): who consumes it, or
    /// publishes into it, waits for ever. That is not what is tested here.
    async fn one_task(&self) -> String {
        let task = self.client().submit(&submission()).await;
        self.all_complete(std::slice::from_ref(&task)).await;
        task
    }

    async fn all_complete(&self, tasks: &[String]) {
        let client = self.client();
        for task in tasks {
            let done = status_within_patience(&client, task, "completed").await;
            let done = done.unwrap_or_else(|found| panic!("{found}\n{}", self.queues()));
            assert_eq!(done["attempts"], 1, "{done}");
        }
    }

    /// What the broker says that its queues hold, and who consumes them.
    fn queues(&self) -> String {
        let queues = ["list_queues", "name", "messages_ready", "messages_unacknowledged", "consumers"];
        let consumers = ["list_consumers", "queue_name", "channel_pid", "prefetch_count", "active", "activity_status"];
        self.broker.control(&queues) + &self.broker.control(&consumers)
    }

    async fn fault_of_database(&self, number: u64, short: Duration) -> &'static str {
        let database = self.database.as_ref().unwrap();
        match number {
            10 => {
                database.server.stop(true);
                sleep(short).await;
                database.server.run();
                "the database was killed"
            }
            11 => {
                database.server.freeze(true);
                sleep(short).await;
                database.server.freeze(false);
                "the database hung"
            }
            12 => {
                database.server.set_read_only(true).await;
                sleep(short).await;
                database.server.set_read_only(false).await;
                "the database was read-only"
            }
            _ => {
                let other = database.connect().await;
                // In the order in which a transaction of the copy takes them: no deadlock.
                let lock = "BEGIN; LOCK TABLE replication_state, tasks IN ACCESS EXCLUSIVE MODE";
                other.batch_execute(lock).await.unwrap();
                // Longer than a statement may take.
                sleep(Duration::from_secs(3)).await;
                "the tables were locked"
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_every_event_is_heard_and_has_one_effect() {
    if !rabbitmq::is_installed("broker::faults") {
        return;
    }
    let seed = from_environment("DATS_SEED", 1);
    let mut random = Random::new(seed);
    let (broker, names) = (RabbitMq::start(), Names::new());
    let address = broker.address();
    let recorder = Recorder::start(address, &names).await;
    let proxy = Proxy::to(address);
    // So small a window that waves are full, and the next one is made ready meanwhile.
    let setup = names.setup(proxy.address).with("DATS__EVENTS__RABBITMQ__WINDOW", "8");
    let mut setup = setup.listen(&free_address());
    let database = postgres::private_database().await;
    if let Some(database) = &database {
        setup = setup
            .with("DATABASE_URL", &database.url())
            .with("DATS__STORAGE__RETRY_MAX_SECONDS", "1")
            .with("DATS__STORAGE__STATEMENT_TIMEOUT_SECONDS", "2");
    }
    let kinds = if database.is_some() { FAULTS_WITH_DATABASE } else { FAULTS };
    let schedule = random.schedule(kinds, from_environment("DATS_ROUNDS", 0));
    let server = Some(setup.start());
    let mut scene = Scene { server, broker, names: names.clone(), proxy, database, setup };
    let _others = (worker(address, &names, "small"), qa(address, &names).await);
    let mut tasks = vec![scene.one_task().await];
    for (round, fault) in schedule.into_iter().enumerate() {
        let client = scene.client();
        for _ in 0..random.below(60) {
            tasks.push(client.submit(&submission()).await);
        }
        if fault == 9 {
            scene.all_complete(&tasks).await;
        }
        let fault = scene.fault(fault, &mut random).await;
        println!("DATS_SEED={seed}, round {round}: {fault}, {} tasks", tasks.len());
    }
    scene.all_complete(&tasks).await;
    let client = scene.client();
    soon("all is told", async || {
        let told = health(&client).await;
        told["status"] == "connected" && told["backlog_changes"] == 0
    })
    .await;
    let expected = ["task.created", "task.ready.small", "task.output.created", "task.validated", "task.finished"];
    let all = recorder.hears(&tasks, &expected).await;
    all.unwrap_or_else(|unheard| panic!("never heard: {unheard:?}\n{}", scene.queues()));
    for task in &tasks {
        assert_eq!(recorder.own_of_task(task), ["task.created", "task.ready.small", "task.finished"], "{task}");
        // A broker that is killed may have kept a `task.ready` for the worker and not for
        // us: then we hear it when it comes again, which can be after the output.
        let mut heard = recorder.of_task(task);
        heard.sort_by_key(|key| expected.iter().position(|each| each == key));
        assert_eq!(heard, expected, "{task}");
    }
    one_effect_each(&client, &tasks).await;
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
    if let Some(database) = &scene.database {
        soon("all is copied", async || {
            let health = client.get("health/detailed").await.json();
            health["dependencies"]["postgres"]["lag_changes"] == 0
        })
        .await;
        scene.server = None;
        assert_equal(&scene.setup.data_dir(), database).await;
    }
    let log = scene.setup.log();
    assert!(!log.contains("panicked") && !log.contains(postgres::PASSWORD), "{log}");
}

fn submission() -> Value {
    json!({"description": "d", "options": {"tier": "small"}})
}

/// Each event that came in is in the log once, and its task has moved once.
async fn one_effect_each(client: &Client, tasks: &[String]) {
    for task in tasks {
        let history = client.get(&format!("tasks/{task}/events")).await.json();
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        for event in history["events"].as_array().into_iter().flatten() {
            *times.entry(event["type"].as_str().unwrap_or_default()).or_default() += 1;
        }
        for name in ["task.created", "task.ready", "task.output.created", "task.validated", "task.finished"] {
            assert_eq!(times.get(name), Some(&1), "{name} of {task}: {}", Value::to_string(&history));
        }
    }
}

/// A port that the service can have again after it was killed.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
