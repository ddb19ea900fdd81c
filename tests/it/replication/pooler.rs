//! The copy behind a connection pooler, and in a database that can't hold all
//! texts.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::equal::assert_equal;
use super::world::{caught_up, copy_becomes, setup, stop};
use crate::support::client::Client;
use crate::support::postgres::{self, Database};

/// A running `PgBouncer`; it ends with the test.
struct Pooler {
    child: Child,
    port: u16,
    _home: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It has no state to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None`: `PgBouncer` is not installed, and the test is skipped.
fn pooler(database: &Database, mode: &str) -> Option<Pooler> {
    let program = Path::new("/usr/sbin/pgbouncer");
    if !program.exists() {
        println!("skipped: PgBouncer is not installed");
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = home.path().join("pgbouncer.ini");
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={} user={} password={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nauth_type = any\npool_mode = {mode}\nunix_socket_dir =\n",
        database.server.port,
        postgres::USER,
        postgres::PASSWORD,
    );
    fs::write(&file, settings).unwrap();
    let mut command = Command::new(program);
    database.server.own(&mut command);
    fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let child = command.arg("-q").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Some(Pooler { child: child.spawn().unwrap(), port, _home: home })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_by_the_transaction_is_named() {
    let Some(database) = postgres::database().await else { return };
    let Some(pooler) = pooler(&database, "transaction") else { return };
    let setup = setup(&database.url_through(pooler.port));
    let server = setup.start();
    let copy = copy_becomes(&server, &setup, |copy| copy["status"] == "misconfigured").await;
    let message = copy["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("pool_mode=session"), "{copy}");
    // Nothing was left behind on the connection that others get.
    let address = format!("host=127.0.0.1 port={} user=dats dbname={}", pooler.port, database.name);
    let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for message in client.simple_query("SHOW statement_timeout").await.unwrap() {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            assert_eq!(row.get(0), Some("0"));
        }
    }
    assert_eq!(Client::new(&server.address).get("/readyz").await.status, 200, "the service goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_by_the_session_is_as_good_as_the_database() {
    let Some(database) = postgres::database().await else { return };
    let Some(pooler) = pooler(&database, "session") else { return };
    let setup = setup(&database.url_through(pooler.port));
    let server = setup.start();
    Client::new(&server.address).submit(&json!({"description": "through a pooler"})).await;
    caught_up(&server, &setup, &database).await;
    stop(server, &setup, &database).await;
    assert_equal(&setup.data_dir(), &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_utf8_is_refused_at_once() {
    let Some(database) = postgres::database().await else { return };
    let name = format!("{}_latin", database.name);
    let make = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    database.execute(&make).await;
    let latin = Database { name, ..database.clone() };
    let setup = setup(&latin.url());
    let server = setup.start();
    let copy = copy_becomes(&server, &setup, |copy| copy["status"] == "misconfigured").await;
    let message = copy["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("the encoding LATIN1") && message.contains("ENCODING 'UTF8'"), "{copy}");
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(latin.number(tables).await, 0, "nothing was made there");
}
