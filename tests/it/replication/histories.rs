//! Random histories, with a fault in each round.

use std::time::Duration;

use tokio::time::sleep;

use super::equal::assert_equal;
use super::world::{User, caught_up, setup, stop, verify};
use crate::support::postgres::{self, Database};
use crate::support::process::{Server, Setup};
use crate::support::proxy::{Proxy, Traffic};
use crate::support::random::{Random, from_environment};

/// Kinds of faults, and rounds: each kind at least once.
const FAULTS: u64 = 10;
const ROUNDS: u64 = 12;
/// Enough for all that is written here; filled up by a fault.
const DISK_MIB: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_after_whatever_has_happened() {
    let small = postgres::database_on_small_disk(DISK_MIB).await;
    let Some(database) = (match small {
        Some(database) => Some(database),
        None => postgres::private_database().await,
    }) else {
        return;
    };
    let seed = from_environment("DATS_SEED", 7);
    let mut random = Random::new(seed);
    let proxy = Proxy::to((std::net::Ipv4Addr::LOCALHOST, database.server.port).into());
    let setup = setup(&database.url_through(proxy.address.port()));
    let mut server = setup.start();
    let mut user = User::new(seed, &server);
    // The tables are made before they are locked.
    caught_up(&server, &setup, &database).await;
    let schedule = random.schedule(FAULTS, from_environment("DATS_ROUNDS", ROUNDS));
    for (round, fault) in schedule.into_iter().enumerate() {
        println!("DATS_SEED={seed}, round {round}: fault {fault}");
        user.act(15).await;
        server = strike(fault, server, &setup, &database, &proxy, &mut user).await;
        user.moves_to(&server);
    }
    proxy.traffic(Traffic::Pass);
    stop(server, &setup, &database).await;
    assert_equal(&setup.data_dir(), &database).await;
    let verified = verify(&setup, &database.url(), &[]);
    assert_eq!(verified.code, 0, "seed {seed}: {} {}", verified.stdout, verified.stderr);
    assert!(!setup.log().contains(postgres::PASSWORD) && !setup.log().contains("panicked"), "{}", setup.log());
}

/// One fault, while the service is used.
async fn strike(
    fault: u64,
    mut server: Server,
    setup: &Setup,
    database: &Database,
    proxy: &Proxy,
    user: &mut User,
) -> Server {
    let postgres = &database.server;
    match fault {
        0 => {
            postgres.stop(false);
            user.act(10).await;
            postgres.run();
        }
        1 => {
            postgres.stop(true);
            user.act(10).await;
            postgres.run();
        }
        2 => {
            postgres.freeze(true);
            user.act(10).await;
            postgres.freeze(false);
        }
        3 => {
            postgres.set_read_only(true).await;
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'dats'";
            database.number(end).await;
            user.act(10).await;
            postgres.set_read_only(false).await;
            database.number(end).await;
        }
        4 => {
            proxy.cut_after(user.random.below(20_000));
            user.act(10).await;
        }
        5 => {
            // Longer than a statement may take.
            let other = database.connect().await;
            other.batch_execute("BEGIN; LOCK TABLE replication_state, tasks IN ACCESS EXCLUSIVE MODE").await.unwrap();
            user.act(10).await;
            sleep(Duration::from_secs(3)).await;
            other.batch_execute("ROLLBACK").await.unwrap();
        }
        6 => {
            proxy.traffic(Traffic::Delay(Duration::from_millis(20 + user.random.below(200))));
            user.act(10).await;
            proxy.traffic(Traffic::Pass);
        }
        7 if postgres.has_small_disk() => {
            postgres.fill_disk(true);
            user.act(10).await;
            postgres.fill_disk(false);
            if !postgres.is_running() {
                postgres.stop(true);
                postgres.run();
            }
        }
        7 | 8 => {
            proxy.traffic(Traffic::Refuse);
            user.act(10).await;
            proxy.traffic(Traffic::Pass);
        }
        _ => {
            let killed = async {
                sleep(Duration::from_millis(30)).await;
                server.kill();
            };
            tokio::join!(killed, user.act(10));
            return setup.start();
        }
    }
    server
}
