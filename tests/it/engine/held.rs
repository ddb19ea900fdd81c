//! What is answered while the writer is held up: its journal's disk does not come
//! back from a sync.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dats::clock::Clock;
use dats::engine::Engine;
use dats::store::Store;
use dats::task::{Phase, TaskId};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use crate::support::fixtures::{CACHE_BYTES, lease_request, project, settings, submission};

/// How long an answer may take that waits for nobody.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Whether syncs are held up, and how many are.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, is_closed: bool) {
        self.state.lock().unwrap().0 = is_closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |(is_closed, _)| *is_closed).unwrap();
        state.1 -= 1;
    }

    fn wait_for_one_held(&self) {
        let state = self.state.lock().unwrap();
        let (state, _) = self.changed.wait_timeout_while(state, AT_ONCE, |(_, held)| *held == 0).unwrap();
        assert_eq!(state.1, 1, "the writer does not sync");
    }
}

/// A journal whose syncs can be held up.
#[derive(Debug)]
struct Held {
    bytes: InMemoryBackend,
    gate: Arc<Gate>,
}

impl StorageBackend for Held {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.bytes.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }
}

async fn submit(engine: &Engine) -> TaskId {
    let submitted = engine.tasks().submit(vec![submission("p", "d")], None).await.expect("to submit");
    submitted.results[0].as_ref().expect("to be taken").task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_projects_and_figures_are_told_while_the_writer_is_held_up() {
    let gate = Arc::new(Gate::default());
    let journal = Held { bytes: InMemoryBackend::new(), gate: gate.clone() };
    let store = Store::open_backends(InMemoryBackend::new(), journal, 1 << 22, CACHE_BYTES).unwrap();
    let (engine, writer) = Engine::start(store, settings(), &Clock::new()).unwrap();
    for _ in 0..3 {
        submit(&engine).await;
    }
    assert_eq!(engine.work().lease(lease_request("small", 1)).await.unwrap().len(), 1);
    gate.set(true);
    let held = tokio::spawn({
        let engine = engine.clone();
        async move { submit(&engine).await }
    });
    gate.wait_for_one_held();
    let told = async {
        let queues = engine.work().queues();
        let small = queues.iter().find(|queue| queue.tier.as_str() == "small").expect("a queue");
        assert_eq!((queues.len(), small.depth, small.leased), (2, 2, 1));
        let status = engine.projects().status(project("p")).await.expect("a status");
        assert_eq!((status.counters.open(), status.slots_in_use, status.limit), (3, 1, 10));
        assert!(status.oldest_pending_at.is_some());
        assert!(engine.projects().status(project("q")).await.is_err(), "there is no such project");
        let figures = engine.figures();
        assert_eq!((figures.counters.phase(Phase::Queued), figures.queues), (2, queues));
    };
    tokio::time::timeout(AT_ONCE, told).await.expect("an answer that does not wait for the writer");
    assert!(!held.is_finished(), "the writer was not held up");
    gate.set(false);
    held.await.unwrap();
    assert_eq!(engine.projects().status(project("p")).await.unwrap().counters.open(), 4);
    assert_eq!(engine.work().queues()[1].depth, 3);
    drop(engine);
    writer.stop().unwrap();
}
