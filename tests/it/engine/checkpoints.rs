//! Checkpoints: kept, listed, imported, made by themselves.

use std::time::Duration;

use dats::clock::Stopwatch;
use dats::engine::{CheckpointRules, NewCheckpoint};
use dats::store::Checkpoint;
use dats::task::{CheckpointId, QaProfile, Timestamp};

use crate::support::fixtures::{output_report, project, settings, submission};
use crate::support::service::Service;

fn imported(id: &str, project_name: &str, second: i64) -> Checkpoint {
    Checkpoint {
        id: CheckpointId::new(id).unwrap(),
        project: project(project_name),
        created_at: Timestamp::from_micros(second * 1_000_000),
        git_ref: Some("v1".to_owned()),
        provenance_count: 3,
        artifact_count: 5,
        last_provenance_id: Some("r".to_owned()),
        last_task_id: None,
        rag_state_ref: None,
        work_product_ref: None,
        description: Some("before the release".to_owned()),
        trigger: "milestone".to_owned(),
        is_valid: true,
        rolled_back_at: None,
        original: Some("{}".to_owned()),
    }
}

#[tokio::test]
async fn imported_ones_are_kept_once() {
    let service = Service::new(settings());
    let first = imported("c-1", "p", 10);
    let others = [imported("c-3", "p", 10), imported("c-2", "p", -5), imported("c-4", "q", 20)];
    for new in [&first].into_iter().chain(&others) {
        assert!(service.engine().checkpoints().import(new.clone()).await.unwrap());
    }
    let again = Checkpoint { project: project("other"), ..imported("c-1", "p", 99) };
    assert!(!service.engine().checkpoints().import(again).await.unwrap());
    let service = service.restart();
    let engine = service.engine();
    assert_eq!(engine.checkpoints().get(first.id.clone()).await.unwrap(), Some(first.clone()));
    assert_eq!(engine.checkpoints().get(CheckpointId::new("c-9").unwrap()).await.unwrap(), None);
    // Newest first, of the same time the larger id first, page by page.
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let page = engine.checkpoints().list(project("p"), before, 1).await.unwrap().entries;
        let Some(last) = page.last() else { break };
        before = Some(last.place());
        listed.extend(page);
    }
    assert_eq!(listed, [others[0].clone(), first, others[1].clone()]);
    assert!(engine.checkpoints().list(project("other"), None, 9).await.unwrap().entries.is_empty());
    assert!(engine.projects().get(project("q")).await.unwrap().is_some());
}

/// Tasks of a project that complete at once.
async fn complete(service: &mut Service, count: usize) {
    for _ in 0..count {
        let mut submission = submission("p", "make something");
        submission.options.qa_profile = Some(QaProfile::new("none").unwrap());
        let task = service.submit(submission).await;
        service.report(task, output_report("a")).await;
    }
}

async fn made(service: &Service) -> Vec<Checkpoint> {
    service.engine().checkpoints().list(project("p"), None, 100).await.unwrap().entries
}

#[tokio::test]
async fn enough_completed_tasks_make_one_and_so_many_are_kept() {
    let mut settings = settings();
    settings.checkpoints = CheckpointRules { every_tasks: 3, kept: 2, ..CheckpointRules::default() };
    let mut service = Service::new(settings);
    complete(&mut service, 2).await;
    assert!(made(&service).await.is_empty());
    // What has completed is counted over a restart.
    let mut service = service.restart();
    complete(&mut service, 1).await;
    let [first] = &made(&service).await[..] else { panic!("one") };
    assert_eq!((first.trigger.as_str(), first.provenance_count, first.artifact_count), ("auto", 3, 3));
    let newest = service
        .engine()
        .provenance()
        .graph()
        .nodes()
        .last()
        .and_then(|node| service.engine().provenance().graph().record(node));
    assert_eq!(first.last_provenance_id, newest.map(|known| known.id.to_string()));
    // One that somebody makes begins the count anew, and is kept.
    complete(&mut service, 2).await;
    let manual = service.engine().checkpoints().create(project("p"), NewCheckpoint::default()).await.unwrap();
    complete(&mut service, 2).await;
    assert_eq!(made(&service).await.len(), 2);
    complete(&mut service, 1).await;
    assert_eq!(made(&service).await.len(), 3);
    let mut service = service.restart();
    complete(&mut service, 6).await;
    let left = made(&service).await;
    let counts: Vec<u64> = left.iter().map(|each| each.provenance_count).collect();
    assert_eq!((counts.as_slice(), &left[2]), (&[14, 11, 5][..], &manual));
    service.restart();
}

#[tokio::test]
async fn enough_time_makes_one_where_something_has_completed() {
    let mut settings = settings();
    settings.checkpoints = CheckpointRules { every: Duration::from_millis(300), ..CheckpointRules::default() };
    let mut service = Service::new(settings);
    complete(&mut service, 1).await;
    let service = service.restart();
    let started = Stopwatch::start();
    while made(&service).await.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "none was made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nothing has completed since.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(made(&service).await.len(), 1);
    service.restart();
}
