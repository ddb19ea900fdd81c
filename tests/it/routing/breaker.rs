//! A service that goes away is left alone, and found again.

use std::time::Duration;

use dats::clock::Stopwatch;
use dats::routing::{Agent, Breaker, BreakerState, Error, Service};

use super::{NEVER, SLACK, agent, domain, service, task};
use crate::support::stand_in::StandIn;

const BREAKER: Breaker =
    Breaker { failures: 3, cool_down_initial: Duration::from_millis(200), cool_down_max: Duration::from_millis(400) };

fn guarded(url: &str) -> Service {
    Service { breaker: BREAKER, retries: 0, ..service(url) }
}

async fn estimate(agent: &Agent, text: &str) -> Result<(), Error> {
    agent.estimate(task(), text, &domain(), None).await.map(drop).map_err(|failed| failed.error)
}

/// Asks until it is answered.
async fn until_answered(agent: &Agent) -> Duration {
    let started = Stopwatch::start();
    while estimate(agent, "again").await.is_err() {
        assert!(started.elapsed() < BREAKER.cool_down_max + SLACK, "it is not found again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn killed_and_started_again_it_is_found_again() {
    let mut process = StandIn::agent(&[]);
    let agent = agent(guarded(&process.url));
    for round in 0..3 {
        estimate(&agent, "x").await.unwrap();
        process.kill();
        for _ in 0..BREAKER.failures {
            assert!(matches!(estimate(&agent, "x").await, Err(Error::Connection(_))));
        }
        let before = agent.figures();
        assert_eq!((before.state, before.openings), (BreakerState::Open, round + 1));
        assert!(before.away_since.is_some());
        for _ in 0..50 {
            let refused = estimate(&agent, "x").await;
            assert!(matches!(refused, Err(Error::BreakerOpen { .. } | Error::Connection(_))), "{refused:?}");
        }
        let after = agent.figures();
        assert!(after.left_alone >= before.left_alone + 45, "it was asked nevertheless");
        process = StandIn::start("agent", &process.listen(), &[]);
        until_answered(&agent).await;
        assert_eq!((agent.figures().state, agent.figures().away_since), (BreakerState::Closed, None));
    }
}

#[tokio::test]
async fn one_that_hangs_is_left_alone_too() {
    let mut process = StandIn::agent(&["--fault", "hang"]);
    let agent = agent(guarded(&process.url));
    for _ in 0..BREAKER.failures {
        assert!(matches!(estimate(&agent, "x").await, Err(Error::Timeout(_))));
    }
    let started = Stopwatch::start();
    assert!(matches!(estimate(&agent, "x").await, Err(Error::BreakerOpen { until: Some(_) })));
    assert!(started.elapsed() < Duration::from_millis(100), "a call that is not made takes no time");
    process.kill();
    let _process = StandIn::start("agent", &process.listen(), &[]);
    until_answered(&agent).await;
}

#[tokio::test]
async fn one_that_lies_is_not_away() {
    for options in
        [&["--fault", "garbage"][..], &["--fault", "error", "--error-status", "400"], &["--fault", "endless"]]
    {
        let process = StandIn::agent(&[options, &["--fault-on", "analyze"]].concat());
        let agent = agent(guarded(&process.url));
        for _ in 0..10 {
            agent.analyze("x", &super::project(), None, None).await.unwrap_err();
        }
        assert_eq!(agent.figures().state, BreakerState::Closed, "{options:?}");
        estimate(&agent, "x").await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing_behind() {
    let mut process = StandIn::agent(&["--fault", "hang"]);
    let only_one = Service { concurrency: 1, ..guarded(&process.url) };
    let agent = agent(Service { try_timeout: Duration::from_millis(300), ..only_one });
    let dropped = tokio::time::timeout(Duration::from_millis(100), estimate(&agent, "x")).await;
    assert!(dropped.is_err());
    assert_eq!(agent.figures().in_flight, 0);
    for _ in 0..BREAKER.failures {
        assert!(matches!(estimate(&agent, "x").await, Err(Error::Timeout(_))), "its place is free again");
    }
    tokio::time::sleep(BREAKER.cool_down_initial).await;
    assert_eq!(agent.figures().state, BreakerState::HalfOpen);
    let probe = tokio::time::timeout(Duration::from_millis(100), estimate(&agent, "x")).await;
    assert!(probe.is_err(), "the probe hangs");
    process.kill();
    let _process = StandIn::start("agent", &process.listen(), &[]);
    estimate(&agent, "x").await.unwrap();
}

#[tokio::test]
async fn nobody_listens() {
    let mut process = StandIn::agent(&[]);
    process.kill();
    let agent = agent(Service { breaker: NEVER, retries: 3, ..service(&process.url) });
    let error = estimate(&agent, "x").await.unwrap_err();
    assert!(matches!(&error, Error::Connection(reason) if reason.contains("refused")), "{error:?}");
    assert_eq!(agent.figures().calls[4], 4, "each of the four tries counts");
    let (_, text) = agent.figures().last_error.unwrap();
    assert_eq!(text, error.to_string());
}
