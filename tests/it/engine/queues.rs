//! Slots, turns and workers: limits hold at every moment, nobody is delayed
//! by another's million, no lease is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dats::engine::{Error, ProjectPatch, Refusal};
use dats::store::PAGE_BYTES;
use dats::task::{Outcome, Phase, QaProfile, TaskId};
use serde_json::Value;

use crate::support::fixtures::{event, lease_request, output_report, project, settings, submission, verdict_report};
use crate::support::service::{Service, task_of};

#[tokio::test]
async fn a_hundred_thousand_waiting_tasks_delay_no_other_project() {
    let service = Service::new(settings());
    let waiting: Vec<_> = (0..5000).map(|_| submission("many", "d")).collect();
    for _ in 0..20 {
        service.engine().tasks().submit(waiting.clone(), None).await.unwrap();
    }
    assert_eq!(service.engine().figures().counters.phase(Phase::Queued), 100_000);
    let few = service.submit(submission("few", "d")).await;
    assert_eq!(service.phase(few), "queued");
    // Its turn at a worker comes at once, however many were there before.
    let turns = service.engine().work().lease(lease_request("small", 2)).await.unwrap();
    assert!(turns.iter().any(|granted| task_of(granted) == few), "it has to wait for others");
    // What was in the way is still there, and so it is after a restart.
    let service = service.reopen(|_| ());
    let fewer = service.submit(submission("fewer", "d")).await;
    let turns = service.engine().work().lease(lease_request("small", 2)).await.unwrap();
    assert!(turns.iter().any(|granted| task_of(granted) == fewer), "it has to wait for others");
    assert_eq!(service.engine().work().queues()[1].leased, 4);
}

