//! Projects: made, changed, deleted and used again.

use dats::engine::{Error, NewProject, ProjectPatch, Refusal};
use dats::task::{QaProfile, Timestamp};

use crate::support::fixtures::{lease_request, output_report, project, settings, submission};
use crate::support::service::Service;

fn new(name: &str) -> NewProject {
    NewProject {
        id: project(name),
        name: None,
        description: Some("what it is about".to_owned()),
        qa_profile: Some(QaProfile::new("none").expect("a profile")),
        constitution: Some("{\"be\":\"kind\"}".to_owned()),
        max_concurrent: Some(2),
    }
}

#[tokio::test]
async fn made_changed_deleted_and_used_again() {
    let mut service = Service::new(settings());
    let made = service.engine().projects().create(new("p")).await.unwrap();
    assert_eq!((made.name.as_str(), made.version), ("p", 1));
    let again = service.engine().projects().create(new("p")).await.unwrap_err();
    assert!(matches!(again, Error::Refused(Refusal::ProjectExists(_))));
    let task = service.submit(submission("p", "d")).await;
    let leased = service.lease("small").await.unwrap();
    assert!(String::from_utf8_lossy(&leased.task).contains("\"constitution\":{\"be\":\"kind\"}"));
    let refused = service.engine().projects().delete(project("p"), None).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::ProjectHasOpenTasks { open: 1, .. })), "{refused}");
    // The project says that nobody validates.
    service.report(task, output_report("a")).await;
    assert_eq!(service.phase(task), "completed");
    let patch = ProjectPatch {
        name: Some("a name".to_owned()),
        description: Some(None),
        qa_profile: Some(None),
        max_concurrent: Some(None),
        ..ProjectPatch::default()
    };
    let changed = service.engine().projects().update(project("p"), patch, None).await.unwrap();
    assert_eq!((changed.version, changed.description, changed.max_concurrent), (2, None, None));
    assert_eq!(changed.constitution, made.constitution);
    let status = service.engine().projects().status(project("p")).await.unwrap();
    assert_eq!((status.completed, status.failed, status.limit), ((1, 1), (0, 0), 10));
    service.engine().projects().delete(project("p"), None).await.unwrap();
    let service = service.restart();
    assert!(service.engine().projects().get(project("p")).await.unwrap().is_none());
    assert_eq!(service.engine().projects().list(0, None, 10).await.unwrap().1, 0);
    let patched = service.engine().projects().update(project("p"), ProjectPatch::default(), None).await.unwrap_err();
    assert!(matches!(patched, Error::Refused(Refusal::ProjectNotFound(_))));
    assert!(service.engine().projects().delete(project("p"), None).await.is_err());
    assert!(service.engine().projects().status(project("p")).await.is_err());
    // Its tasks stay, and a submission makes it again, as new.
    assert_eq!(service.phase(task), "completed");
    service.submit(submission("p", "d")).await;
    let project = service.engine().projects().get(project("p")).await.unwrap().unwrap();
    assert_eq!((project.name.as_str(), project.constitution, project.archived_at), ("p", None, None));
    assert_eq!(service.engine().figures().projects, 1);
    service.restart();
}

#[tokio::test]
async fn a_lowered_limit_takes_no_slot_and_a_raised_one_gives_some() {
    let service = Service::new(settings());
    for _ in 0..20 {
        service.submit(submission("p", "d")).await;
    }
    assert_eq!(service.engine().work().lease(lease_request("small", 20)).await.unwrap().len(), 10);
    let limit = async |limit| {
        let patch = ProjectPatch { max_concurrent: Some(limit), ..ProjectPatch::default() };
        service.engine().projects().update(project("p"), patch, None).await.expect("to change");
        let status = service.engine().projects().status(project("p")).await.expect("to read");
        (status.slots_in_use, status.limit)
    };
    assert_eq!(limit(Some(3)).await, (10, 3));
    assert_eq!(limit(Some(12)).await.1, 12);
    assert_eq!(service.engine().work().lease(lease_request("small", 20)).await.unwrap().len(), 2);
    assert_eq!(service.engine().figures().counters.status(dats::task::Status::Running), 12);
    assert_eq!(limit(None).await, (12, 10));
    service.restart();
}

#[tokio::test]
async fn pages_of_projects_go_by_their_id() {
    let service = Service::new(settings());
    for name in ["c", "a", "e", "b", "d"] {
        service.engine().projects().create(new(name)).await.unwrap();
    }
    service.engine().projects().delete(project("b"), None).await.unwrap();
    let ids = async |offset, after: Option<&str>, limit| {
        let (page, total) = service.engine().projects().list(offset, after.map(project), limit).await.expect("a page");
        (page.entries.into_iter().map(|project| project.id.to_string()).collect::<String>(), total)
    };
    assert_eq!(ids(0, None, 10).await, ("acde".to_owned(), 4));
    assert_eq!(ids(1, None, 2).await, ("cd".to_owned(), 4));
    assert_eq!(ids(0, Some("c"), 10).await, ("de".to_owned(), 4));
    assert_eq!(ids(0, Some("b"), 1).await, ("c".to_owned(), 4));
}

#[tokio::test]
async fn the_oldest_pending_task_is_told() {
    let service = Service::new(settings());
    service.engine().projects().create(NewProject { max_concurrent: Some(1), ..new("p") }).await.unwrap();
    service.submit(submission("p", "runs")).await;
    assert_eq!(service.engine().work().lease(lease_request("small", 1)).await.unwrap().len(), 1);
    let waits = service.submit(submission("p", "waits")).await;
    service.submit(submission("p", "waits longer")).await;
    let status = service.engine().projects().status(project("p")).await.unwrap();
    let created: Timestamp = service.status(waits)["created_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(status.oldest_pending_at, Some(created));
    assert!(service.engine().work().lease(lease_request("nowhere", 1)).await.is_err(), "there is no such tier");
}
