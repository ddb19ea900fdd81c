//! Tasks on their way from submission to a worker, with the Agent and RAG.

use std::time::Duration;

use dats::clock::Stopwatch;
use dats::routing::Service;
use dats::task::TaskId;
use serde_json::{Value, json};

use super::world::{World, agent, children, settings};
use crate::support::fixtures::{output_report, settings as settings_of_engine, submission, tier};
use crate::support::service::task_of;
use crate::support::stand_in::StandIn;

/// What a worker gets of a task, by lease of either tier.
async fn leased(world: &World) -> (TaskId, Value) {
    loop {
        for tier in ["small", "large"] {
            if let Some(granted) = world.service.lease(tier).await {
                return (task_of(&granted), serde_json::from_slice(&granted.task).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn analysed_and_weighed_with_context() {
    let (agent, rag) = (agent(&["--decompose-rate", "0", "--tiers", "large"]), StandIn::rag(&["--sources", "2"]));
    let world = World::new(settings(Some(&agent), Some(&rag)));
    let task = world.submit("write a parser").await;
    let status = world.routed(task).await;
    assert_eq!((&status["phase"], &status["tier"]), (&json!("queued"), &json!("large")));
    assert_ne!(status["mode"], Value::Null);
    let (leased, data) = leased(&world).await;
    assert_eq!(leased, task);
    let context = &data["context"];
    assert!(context["text"].as_str().unwrap().contains("write a parser"), "{data}");
    assert_eq!(context["sources"].as_array().unwrap().len(), 2, "{data}");
    assert!(context["estimate"]["tokens"].as_u64().unwrap() > 500, "{data}");
    assert_eq!(context["acceptance_criteria"].as_array().unwrap().len(), 2, "{data}");
    let figures = world.services.figures();
    assert_eq!((figures.routed, figures.fallbacks, figures.returned), (2, 0, 0));
    assert_eq!(figures.services.iter().map(|service| service.calls[0]).collect::<Vec<_>>(), [2, 1]);
    world.end().await;
}

#[tokio::test]
async fn split_into_a_chain_and_completed() {
    let options = ["--decompose-rate", "1", "--subtasks-min", "3", "--subtasks-max", "3", "--dependencies", "chain"];
    let agent = agent(&[&options[..], &["--qa-profile", "none"]].concat());
    let mut world = World::new(settings(Some(&agent), None));
    let parent = world.submit("build a thing").await;
    let status = world.routed(parent).await;
    let parts = children(&status);
    assert_eq!((status["phase"].as_str(), parts.len()), (Some("children"), 3));
    for (place, part) in parts.iter().enumerate() {
        let (leased, _) = leased(&world).await;
        assert_eq!(leased, *part, "one after the other");
        world.service.report(leased, output_report(&format!("artifact-{place}"))).await;
    }
    world.soon("to complete", || world.service.status(parent)["status"] == "completed").await;
    assert_eq!(world.count().await, 4);
    world.end().await;
}

#[tokio::test]
async fn parts_are_split_again_as_deep_as_agreed() {
    let options = ["--decompose-rate", "1", "--subtasks-min", "2", "--subtasks-max", "2", "--dependencies", "none"];
    let agent = agent(&[&options[..], &["--depth", "3", "--nested-rate", "1"]].concat());
    let world = World::new(settings(Some(&agent), None));
    let root = world.submit("build a thing").await;
    let mut level = vec![root];
    for _ in 0..3 {
        let mut next = Vec::new();
        for task in level {
            let status = world.routed(task).await;
            assert_eq!(status["phase"], "children", "{status}");
            next.extend(children(&status));
        }
        level = next;
    }
    assert_eq!(level.len(), 8);
    for leaf in level {
        assert!(children(&world.routed(leaf).await).is_empty());
    }
    assert_eq!(world.count().await, 1 + 2 + 4 + 8);
    world.end().await;
}

#[tokio::test]
async fn a_split_that_does_not_fit_together_fails_the_parent_by_name() {
    for (fault, says) in [
        ("cycle", "in a circle: sub-"),
        ("unknown-sibling", "no-such-sibling"),
        ("duplicate", "\"sub-1\""),
        ("too-many", "25 subtasks, at most 20"),
    ] {
        let agent = agent(&["--decompose-rate", "1", "--fault", fault]);
        let world = World::new(settings(Some(&agent), None));
        let task = world.submit("build a thing").await;
        let status = world.routed(task).await;
        assert_eq!((&status["status"], &status["error"]["code"]), (&json!("failed"), &json!("decomposition_failed")));
        let message = status["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{fault}: {message}");
        assert_eq!(world.count().await, 1, "{fault}: no part was made");
        world.end().await;
    }
}

#[tokio::test]
async fn rag_alone_adds_context_to_what_the_rules_say() {
    let rag = StandIn::rag(&[]);
    let world = World::new(settings(None, Some(&rag)));
    let task = world.submit("write a parser").await;
    assert_eq!(world.routed(task).await["tier"], "small");
    let (_, data) = leased(&world).await;
    assert!(data["context"]["text"].as_str().unwrap().contains("write a parser"), "{data}");
    world.end().await;
}

#[tokio::test]
async fn rag_is_waited_for_no_longer_than_its_deadline() {
    for fault in ["hang", "garbage", "endless", "error", "cut", "wrong-types"] {
        let (agent, rag) = (agent(&["--decompose-rate", "0"]), StandIn::rag(&["--fault", fault]));
        let mut settings = settings(Some(&agent), Some(&rag));
        let short = |rag: Service| Service { call_timeout: Duration::from_millis(300), ..rag };
        settings.rag = settings.rag.map(short);
        let world = World::new(settings);
        let started = Stopwatch::start();
        let task = world.submit("write a parser").await;
        world.routed(task).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{fault}: {:?}", started.elapsed());
        let (_, data) = leased(&world).await;
        assert_eq!(data["context"]["text"], Value::Null, "{fault}: {data}");
        assert!(data["context"]["estimate"].is_object(), "{fault}: {data}");
        world.end().await;
    }
}

#[tokio::test]
async fn what_was_chosen_is_only_given_context() {
    let (mut agent, rag) = (agent(&[]), StandIn::rag(&[]));
    agent.kill();
    let world = World::new(settings(Some(&agent), Some(&rag)));
    let waits = world.submit("nothing is known").await;
    world.soon("to be known as away", || world.services.figures().services[0].away_since.is_some()).await;
    let mut chosen = submission("p-1", "all is known");
    chosen.options.tier = Some(tier("large"));
    chosen.options.domain = Some("analysis".parse().unwrap());
    chosen.options.qa_profile = Some("strict".parse().unwrap());
    chosen.options.decompose = Some(false);
    let known = world.service.submit(chosen).await;
    let status = world.routed(known).await;
    assert_eq!((&status["tier"], &status["domain"]), (&json!("large"), &json!("analysis")));
    assert_eq!(world.service.phase(waits), "analyzing");
    world.end().await;
}

#[tokio::test]
async fn an_engine_with_hardly_a_moment_gets_everything_in_the_end() {
    let agent = agent(&["--decompose-rate", "0", "--fault", "error", "--fault-rate", "0.3"]);
    let busy = dats::engine::Settings { queue_capacity: 1, ..settings_of_engine() };
    let world = World::with(settings(Some(&agent), None), busy);
    let submissions = (0..100).map(|number| submission("p-1", &format!("work {number}"))).collect();
    let submitted = world.service.engine().tasks().submit(submissions, None).await.unwrap();
    for result in submitted.results {
        world.routed(result.unwrap().task).await;
    }
    world.end().await;
}
