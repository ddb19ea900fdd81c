//! Both clients against the stand-ins with every fault they have.

use std::time::Duration;

use dats::clock::Stopwatch;
use dats::routing::{CallError, Error};
use tokio::task::JoinSet;

use super::{CALL, SLACK, TRY, agent, domain, project, rag, service, task};
use crate::support::stand_in::StandIn;

/// What every endpoint answers: nothing where it is an answer.
async fn asked_of_all(agent_options: &[&str], rag_options: &[&str]) -> Vec<(&'static str, Option<Error>, Duration)> {
    let (agent_process, rag_process) = (StandIn::agent(agent_options), StandIn::rag(rag_options));
    let (agent, rag) = (agent(service(&agent_process.url)), rag(service(&rag_process.url)));
    let mut ended = Vec::new();
    let (started, text) = (Stopwatch::start(), "write a parser");
    let note = |name, failed: Option<CallError>| (name, failed.map(|failed| failed.error), started.elapsed());
    let (project, domain) = (project(), domain());
    let (analyzed, decomposed, estimated, queried) = tokio::join!(
        async { note("analyze", agent.analyze(text, &project, None, None).await.err()) },
        async { note("decompose", agent.decompose(task(), text, 5, None).await.err()) },
        async { note("estimate", agent.estimate(task(), text, &domain, None).await.err()) },
        async { note("query", rag.query(text, &project, None).await.err()) },
    );
    ended.extend([analyzed, decomposed, estimated, queried]);
    ended
}

async fn with_fault(options: &[&str]) -> Vec<(&'static str, Option<Error>, Duration)> {
    asked_of_all(options, options).await
}

/// Each endpoint fails in the way that `is` accepts, before `limit`.
async fn all_end(options: &[&str], limit: Duration, is: impl Fn(&Error) -> bool) {
    for (endpoint, error, took) in with_fault(options).await {
        let error = error.unwrap_or_else(|| panic!("{endpoint} {options:?}: answered"));
        assert!(is(&error), "{endpoint} {options:?}: {error:?}");
        assert!(took < limit, "{endpoint} {options:?}: took {took:?}");
    }
}

#[tokio::test]
async fn without_a_fault_everything_is_answered() {
    for (endpoint, error, _) in with_fault(&[]).await {
        assert_eq!(error, None, "{endpoint}");
    }
}

#[tokio::test]
async fn silence_and_lateness_end_at_the_deadline() {
    for options in [&["--fault", "hang"][..], &["--fault", "late", "--late-ms", "20000"]] {
        all_end(options, CALL + SLACK, |error| matches!(error, Error::Timeout(limit) if *limit <= TRY)).await;
    }
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let status = |status: &'static str| ["--fault", "error", "--error-status", status];
    for unavailable in ["500", "502", "503", "429"] {
        let is = |error: &Error| match error {
            Error::Unavailable { status, detail, .. } => {
                status.to_string() == unavailable && detail.contains("this failure was requested")
            }
            _ => false,
        };
        all_end(&status(unavailable), CALL + SLACK, is).await;
    }
    for refused in ["400", "404", "422", "302", "307"] {
        let is = |error: &Error| matches!(error, Error::Refused { status, .. } if status.to_string() == refused);
        all_end(&status(refused), TRY + SLACK, is).await;
    }
}

#[tokio::test]
async fn a_cut_answer_is_a_failed_connection() {
    all_end(&["--fault", "cut"], CALL + SLACK, |error| matches!(error, Error::Connection(_))).await;
}

#[tokio::test]
async fn lies_are_refused_at_once() {
    for fault in ["garbage", "wrong-types"] {
        all_end(&["--fault", fault], TRY + SLACK, |error| matches!(error, Error::Invalid(_))).await;
    }
}

#[tokio::test]
async fn an_endless_answer_is_let_go_at_its_limit() {
    let is = |error: &Error| *error == Error::TooLarge { limit: 1024 * 1024 };
    all_end(&["--fault", "endless"], TRY + SLACK, is).await;
}