/// Works off what it can get, with validation left out.
async fn worker(engine: dats::engine::Engine, name: usize) -> usize {
    let mut done = 0;
    loop {
        let mut request = lease_request("small", 3);
        request.wait = Duration::from_millis(200);
        let granted = engine.work().lease(request).await.expect("to lease");
        if granted.is_empty() {
            return done;
        }
        for granted in granted {
            let task = task_of(&granted);
            if done % 7 == 3 {
                // It is lost if somebody has cancelled the task meanwhile.
                let released = engine.work().release(granted.lease).await;
                assert!(matches!(released, Ok(()) | Err(Error::Refused(Refusal::LeaseLost(_)))), "{released:?}");
                done += 1;
                continue;
            }
            let id = format!("{name} {}", granted.lease);
            let answers = engine.events().accept(vec![event(&id, task, output_report(&task.to_string()))]).await;
            assert!(answers.expect("an answer")[0].is_ok());
            done += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_at_every_moment_under_load() {
    let service = Service::new(settings());
    for (name, limit) in [("a", 1), ("b", 5)] {
        service.submit(submission(name, "first")).await;
        let patch = ProjectPatch { max_concurrent: Some(Some(limit)), ..ProjectPatch::default() };
        service.engine().projects().update(project(name), patch, None).await.unwrap();
    }
    let submitters: Vec<_> = (0..4)
        .map(|number| {
            let engine = service.engine().clone();
            tokio::spawn(async move {
                for each in 0..60 {
                    let mut wanted = submission(["a", "b", "c"][each % 3], &format!("{number} {each}"));
                    wanted.options.qa_profile = Some(QaProfile::new("none").expect("a profile"));
                    let task = engine.tasks().submit(vec![wanted], None).await.expect("to submit").results.remove(0);
                    if each % 10 == 0 {
                        // Whoever is first: it was completed, or it is cancelled.
                        let _ = engine.tasks().cancel(task.expect("to be taken").task, None).await;
                    }
                }
            })
        })
        .collect();
    let workers: Vec<_> = (0..6).map(|name| tokio::spawn(worker(service.engine().clone(), name))).collect();
    for each in submitters {
        each.await.unwrap();
    }
    for each in workers {
        assert!(each.await.unwrap() > 0, "a worker got nothing");
    }
    // The check folds the log and looks at every position of it.
    let limits = |name: &dats::task::ProjectId| match name.as_str() {
        "a" => 1,
        "b" => 5,
        _ => 10,
    };
    service.restart_limited(&limits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_to_a_worker_that_has_gone_is_given_back() {
    let mut wide = settings();
    wide.max_concurrent = 1000;
    let service = Service::new(wide);
    let (mut tasks, mut received) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..200 {
        // Workers that lose patience at about the time when a task comes.
        let engine = service.engine().clone();
        let impatient = tokio::spawn(async move {
            let mut request = lease_request("small", 1);
            request.wait = Duration::from_secs(30);
            tokio::time::timeout(Duration::from_micros(round * 20), engine.work().lease(request)).await
        });
        tasks.insert(service.submit(submission("p", "d")).await);
        if let Ok(granted) = impatient.await.unwrap() {
            received.extend(granted.unwrap().iter().map(task_of));
        }
    }
    // What no worker has received is to be had.
    let is_held = |task: &TaskId| service.phase(*task) == "leased";
    service.soon("leases are given back", || tasks.iter().filter(|task| is_held(task)).eq(&received)).await;
    let mut given_back = 0;
    for task in &tasks {
        given_back += usize::from(service.history_names(*task).await.contains(&"task.released".to_owned()));
    }
    println!("{given_back} given back, {} received", received.len());
    service.restart();
}

#[tokio::test]
async fn a_lease_that_was_on_its_way_to_a_worker_that_left_is_given_back() {
    let service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    let asked = service.lease_undelivered("small").await;
    assert_eq!(service.phase(task), "leased");
    drop(asked);
    service.phase_becomes(task, "queued").await;
    assert_eq!(service.history_names(task).await.last().unwrap(), "task.released");
    let status = service.status(task);
    assert_eq!(
        (&status["started_at"], &status["attempts"]),
        (&Value::Null, &0.into()),
        "no worker has had it: {status}"
    );
    service.lease("small").await.expect("it is to be had at once");
    assert_eq!(service.status(task)["attempts"], 1);
    service.restart();
}

#[tokio::test]
async fn a_report_that_is_parked_costs_a_project_no_turn() {
    let mut service = Service::new(settings());
    let first = service.submit(submission("many", "d")).await;
    let only = service.submit(submission("few", "d")).await;
    service.submit(submission("many", "d")).await;
    assert_eq!(task_of(&service.lease("small").await.unwrap()), first);
    assert_eq!(service.report(only, verdict_report("not here yet", true)).await, Outcome::Parked);
    assert_eq!(task_of(&service.lease("small").await.unwrap()), only, "its project lost its turn");
    service.restart();
}

/// The descriptions alone are 48 KiB each: an answer has room for some twenty of them.
#[tokio::test]
async fn leases_that_the_answer_has_no_room_for_are_as_if_they_had_not_been_given() {
    let mut wide = settings();
    wide.max_concurrent = 1000;
    let service = Service::new(wide);
    let large = "d".repeat(48 << 10);
    let mut tasks = Vec::new();
    for _ in 0..60 {
        tasks.push(service.submit(submission("p", &large)).await);
    }
    let granted = service.engine().work().lease(lease_request("small", 100)).await.unwrap();
    let bytes: usize = granted.iter().map(|granted| granted.task.len()).sum();
    assert!((PAGE_BYTES - (64 << 10)..=PAGE_BYTES).contains(&bytes), "{bytes}");
    assert_eq!(granted.iter().map(task_of).collect::<Vec<_>>(), tasks[..granted.len()], "the first of them");
    let left = &tasks[granted.len()..];
    service.soon("the others wait again", || left.iter().all(|task| service.phase(*task) == "queued")).await;
    for task in left {
        let status = service.status(*task);
        assert_eq!((&status["started_at"], &status["attempts"]), (&Value::Null, &0.into()), "{status}");
    }
    assert_eq!(service.status(tasks[0])["attempts"], 1);
    // Each is to be had, one after the other, without a pause.
    let mut received = granted.len();
    while let Some(granted) = service.lease("small").await {
        assert_eq!(task_of(&granted), tasks[received]);
        received += 1;
    }
    assert_eq!(received, tasks.len());
    service.restart();
}

#[tokio::test]
async fn who_waits_first_is_served_first_and_the_end_of_service_wakes_all() {
    let mut service = Service::new(settings());
    let wait = |service: &Service| {
        let engine = service.engine().clone();
        let mut request = lease_request("small", 1);
        request.wait = Duration::from_secs(30);
        tokio::spawn(async move { engine.work().lease(request).await })
    };
    let first = wait(&service);
    service.soon("the first waits", || service.engine().figures().commands >= 1).await;
    let second = wait(&service);
    service.soon("the second waits", || service.engine().figures().commands >= 2).await;
    let task = service.submit(submission("p", "d")).await;
    assert_eq!(task_of(&first.await.unwrap().unwrap()[0]), task);
    assert!(!second.is_finished());
    service.stop_writer();
    let ended = tokio::time::timeout(Duration::from_secs(5), second).await.expect("it must not hang").unwrap();
    assert!(matches!(ended, Err(Error::ShuttingDown)), "{ended:?}");
    let refused = service.engine().tasks().submit(vec![submission("p", "d")], None).await.unwrap_err();
    assert!(matches!(refused, Error::ShuttingDown));
    assert!(!service.engine().is_accepting());
    let seen = service.engine().tasks().wait(task, None, Duration::from_secs(5)).await.unwrap().unwrap();
    assert!(!seen.ended, "reads go on");
}

#[tokio::test]
async fn a_full_queue_is_told_and_changes_nothing() {
    let mut narrow = settings();
    narrow.queue_capacity = 4;
    let service = Service::new(narrow);
    let all: Vec<_> = (0..200)
        .map(|_| {
            let engine = service.engine().clone();
            tokio::spawn(async move { engine.tasks().submit(vec![submission("p", "d")], None).await })
        })
        .collect();
    let (mut taken, mut overloaded) = (0, 0);
    for each in all {
        match each.await.unwrap() {
            Ok(_) => taken += 1,
            Err(Error::Overloaded) => overloaded += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(taken > 0 && overloaded > 0, "{taken} taken, {overloaded} refused");
    assert_eq!(service.engine().figures().counters.total(), taken);
    service.restart();
}

/// A cancel does not stand behind what others submit: it is answered while
/// most of the batches that came before it still wait.
#[tokio::test]
async fn a_cancel_passes_the_batches_that_wait() {
    let service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let batch: Vec<_> = (0..500).map(|_| submission("many", "d")).collect();
    let batches: Vec<_> = (0..64)
        .map(|_| {
            let (engine, batch, answered) = (service.engine().clone(), batch.clone(), answered.clone());
            tokio::spawn(async move {
                let result = engine.tasks().submit(batch, None).await;
                answered.fetch_add(usize::from(result.is_ok()), Ordering::SeqCst);
                result
            })
        })
        .collect();
    while service.engine().figures().queued_commands < 32 {
        tokio::task::yield_now().await;
    }
    let before = answered.load(Ordering::SeqCst);
    service.engine().tasks().cancel(task, None).await.unwrap();
    let after = answered.load(Ordering::SeqCst);
    assert!(after - before <= 8, "{} batches were answered before the cancel", after - before);
    for each in batches {
        let result = each.await.unwrap();
        assert!(matches!(result, Ok(_) | Err(Error::Overloaded)), "{result:?}");
    }
}
