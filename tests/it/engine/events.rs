//! Events of other services: taken once, parked, given up, taken again; and
//! idempotency keys, which are the same promise for submissions.

use std::time::Duration;

use dats::engine::{DeadLetterFilter, Error, EventContent, EventOutcome, IdempotencyKey, IncomingEvent, Refusal};
use dats::store::DeadLetter;
use dats::task::{Correlation, Outcome, QaProfile, Report, ReviewId, ReviewRequest, TaskId, Timestamp};

use crate::support::fixtures::{artifact, event, output_report, settings, submission, verdict_report};
use crate::support::service::Service;

const APPLIED: EventOutcome = EventOutcome::Taken(Outcome::Applied);
const PARKED: EventOutcome = EventOutcome::Taken(Outcome::Parked);

#[tokio::test]
async fn an_event_is_taken_once() {
    let service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    // Within one commit, after it, and after a restart.
    let twice = vec![event("1", task, output_report("a")), event("1", task, output_report("a"))];
    let outcomes = service.engine().events().accept(twice).await.unwrap();
    assert_eq!(outcomes, [Ok(APPLIED), Ok(EventOutcome::Duplicate)]);
    assert_eq!(service.send(event("1", task, output_report("a"))).await, Ok(EventOutcome::Duplicate));
    let service = service.restart();
    assert_eq!(service.send(event("1", task, output_report("a"))).await, Ok(EventOutcome::Duplicate));
    // The same id of another source is another event; without an id nothing is known.
    let mut other = event("1", task, output_report("b"));
    other.identity = Some(("elsewhere".to_owned(), "1".to_owned()));
    other.raw = "{}".to_owned();
    assert!(matches!(service.send(other.clone()).await, Ok(EventOutcome::Taken(Outcome::Stale(_)))));
    other.identity = None;
    for _ in 0..2 {
        assert!(matches!(service.send(other.clone()).await, Ok(EventOutcome::Taken(Outcome::Stale(_)))));
    }
}

#[tokio::test]
async fn a_refused_event_leaves_no_trace() {
    let service = Service::new(settings());
    let nobody = TaskId::from_bytes([9; 16]);
    let refused = service.send(event("1", nobody, output_report("a"))).await;
    assert_eq!(refused, Err(Refusal::TaskNotFound(nobody)));
    let mut wanted = submission("p", "d");
    wanted.options.qa_profile = Some(QaProfile::new("none").unwrap());
    let task = service.submit(wanted).await;
    // The refused one was not remembered.
    assert_eq!(service.send(event("1", task, output_report("a"))).await, Ok(APPLIED));
    service.restart();
}

#[tokio::test]
async fn a_verdict_waits_for_its_output() {
    let mut patient = settings();
    // Longer than a restart takes on a busy machine.
    patient.policy.park = Duration::from_mins(5);
    let mut service = Service::new(patient);
    let task = service.submit(submission("p", "d")).await;
    assert_eq!(service.send(event("1", task, verdict_report("a", true))).await, Ok(PARKED));
    let mut service = {
        assert_eq!(service.report(task, verdict_report("other", false)).await, Outcome::Parked);
        service.restart()
    };
    assert_eq!(service.send(event("1", task, verdict_report("a", true))).await, Ok(EventOutcome::Duplicate));
    service.report(task, output_report("a")).await;
    assert_eq!(service.phase(task), "completed");
    service.restart();
}

#[tokio::test]
async fn a_verdict_that_waits_in_vain_becomes_a_dead_letter_that_can_be_taken_again() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    let verdict = || event("1", task, verdict_report("a", true));
    assert_eq!(service.send(verdict()).await, Ok(PARKED));
    service.soon("a dead letter", || service.engine().figures().dead_letters.kept == 1).await;
    let (number, letter) =
        service.engine().dead_letters().list(DeadLetterFilter::default(), None, 10).await.unwrap().entries.remove(0);
    assert_eq!((letter.task, letter.raw), (Some(task), verdict().raw));
    service.report(task, output_report("a")).await;
    assert_eq!(service.phase(task), "validating");
    // Two at once: one takes it, one is told that it is gone.
    let engine = service.engine();
    let (first, second) = tokio::join!(
        engine.dead_letters().requeue(number, verdict()),
        engine.dead_letters().requeue(number, verdict())
    );
    assert_eq!(first.unwrap(), APPLIED);
    assert!(matches!(second, Err(Error::Refused(Refusal::DeadLetterNotFound(gone))) if gone == number));
    assert_eq!(service.phase(task), "completed");
    assert_eq!(engine.figures().dead_letters.kept, 0);
    assert!(engine.dead_letters().get(number).await.unwrap().is_none());
    assert!(engine.dead_letters().list(DeadLetterFilter::default(), None, 10).await.unwrap().entries.is_empty());
    // Numbers are not given again, not even after a restart.
    let mut service = service.reopen(|_| ());
    let task = service.submit(submission("p", "d")).await;
    service.report(task, verdict_report("a", true)).await;
    service.soon("a dead letter", || service.engine().figures().dead_letters.kept == 1).await;
    let (newer, _) =
        service.engine().dead_letters().list(DeadLetterFilter::default(), None, 10).await.unwrap().entries.remove(0);
    assert!(newer > number);
}

