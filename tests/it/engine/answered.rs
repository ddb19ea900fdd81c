//! Answers leave before the tables have what they tell of. Nobody who was
//! answered may notice, wherever they look.

use dats::clock::Clock;
use dats::engine::{Engine, NewProject, PageStart, TaskFilter};
use dats::store::Store;
use dats::task::{Seq, Status, TaskId};
use redb::backends::InMemoryBackend;

use crate::support::fixtures::{
    CACHE_BYTES, artifact, event, lease_request, output_report, project, settings, submission, tier,
};
use crate::support::service::Service;

/// Clients at once, each with a project and a tier of its own.
const CLIENTS: usize = 8;
/// Lives that each of them watches.
const LIVES: usize = 60;

/// Looks wherever a task can be seen, in another order each time.
async fn look(engine: &Engine, task: TaskId, of_client: usize, turn: usize, status: Status) {
    for place in (0..4).map(|place| (place + turn) % 4) {
        match place {
            0 => {
                let answer = engine.tasks().status(task).await.unwrap().expect("an answer");
                let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(body["status"], status.as_str());
            }
            1 => {
                let page = engine.tasks().history(task, Seq(0), 10).await.unwrap().expect("a history").entries;
                assert!(page.iter().all(|entry| entry.seq <= *engine.log().head().borrow()), "the log ends before it");
                assert!(!page.is_empty());
            }
            2 => {
                let project = Some(project(&format!("p{of_client}")));
                let filter = TaskFilter { project, statuses: vec![status], ..TaskFilter::default() };
                let page = engine.tasks().list(filter, PageStart::Offset(0), 1).await.unwrap();
                assert_eq!(page.tasks.first().map(|answer| answer.ended), Some(status.is_terminal()), "{task}");
            }
            _ => assert!(!engine.tasks().tree(task, 1).await.unwrap().is_empty()),
        }
    }
}

async fn watch(engine: Engine, client: usize) {
    let own = format!("tier-{client}");
    for life in 0..LIVES {
        let mut new = submission(&format!("p{client}"), "look at once");
        new.options.tier = Some(tier(&own));
        let submitted = engine.tasks().submit(vec![new], None).await.unwrap();
        let task = submitted.results[0].as_ref().unwrap().task;
        look(&engine, task, client, life, Status::Pending).await;
        let leased = engine.work().lease(lease_request(&own, 1)).await.unwrap();
        let data: serde_json::Value = serde_json::from_slice(&leased[0].task).unwrap();
        assert_eq!(data["task_id"], task.to_string());
        assert!(data["deadline"].is_string(), "told of as it was before its lease");
        let name = format!("made {client} {life}");
        let report = event(&name, task, output_report(&name));
        engine.events().accept(vec![report]).await.unwrap().remove(0).unwrap();
        let record = engine.provenance().record_of_artifact(artifact(&name)).await.unwrap();
        assert_eq!(record.map(|record| record.task), Some(task));
        look(&engine, task, client, life, Status::Completed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_answer_told_of_is_found_everywhere() {
    let mut own = settings();
    own.default_qa_profile = dats::task::QaProfile::new("none").unwrap();
    own.tiers.extend((0..CLIENTS).map(|client| tier(&format!("tier-{client}"))));
    // Memory has room for next to nothing: statuses come from the tables, too.
    own.hot_bytes = 1;
    let service = Service::new(own);
    let clients: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(watch(service.engine().clone(), client))).collect();
    for client in clients {
        client.await.unwrap();
    }
    service.restart();
}

/// A worker waits for its answer with empty hands; what it is told of a task is in
/// the tables since its submission.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_does_not_wait_for_the_tables() {
    let store = Store::open_backends(InMemoryBackend::new(), InMemoryBackend::new(), 1 << 22, CACHE_BYTES).unwrap();
    let (engine, writer) = Engine::start(store.clone(), settings(), &Clock::new()).unwrap();
    let mut early = false;
    for _ in 0..100 {
        let submitted = engine.tasks().submit(vec![submission("p", "d")], None).await.unwrap();
        store.wait().unwrap();
        let leased = engine.work().lease(lease_request("small", 1)).await.unwrap();
        let data: serde_json::Value = serde_json::from_slice(&leased[0].task).unwrap();
        assert_eq!(data["description"], "d");
        // Batches gather while nobody wants to read from the tables.
        early |= store.view_now().unwrap().is_none();
        engine.tasks().cancel(submitted.results[0].as_ref().unwrap().task, None).await.unwrap();
    }
    assert!(early, "every lease was answered after the tables had it");
    writer.stop().unwrap();
}

/// The tables do not have what the lease has to tell: it waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_tells_of_a_task_and_a_constitution_that_the_tables_do_not_have_yet() {
    let service = Service::new(settings());
    let engine = service.engine();
    for turn in 0..50 {
        let name = format!("p{turn}");
        let new = NewProject {
            id: project(&name),
            name: None,
            description: None,
            qa_profile: None,
            constitution: Some(format!("{{\"turn\":{turn}}}")),
            max_concurrent: None,
        };
        engine.projects().create(new).await.unwrap();
        engine.tasks().submit(vec![submission(&name, "d")], None).await.unwrap();
        let leased = engine.work().lease(lease_request("small", 1)).await.unwrap();
        let data: serde_json::Value = serde_json::from_slice(&leased[0].task).unwrap();
        assert_eq!((&data["project_id"], &data["constitution"]["turn"]), (&name.into(), &turn.into()));
    }
    service.restart();
}
