//! Readers of the log keep their place, and the log keeps what they need.

use std::time::Duration;

use dats::engine::LogReader;
use dats::task::Seq;

use crate::support::fixtures::{settings, submission};
use crate::support::service::Service;

fn with_reader(name: &str) -> Service {
    let mut settings = settings();
    settings.log_readers = vec![name.to_owned()];
    settings.log_retention = Duration::from_millis(20);
    Service::new(settings)
}

fn reader(service: &Service, name: &str) -> LogReader {
    service.engine().log().reader(name).expect("it is configured")
}

fn behind(service: &Service, name: &str) -> Option<(u64, bool)> {
    let figures = service.engine().figures();
    let found = figures.readers.into_iter().find(|behind| behind.reader == name);
    found.map(|behind| (behind.changes, behind.oldest.is_some()))
}

#[tokio::test]
async fn the_log_waits_for_a_reader_and_a_place_survives() {
    let service = with_reader("copy");
    assert!(service.engine().log().reader("other").is_none());
    for _ in 0..10 {
        service.submit(submission("p", "d")).await;
    }
    let head = service.engine().figures().head;
    service.soon("its backlog is seen", || behind(&service, "copy") == Some((head, true))).await;
    // All of it is older than the log keeps.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let copy = reader(&service, "copy");
    let first = copy.position();
    assert_eq!((first.joined, first.read_to, first.begun), (Seq(0), Seq(0), false));
    let page = copy.page(Seq(0), 7).await.unwrap();
    assert_eq!((page.entries.len(), page.read_to, page.reset), (7, Seq(7), None));
    let numbers: Vec<u64> = page.entries.iter().map(|(seq, _)| seq.0).collect();
    assert_eq!(numbers, (1..=7).collect::<Vec<_>>());
    copy.begin();
    copy.move_to(Seq(7));
    copy.move_to(Seq(3));
    assert_eq!(copy.position().read_to, Seq(7), "a place went back");
    service.soon("the log is trimmed up to its place", || service.engine().figures().tail == 8).await;
    assert_eq!(copy.page(Seq(0), 1).await.unwrap().reset, Some(Seq(8)));
    drop(copy);
    let service = service.reopen(|_| ());
    let copy = reader(&service, "copy");
    let place = copy.position();
    assert_eq!((place.read_to, place.begun, place.joined_at), (Seq(7), true, first.joined_at));
    assert_eq!(copy.page(Seq(7), 1).await.unwrap().read_to, Seq(8));
    copy.move_to(Seq(u64::MAX));
    assert_eq!(copy.position().read_to, Seq(head), "a place is beyond the end");
    service.soon("nothing waits", || behind(&service, "copy") == Some((0, false))).await;
    service.soon("the log is trimmed", || service.engine().figures().tail == head).await;
}

#[tokio::test]
async fn a_reader_that_is_not_configured_any_more_gives_up_its_place() {
    let service = with_reader("copy");
    for _ in 0..5 {
        service.submit(submission("p", "d")).await;
    }
    let service = service.reopen(|settings| settings.log_readers = vec!["other".to_owned()]);
    let head = service.engine().figures().head;
    assert!(service.engine().log().reader("copy").is_none());
    assert_eq!(reader(&service, "other").position().joined, Seq(head));
    service.soon("nothing holds the log", || service.engine().figures().tail == head).await;
    let service = service.reopen(|settings| settings.log_readers = vec!["copy".to_owned()]);
    let place = reader(&service, "copy").position();
    assert_eq!((place.joined, place.read_to, place.begun), (Seq(head), Seq(head), false));
}