#[tokio::test]
async fn a_refused_requeue_keeps_the_dead_letter() {
    let mut service = Service::new(settings());
    let task = service.submit(submission("p", "d")).await;
    service.report(task, verdict_report("a", true)).await;
    service.soon("a dead letter", || service.engine().figures().dead_letters.kept == 1).await;
    let (number, _) =
        service.engine().dead_letters().list(DeadLetterFilter::default(), None, 10).await.unwrap().entries.remove(0);
    let nobody = event("x", TaskId::from_bytes([9; 16]), verdict_report("a", true));
    assert!(service.engine().dead_letters().requeue(number, nobody).await.is_err());
    assert!(service.engine().dead_letters().get(number).await.unwrap().is_some());
    service.restart();
}

#[tokio::test]
async fn reviews_find_their_task_by_artifact_even_when_two_have_the_same() {
    let mut service = Service::new(settings());
    let first = service.submit(submission("p", "d")).await;
    let second = service.submit(submission("p", "d")).await;
    for task in [first, second] {
        service.report(task, output_report("shared")).await;
    }
    let request = |review: &str| {
        let review = ReviewId::new(review).unwrap();
        IncomingEvent {
            identity: None,
            message: EventContent::Report {
                correlation: Correlation {
                    task: None,
                    artifact: Some(artifact("shared")),
                    review: Some(review.clone()),
                },
                report: Report::ReviewRequested(ReviewRequest {
                    review,
                    reason: "unsure".to_owned(),
                    artifact: Some(artifact("shared")),
                }),
            },
            raw: "{}".to_owned(),
            on_bus: false,
        }
    };
    assert_eq!(service.send(request("r1")).await, Ok(APPLIED));
    assert_eq!(service.phase(second), "reviewing");
    service.report(second, verdict_report("shared", true)).await;
    // The other one is still found, now and after a restart.
    let mut service = service.restart();
    assert_eq!(service.send(request("r2")).await, Ok(APPLIED));
    assert_eq!(service.phase(first), "reviewing");
    service.report(first, verdict_report("shared", true)).await;
    assert_eq!(service.send(request("r3")).await, Err(Refusal::NothingCorrelates));
}

#[tokio::test]
async fn a_key_gives_the_first_answer_again() {
    let service = Service::new(settings());
    let key = IdempotencyKey { key: [1; 16], body: [2; 16] };
    let wanted = || vec![submission("p", "one"), submission("p", "two")];
    // Fifty at once make two tasks.
    let all: Vec<_> = (0..50)
        .map(|_| {
            let engine = service.engine().clone();
            tokio::spawn(async move { engine.tasks().submit(wanted(), Some(key)).await.expect("an answer") })
        })
        .collect();
    let mut answers = Vec::new();
    for each in all {
        answers.push(each.await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.results == answers[0].results));
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    let service = service.restart();
    let again = service.engine().tasks().submit(wanted(), Some(key)).await.unwrap();
    assert!(again.replayed && again.results == answers[0].results);
    assert_eq!(service.engine().figures().counters.total(), 2);
    let other = IdempotencyKey { body: [3; 16], ..key };
    let refused = service.engine().tasks().submit(wanted(), Some(other)).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::IdempotencyKeyReused)));
}

/// A first answer that is given again takes no room on the disk.
#[tokio::test]
async fn a_key_is_honoured_while_the_disk_is_nearly_full() {
    let service = Service::new(settings());
    let key = IdempotencyKey { key: [1; 16], body: [2; 16] };
    let submit =
        async |service: &Service, key| service.engine().tasks().submit(vec![submission("p", "d")], Some(key)).await;
    let first = submit(&service, key).await.unwrap();
    // No disk has so much room.
    let service = service.reopen(|settings| settings.min_free_mib = 1 << 40);
    let again = submit(&service, key).await.unwrap();
    assert_eq!((again.results, again.replayed), (first.results, true));
    let other_body = submit(&service, IdempotencyKey { body: [3; 16], ..key }).await.unwrap_err();
    assert!(matches!(other_body, Error::Refused(Refusal::IdempotencyKeyReused)), "{other_body}");
    let other_key = submit(&service, IdempotencyKey { key: [4; 16], ..key }).await.unwrap_err();
    assert!(matches!(other_key, Error::DiskFull { .. }), "{other_key}");
}

