//! Our writer and our log on a disk that loses power (promises 1 to 5 and 9):
//! what was acknowledged is there after the crash, what was refused left no
//! trace, what is unknown happened as a whole or not at all.
//!
//! `DATS_ROUNDS` makes a run longer, `DATS_SEED` another one.

mod client;
mod journal;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dats::clock::Clock;
use dats::engine::{Engine, Error, Settings};
use dats::store::Store;

use self::client::{Client, Sizes};
use self::journal::Journal;
use crate::support::disk::Disk;
use crate::support::fixtures::{CACHE_BYTES, lease_request, settings, submission};
use crate::support::invariants::{self, Snapshot};
use crate::support::random::{Random, from_environment};

const CLIENTS: u64 = 4;
/// Crashes of one disk, one after the other.
const CRASHES: usize = 8;
/// Longer than any group takes: a caller that waits longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the crashes of a run met, so that a run that met nothing is noticed.
#[derive(Debug, Default)]
struct Met {
    crashes: usize,
    while_recovering: usize,
    unknown: usize,
    unknown_but_done: usize,
    acknowledged: usize,
}

/// A journal with room for some dozen commits.
const SMALL_JOURNAL: u64 = 256 * 1024;
/// The journals of a disk on which things have all sizes: one that few records fit
/// into, one that most do, and one that all do.
const JOURNALS: [u64; 3] = [SMALL_JOURNAL, 2 * 1024 * 1024, 12 * 1024 * 1024];

fn tuned(sizes: Sizes) -> Settings {
    let group_max = if sizes == Sizes::All { 256 } else { 16 };
    Settings { group_max, max_concurrent: client::MAX_CONCURRENT, ..settings() }
}

/// Opens the store; with `crashes`, the disk dies a few times on the way.
fn open(disk: &mut Disk, random: &mut Random, met: &mut Met) -> Result<Store> {
    while random.chance(40) {
        disk.die_after(random.below(60));
        let opened = disk.open_store(CACHE_BYTES).and_then(|store| store.recover().map(drop));
        if disk.is_dead() {
            met.while_recovering += 1;
        } else {
            opened.context("to open a healthy disk")?;
        }
        *disk = disk.crash();
    }
    disk.open_store(CACHE_BYTES).context("to open the disk after a crash")
}

