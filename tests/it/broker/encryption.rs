//! Encrypted connections to the broker: whom they are believed to lead to, and
//! what is said when that is not proven.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::world::{Names, PATIENCE, health, qa, status_becomes, worker};
use crate::support::certificates::Certificates;
use crate::support::client::Client;
use crate::support::process::{Server, Setup};
use crate::support::rabbitmq::{self, RabbitMq};

/// A service that connects encrypted to the host of this name, and believes
/// the authority in this file.
fn encrypted(names: &Names, host: &str, port: u16, authority: &Path) -> Setup {
    names
        .setup(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .with("RABBITMQ_HOST", host)
        .with("DATS__EVENTS__RABBITMQ__TLS", "true")
        .with("DATS__EVENTS__RABBITMQ__CA_FILE", &authority.display().to_string())
}

/// Waits until health says this of the broker; all that it says then.
async fn broker_becomes(server: &Server, status: &str) -> Value {
    let client = Client::new(&server.address);
    let started = Instant::now();
    loop {
        let last = health(&client).await;
        if last["publisher"]["status"] == status && last["consumer"]["status"] == status {
            return last;
        }
        assert!(started.elapsed() < PATIENCE, "the broker is not {status}: {last}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_broker_must_prove_who_it_is() {
    if !rabbitmq::is_installed("broker::encryption") {
        return;
    }
    let (Some(its), Some(other)) = (Certificates::of("localhost"), Certificates::of("localhost")) else { return };
    let (broker, port) = RabbitMq::start_encrypted(&its.authority(), &its.certificate(), &its.key());

    // Known authority, right name: tasks travel as without encryption.
    let names = Names::new();
    let setup = encrypted(&names, "localhost", port, &its.authority());
    let server = setup.start();
    broker_becomes(&server, "connected").await;
    let _others = (worker(broker.address(), &names, "small"), qa(broker.address(), &names).await);
    let client = Client::new(&server.address);
    let task = client.submit(&json!({"description": "d", "options": {"tier": "small"}})).await;
    status_becomes(&client, &task, "completed").await;
    let listeners = broker.control(&["list_connections", "ssl", "client_properties"]);
    let of_ours = listeners.lines().filter(|line| line.contains("dats orchestration"));
    assert!(of_ours.clone().count() == 2 && of_ours.clone().all(|line| line.starts_with("true")), "{listeners}");
    drop(server);

    // The certificate names the host, not its address.
    let missing = setup.beside("no-such-file");
    for (host, authority, words) in [
        ("127.0.0.1", its.authority(), "not valid for name"),
        ("localhost", other.authority(), "invalid peer certificate"),
        ("localhost", missing, "no-such-file"),
    ] {
        let setup = encrypted(&Names::new(), host, port, &authority);
        let server = setup.start();
        let told = broker_becomes(&server, "refused").await;
        let message = told["last_error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{host}, {}: {told}", authority.display());
        // Everything else goes on.
        Client::new(&server.address).submit(&json!({"description": "meanwhile"})).await;
        assert_eq!(setup.log().matches("the broker refuses").count(), 2, "once a connection: {}", setup.log());
    }
}