#[tokio::test]
async fn parts_that_do_not_fit_together_are_passed_on() {
    for (fault, count) in [("cycle", 4), ("unknown-sibling", 4), ("duplicate", 4), ("too-many", 25)] {
        let process = StandIn::agent(&["--fault", fault]);
        let agent = agent(service(&process.url));
        let taken = agent.decompose(task(), "x", 5, None).await.unwrap();
        assert_eq!(taken.subtasks.len(), count, "{fault}");
        assert!(agent.analyze("x", &project(), None, None).await.is_ok(), "{fault} is of decompositions alone");
    }
}

#[tokio::test]
async fn other_calls_go_on_while_some_hang() {
    let process = StandIn::agent(&["--fault", "hang", "--fault-on", "analyze"]);
    let agent = std::sync::Arc::new(agent(service(&process.url)));
    let mut hanging = JoinSet::new();
    for number in 0..12 {
        let agent = agent.clone();
        hanging.spawn(async move { agent.analyze(&number.to_string(), &project(), None, None).await });
    }
    let started = Stopwatch::start();
    let mut answered = 0;
    while started.elapsed() < TRY / 2 {
        let text = format!("work {answered}");
        agent.estimate(task(), &text, &domain(), None).await.unwrap();
        answered += 1;
    }
    assert!(answered >= 5, "only {answered} calls were answered beside those that hang");
    while let Some(ended) = hanging.join_next().await {
        assert!(matches!(ended.unwrap().unwrap_err().error, Error::Timeout(_)));
    }
    assert!(started.elapsed() < CALL + SLACK);
    assert_eq!(agent.figures().in_flight, 0);
}

#[tokio::test]
async fn another_try_helps_where_it_can() {
    let process = StandIn::agent(&["--fault", "error", "--fault-rate", "0.5", "--seed", "7"]);
    let patient =
        dats::routing::Service { retries: 20, call_timeout: Duration::from_secs(20), ..service(&process.url) };
    let agent = agent(dats::routing::Service { retry_max: Duration::from_millis(20), ..patient });
    for number in 0..20 {
        agent.estimate(task(), &format!("work {number}"), &domain(), None).await.unwrap();
    }
    let figures = agent.figures();
    let [answered, invalid, refused, unavailable, connection, timeout] = figures.calls;
    assert_eq!((answered, invalid, refused, connection, timeout), (20, 0, 0, 0, 0));
    assert!((5..60).contains(&unavailable), "{unavailable} failures of about 20");
    assert_eq!(figures.latency.count(), 20 + unavailable);
}

#[tokio::test]
async fn no_try_is_repeated_where_it_can_not_help() {
    for options in
        [&["--fault", "garbage"][..], &["--fault", "error", "--error-status", "400"], &["--fault", "endless"]]
    {
        let process = StandIn::agent(options);
        let agent = agent(dats::routing::Service { retries: 5, ..service(&process.url) });
        agent.estimate(task(), "x", &domain(), None).await.unwrap_err();
        assert_eq!(agent.figures().calls.iter().sum::<u64>(), 1, "{options:?}");
    }
}

#[tokio::test]
async fn a_service_that_asks_for_time_gets_it() {
    let process = StandIn::agent(&["--fault", "error", "--error-status", "429", "--retry-after", "1"]);
    let slow = dats::routing::Service { call_timeout: Duration::from_secs(3), ..service(&process.url) };
    let started = Stopwatch::start();
    let failed = agent(slow.clone()).estimate(task(), "x", &domain(), None).await.unwrap_err();
    assert!(
        matches!(failed.error, Error::Unavailable { retry_after: Some(wait), .. } if wait == Duration::from_secs(1))
    );
    assert!(started.elapsed() >= Duration::from_secs(1), "it waited {:?}", started.elapsed());
    let hasty = dats::routing::Service { retry_max: Duration::from_millis(50), ..slow };
    let started = Stopwatch::start();
    let hasty = agent(hasty);
    hasty.estimate(task(), "x", &domain(), None).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1), "no longer than our own limit");
    assert_eq!(hasty.figures().calls.iter().sum::<u64>(), 1, "it was asked again before the time it asked for");
}