#[tokio::test]
async fn a_key_is_forgotten_in_time() {
    let mut short = settings();
    short.idempotency = Duration::from_millis(50);
    let service = Service::new(short);
    let key = IdempotencyKey { key: [1; 16], body: [2; 16] };
    service.engine().tasks().submit(vec![submission("p", "one")], Some(key)).await.unwrap();
    let mut replayed = true;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        replayed = service.engine().tasks().submit(vec![submission("p", "one")], Some(key)).await.unwrap().replayed;
        if !replayed {
            break;
        }
    }
    assert!(!replayed, "the key is still known");
    service.restart();
}

#[tokio::test]
async fn a_batch_takes_what_it_can() {
    let service = Service::new(settings());
    let mut lost = submission("new-project", "two");
    lost.options.depends_on = vec![TaskId::from_bytes([9; 16])];
    let key = IdempotencyKey { key: [1; 16], body: [2; 16] };
    let refused = service.engine().tasks().submit(vec![lost.clone()], Some(key)).await.unwrap();
    assert!(refused.results[0].is_err());
    // Nothing was taken: the key is free, and no project was made.
    let again = service.engine().tasks().submit(vec![submission("p", "one"), lost], Some(key)).await.unwrap();
    assert!(!again.replayed && again.results[0].is_ok());
    assert_eq!(again.results[1].as_ref().unwrap_err().index, 0);
    assert_eq!(service.engine().figures().projects, 1);
    service.restart();
}

/// What waits for an output is not part of the task's row: no other change of
/// the task writes it again. It survives a restart, and has its effect.
#[tokio::test]
async fn what_is_parked_is_kept_beside_the_task() {
    let mut patient = settings();
    patient.policy.park = Duration::from_mins(5);
    let service = Service::new(patient);
    let task = service.submit(submission("p", "d")).await;
    let mut large = event("large", task, verdict_report("a", true));
    large.raw = format!("{{\"source\":\"test\",\"id\":\"large\",\"x\":\"{}\"}}", "x".repeat(500_000));
    assert_eq!(service.send(large).await, Ok(PARKED));
    let (mut service, bytes) = service.with_store(|store| {
        let recovered = store.recover().unwrap();
        assert_eq!((recovered.parked.len(), recovered.parked[0].1.len()), (1, 1));
        recovered.open[0].bytes.len()
    });
    assert!(bytes < 1000, "{bytes} bytes");
    service.report(task, output_report("a")).await;
    assert_eq!(service.phase(task), "completed");
    let (service, left) = service.with_store(|store| store.recover().unwrap().parked.len());
    assert_eq!((left, service.phase(task).as_str()), (0, "completed"));
}

/// Messages that are about no task leave no trace in the log: it does not move on,
/// and neither must their numbers go back.
#[tokio::test]
async fn no_dead_letter_has_the_number_of_another_one() {
    let service = Service::new(settings());
    let letter = || DeadLetter {
        at: Timestamp::default(),
        task: None,
        reason: "not JSON".to_owned(),
        raw: "garbage".to_owned(),
    };
    let numbers = async |service: &Service| -> Vec<u64> {
        let page = service.engine().dead_letters().list(DeadLetterFilter::default(), None, 100).await.unwrap();
        page.entries.iter().map(|(number, _)| *number).collect()
    };
    service.engine().dead_letters().add(vec![letter(), letter(), letter()]).await.unwrap();
    let first = numbers(&service).await;
    assert_eq!(service.engine().dead_letters().discard_matching(DeadLetterFilter::default()).await.unwrap(), 3);
    let service = service.restart();
    service.engine().dead_letters().add(vec![letter()]).await.unwrap();
    let second = numbers(&service).await;
    assert!(second.len() == 1 && second[0] > first[0], "{second:?} after {first:?}");
    let (trail, more) = service.engine().dead_letters().removals(None, 10).await.unwrap();
    assert!(trail.len() == 1 && trail[0].1.count() == 3 && !more, "{trail:?}");
    service.restart();
}

/// The trail is trimmed as the log is.
#[tokio::test]
async fn the_trail_of_dead_letters_ends_with_the_log() {
    let mut service = Service::new(settings());
    let letter = |at| DeadLetter { at, task: None, reason: "r".to_owned(), raw: "x".to_owned() };
    for _ in 0..3 {
        service.engine().dead_letters().add(vec![letter(Timestamp::default())]).await.unwrap();
        service.engine().dead_letters().discard_matching(DeadLetterFilter::default()).await.unwrap();
    }
    assert_eq!(service.engine().dead_letters().removals(None, 10).await.unwrap().0.len(), 3);
    service.advance(Duration::from_hours(73));
    let mut left = 3;
    for _ in 0..200 {
        left = service.engine().dead_letters().removals(None, 10).await.unwrap().0.len();
        if left == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left, 1, "the newest stays, for its number");
    service.reopen(|_| ());
}