/// Lets clients work until the disk dies.
async fn work(store: Store, disk: &Disk, journal: &Arc<Journal>, random: &mut Random, sizes: Sizes) -> Result<()> {
    let (engine, writer) = Engine::start(store, tuned(sizes), &Clock::new())?;
    disk.die_after(random.below(500));
    let clients = (0..CLIENTS).map(|number| {
        let client = Client::new(engine.clone(), journal.clone(), random.fork(), number, sizes);
        tokio::spawn(client.run())
    });
    let clients: Vec<_> = clients.collect();
    let all = async {
        for client in clients {
            client.await.context("a client failed")??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("a caller hangs")??;
    // Clients that had enough before the disk had: the power goes now.
    let idle = !disk.is_dead();
    disk.die();
    // The writer may have nothing more to write, so that it would live on.
    let ended = tokio::task::spawn_blocking(move || writer.stop());
    let ended = tokio::time::timeout(PATIENCE, ended).await.context("the writer hangs")??;
    ensure!(idle || ended.is_err(), "the disk died and the writer ended in peace");
    ensure!(!engine.is_accepting(), "a dead engine accepts");
    if let Err(error) = ended {
        ensure!(!matches!(error, dats::store::Error::Panicked(_)), "the writer panicked: {error}");
    }
    Ok(())
}

/// The life of one disk: work, crash, recover, check, again and again.
async fn life(mut disk: Disk, seed: u64, sizes: Sizes, met: &mut Met) -> Result<()> {
    let mut random = Random::new(seed);
    let journal = Arc::new(Journal::default());
    let mut before = Snapshot::default();
    for _ in 0..CRASHES {
        let store = open(&mut disk, &mut random, met)?;
        let snapshot = invariants::check(&store, &client::highest_limit)?;
        snapshot.follows(&before)?;
        met.unknown_but_done += usize::from(journal.check(&store, &snapshot)?);
        before = snapshot;
        work(store, &disk, &journal, &mut random, sizes).await?;
        met.crashes += 1;
        disk = disk.crash();
    }
    met.unknown += journal.unknown_count();
    met.acknowledged += journal.acknowledged_count();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_every_crash() {
    let first = from_environment("DATS_SEED", 1);
    let rounds = from_environment("DATS_ROUNDS", 40);
    let mut met = Met::default();
    for seed in first..first + rounds {
        if let Err(error) = life(Disk::new(seed, SMALL_JOURNAL), seed, Sizes::Small, &mut met).await {
            panic!("DATS_SEED={seed} DATS_ROUNDS=1: {error:?}");
        }
    }
    println!("{met:?}");
    if rounds >= 40 {
        assert!(met.crashes >= 300 && met.while_recovering >= 50, "{met:?}");
        assert!(met.unknown >= 100 && met.unknown_but_done >= 5 && met.acknowledged >= 5000, "{met:?}");
    }
}

/// As above, with contents in files, groups of hundreds of tasks and records of
/// the journal of every size. Each step writes much, so there are fewer of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_survives_every_crash() {
    let first = from_environment("DATS_SEED", 1);
    let rounds = from_environment("DATS_ROUNDS", 6);
    let mut met = Met::default();
    for seed in first..first + rounds {
        let journal = JOURNALS[usize::try_from(seed).unwrap() % JOURNALS.len()];
        if let Err(error) = life(Disk::new(seed, journal), seed, Sizes::All, &mut met).await {
            panic!("DATS_SEED={seed} DATS_ROUNDS=1: {error:?}");
        }
    }
    println!("{met:?}");
    if rounds >= 6 {
        assert!(met.crashes >= 45 && met.unknown >= 10 && met.acknowledged >= 300, "{met:?}");
    }
}

/// A panic of the database is an end like any other: nobody waits for ever,
/// and nobody is told that nothing happened.
#[tokio::test]
async fn a_panic_of_the_database_ends_the_writer_in_order() {
    let disk = Disk::new(1, SMALL_JOURNAL);
    let store = disk.open_store(CACHE_BYTES).unwrap();
    let (engine, writer) = Engine::start(store, tuned(Sizes::Small), &Clock::new()).unwrap();
    let task = engine.tasks().submit(vec![submission("p", "d")], None).await.unwrap().results[0].clone().unwrap().task;
    let waiting = engine.clone();
    let waiting = tokio::spawn(async move { waiting.tasks().wait(task, None, Duration::from_mins(1)).await });
    let mut request = lease_request("large", 1);
    request.wait = Duration::from_mins(1);
    let worker = engine.clone();
    let worker = tokio::spawn(async move { worker.work().lease(request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    disk.panic_next();
    let all = async {
        let failed = engine.tasks().cancel(task, None).await;
        assert!(matches!(failed, Err(Error::Unknown)), "{failed:?}");
        assert!(matches!(worker.await.unwrap(), Err(Error::ShuttingDown)));
        assert!(waiting.await.unwrap().is_ok());
        let ended = tokio::task::spawn_blocking(move || writer.join()).await.unwrap();
        assert!(matches!(ended, Err(dats::store::Error::Panicked(_))), "{ended:?}");
    };
    tokio::time::timeout(PATIENCE, all).await.expect("nobody hangs");
    assert!(!engine.is_accepting());
}

/// The check above is worth something only if it catches a disk that
/// acknowledges syncs which it does not make.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_is_caught() {
    let (mut caught, rounds) = (0, 12);
    for seed in 1..=rounds {
        let mut met = Met::default();
        if let Err(error) = life(Disk::lying(seed, SMALL_JOURNAL, 50), seed, Sizes::Small, &mut met).await {
            println!("{seed}: {error:#}");
            caught += 1;
        }
    }
    assert!(caught * 4 >= rounds * 3, "only {caught} of {rounds} lying disks were caught");
}
