//! What leaves the store with time, and what must not.

use std::time::Duration;

use dats::engine::{Error, EventOutcome, IdempotencyKey, PageStart, Refusal, TaskFilter};
use dats::task::{Outcome, Seq, Stale};

use crate::support::fixtures::{artifact, event, output_report, settings, submission, verdict_report};
use crate::support::service::Service;

#[tokio::test]
async fn finished_tasks_leave_and_their_provenance_stays() {
    let service = Service::new(settings());
    let open = service.submit(submission("p", "open")).await;
    let mut ended = Vec::new();
    for number in 0..5 {
        let task = service.submit(submission("p", "d")).await;
        let name = format!("art {number}");
        let events = vec![
            event(&format!("o{number}"), task, output_report(&name)),
            event(&format!("v{number}"), task, verdict_report(&name, true)),
        ];
        service.engine().events().accept(events).await.unwrap();
        ended.push(task);
    }
    let mut dependent = submission("p", "after all of them");
    dependent.options.depends_on = ended.clone();
    let dependent = service.submit(dependent).await;
    let service = service.restart_as(|settings| settings.retention = Some(Duration::from_millis(20)));
    service.soon("they leave", || service.engine().figures().counters.total() == 2).await;
    for (number, task) in ended.iter().enumerate() {
        assert!(service.engine().tasks().status(*task).await.unwrap().is_none());
        assert!(service.engine().tasks().history(*task, Seq(0), 10).await.unwrap().is_none());
        let record =
            service.engine().provenance().record_of_artifact(artifact(&format!("art {number}"))).await.unwrap();
        assert_eq!(record.unwrap().task, *task);
        assert!(service.send(event("late", *task, output_report("late"))).await.is_err());
    }
    let page = service.engine().tasks().list(TaskFilter::default(), PageStart::Offset(0), 10).await.unwrap();
    assert_eq!((page.tasks.len(), page.total), (2, Some(2)));
    assert_eq!((service.phase(open), service.phase(dependent)), ("queued".into(), "queued".into()));
    // Those that ended before the start and were in memory are gone there, too.
    let service = service.reopen(|settings| settings.retention = None);
    assert_eq!(service.engine().figures().counters.total(), 2);
    for task in ended {
        assert!(service.engine().tasks().status(task).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_trimmed_log_says_so_and_its_numbers_go_on() {
    let mut short = settings();
    short.log_retention = Duration::from_millis(50);
    let service = Service::new(short);
    for _ in 0..400 {
        service.submit(submission("p", "d")).await;
    }
    let before = service.engine().figures().head;
    assert!(before > 400);
    // All is old, and only the newest entry stays: it tells where to go on.
    service.soon("the log is trimmed", || service.engine().figures().tail == before).await;
    let page = service.engine().log().page(Seq(0), 100, |_| true).await.unwrap();
    assert_eq!((page.reset, page.read_to), (Some(Seq(before)), Seq(before)));
    for after in [before - 1, before, before + 7, u64::MAX] {
        assert_eq!(service.engine().log().page(Seq(after), 100, |_| true).await.unwrap().reset, None);
    }
    let service = service.reopen(|settings| settings.log_retention = Duration::from_hours(1));
    let figures = service.engine().figures();
    assert_eq!((figures.head, figures.tail), (before, before), "the sequence begins anew");
    let task = service.submit(submission("p", "d")).await;
    let first = service.engine().tasks().history(task, Seq(0), 1).await.unwrap().unwrap().entries[0].seq;
    assert_eq!(first, Seq(before + 1));
}

#[tokio::test]
async fn only_so_many_events_are_remembered() {
    let mut few = settings();
    few.dedup_max_ids = 10;
    let service = Service::new(few);
    let task = service.submit(submission("p", "d")).await;
    for number in 0..40 {
        service.send(event(&number.to_string(), task, output_report("a"))).await.unwrap();
    }
    let stale = Ok(EventOutcome::Taken(Outcome::Stale(Stale::SecondOutput)));
    let forgotten = async |service: &Service| {
        for attempt in 0..100 {
            if service.send(event("5", task, output_report("a"))).await == stale {
                return true;
            }
            assert!(attempt < 99);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    };
    assert!(forgotten(&service).await);
    assert_eq!(service.send(event("39", task, output_report("a"))).await, Ok(EventOutcome::Duplicate));
    let service = service.reopen(|_| ());
    assert_eq!(service.send(event("39", task, output_report("a"))).await, Ok(EventOutcome::Duplicate));
    assert_eq!(service.send(event("5", task, output_report("a"))).await, Ok(EventOutcome::Duplicate));
    assert_eq!(service.send(event("7", task, output_report("a"))).await, stale);
}

#[tokio::test]
async fn memory_for_answers_is_bounded_and_reads_do_not_depend_on_it() {
    let mut small = settings();
    small.hot_bytes = 8_000;
    let mut service = Service::new(small);
    let mut tasks = Vec::new();
    for _ in 0..200 {
        let task = service.submit(submission("p", "d")).await;
        service.engine().tasks().cancel(task, None).await.unwrap();
        // Late outputs change it again: it must not count twice.
        service.report(task, output_report("late")).await;
        service.report(task, output_report("later")).await;
        tasks.push(task);
    }
    let hot = service.engine().figures().hot_tasks;
    assert!((20..60).contains(&hot), "{hot} answers are in memory");
    assert!(tasks.iter().all(|task| service.status(*task)["status"] == "cancelled"));
    let answers = |service: &Service| -> Vec<_> { tasks.iter().map(|task| service.answer(*task).body).collect() };
    let before = answers(&service);
    let service = service.restart();
    assert_eq!(answers(&service), before);
}

/// At the bound nothing makes another project, and what uses those there are goes on.
#[tokio::test]
async fn projects_have_a_bound() {
    let mut few = settings();
    few.max_projects = 2;
    let service = Service::new(few);
    let submit = |projects: &[&str]| {
        let submissions = projects.iter().map(|project| submission(project, "d")).collect();
        service.engine().tasks().submit(submissions, None)
    };
    submit(&["a"]).await.unwrap();
    let refused = submit(&["a", "b", "c"]).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::TooManyProjects { limit: 2 })), "{refused}");
    assert_eq!(service.engine().figures().counters.total(), 1, "a refused batch left a trace");
    submit(&["b", "b"]).await.unwrap();
    assert!(submit(&["c"]).await.is_err());
    // A deleted one still counts, and comes back on its next use.
    let created = service.submit(submission("b", "d")).await;
    assert!(service.engine().tasks().status(created).await.unwrap().is_some());
    let service = service.restart();
    let again = service.engine().tasks().submit(vec![submission("c", "d")], None).await.unwrap_err();
    assert!(matches!(again, Error::Refused(Refusal::TooManyProjects { .. })), "{again}");
}

/// At the bound a new key is refused, and those before it still give their
/// answers: none is forgotten before its time.
#[tokio::test]
async fn idempotency_keys_have_a_bound_and_none_is_forgotten_early() {
    let mut few = settings();
    few.idempotency_max_keys = 3;
    few.idempotency = Duration::from_secs(2);
    let service = Service::new(few);
    let key = |n: u8| Some(IdempotencyKey { key: [n; 16], body: [n; 16] });
    let submit = |n| service.engine().tasks().submit(vec![submission("p", "d")], key(n));
    let mut first = Vec::new();
    for n in 0..3 {
        first.push(submit(n).await.unwrap().results);
    }
    let refused = submit(3).await.unwrap_err();
    let Error::Refused(Refusal::TooManyIdempotencyKeys { limit: 3, room_in }) = refused else { panic!("{refused}") };
    assert!(room_in <= Duration::from_secs(2), "{room_in:?}");
    assert_eq!(service.engine().figures().counters.total(), 3, "a refused submission left a trace");
    for (n, first) in (0..).zip(&first) {
        let again = submit(n).await.unwrap();
        assert!(again.replayed && again.results == *first);
    }
    service.engine().tasks().submit(vec![submission("p", "d")], None).await.unwrap();
    // As soon as the oldest has had its time there is room again.
    let taken = async {
        while submit(3).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("room for a new key");
}
