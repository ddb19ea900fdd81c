//! Everything that can happen to a broker and to the way to it, at random,
//! while tasks travel. Afterwards every task has ended, every event was heard
//! under one id, and every event that came in had one effect.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::world::{Names, Recorder, health, qa, soon, status_becomes, worker};
use crate::support::client::Client;
use crate::support::process::{Server, Setup};
use crate::support::proxy::{Proxy, Traffic};
use crate::support::rabbitmq::{self, RabbitMq};
use crate::support::random::{Random, from_environment};

/// The world that faults happen to.
struct Scene {
    broker: RabbitMq,
    proxy: Proxy,
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
            _ => {
                self.broker.kill();
                sleep(short).await;
                self.broker.run();
                "the broker was killed"
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
    let setup = names.setup(proxy.address).listen(&free_address());
    let mut scene = Scene { server: Some(setup.start()), broker, proxy, setup };
    let _others = (worker(address, &names, "small"), qa(address, &names).await);
    let mut tasks = Vec::new();
    for round in 0..from_environment("DATS_ROUNDS", 5) {
        let client = scene.client();
        for _ in 0..random.below(60) {
            tasks.push(client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await);
        }
        let fault = scene.fault(random.below(9), &mut random).await;
        println!("DATS_SEED={seed}, round {round}: {fault}, {} tasks", tasks.len());
    }
    let client = scene.client();
    for task in &tasks {
        let done = status_becomes(&client, task, "completed").await;
        assert_eq!(done["attempts"], 1, "{done}");
    }
    soon("all is told", async || {
        let told = health(&client).await;
        told["status"] == "connected" && told["backlog_changes"] == 0
    })
    .await;
    let expected = ["task.created", "task.ready.small", "task.output.created", "task.validated", "task.finished"];
    soon("all is heard", async || tasks.iter().all(|task| recorder.of_task(task).len() >= expected.len())).await;
    for task in &tasks {
        assert_eq!(recorder.of_task(task), expected, "{task}");
    }
    one_effect_each(&client, &tasks).await;
    assert_eq!(client.get("dead-letters").await.json()["dead_letters"], json!([]));
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
