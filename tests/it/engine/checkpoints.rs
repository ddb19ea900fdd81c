//! Checkpoints: kept, listed, imported, made by themselves.

use dats::store::Checkpoint;
use dats::task::{CheckpointId, Timestamp};

use crate::support::fixtures::{project, settings};
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
        assert!(service.engine().import_checkpoint(new.clone()).await.unwrap());
    }
    let again = Checkpoint { project: project("other"), ..imported("c-1", "p", 99) };
    assert!(!service.engine().import_checkpoint(again).await.unwrap());
    let service = service.restart();
    let engine = service.engine();
    assert_eq!(engine.checkpoint(first.id.clone()).await.unwrap(), Some(first.clone()));
    assert_eq!(engine.checkpoint(CheckpointId::new("c-9").unwrap()).await.unwrap(), None);
    // Newest first, of the same time the larger id first, page by page.
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let page = engine.checkpoints(project("p"), before, 1).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.place());
        listed.extend(page);
    }
    assert_eq!(listed, [others[0].clone(), first, others[1].clone()]);
    assert!(engine.checkpoints(project("other"), None, 9).await.unwrap().is_empty());
    assert!(engine.project(project("q")).await.unwrap().is_some());
}
