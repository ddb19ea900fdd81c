//! The Agent goes away, in the middle of things too, and comes back; so does
//! the service itself. Nothing is lost and nothing happens twice.

use std::time::Duration;

use dats::routing::{Breaker, BreakerState, Fallback};
use dats::task::TaskId;
use serde_json::json;

use super::world::{World, agent, children, is_waiting, settings};
use crate::support::fixtures::submission;
use crate::support::random::{Random, from_environment};
use crate::support::stand_in::StandIn;

/// Every task is split into two parts that don't depend on each other.
const SPLITTING: [&str; 8] =
    ["--decompose-rate", "1", "--subtasks-min", "2", "--subtasks-max", "2", "--dependencies", "none"];

/// The steps, and how many questions a task and its parts ask in each.
const STEPS: [(&str, u64); 3] = [("analyze", 1), ("decompose", 1), ("estimate", 2)];

/// Waits until so many questions hang.
async fn hangs(world: &World, count: u64) {
    let in_flight = || world.services.figures().services[0].in_flight == count;
    world.soon("to hang", in_flight).await;
}

/// The task has its two parts, made once, and both are routed.
async fn is_whole(world: &World, task: TaskId) {
    world.routed(task).await;
    let parts = children(&world.service.status(task));
    assert_eq!(parts.len(), 2);
    for part in &parts {
        assert!(children(&world.routed(*part).await).is_empty());
        assert_eq!(world.times(*part, "task.routed").await, 1);
    }
    assert_eq!((world.times(task, "task.split").await, world.count().await), (1, 3), "no part is made twice");
}

#[tokio::test]
async fn the_agent_is_killed_in_the_middle_of_each_step() {
    for (step, questions) in STEPS {
        let mut hanging = agent(&[&SPLITTING[..], &["--fault", "hang", "--fault-on", step]].concat());
        let world = World::new(settings(Some(&hanging), None));
        let task = world.submit(&format!("killed in {step}")).await;
        let before = u64::from(step != "analyze");
        world.soon("to come to the step", || world.services.figures().routed >= before).await;
        hangs(&world, questions).await;
        hanging.kill();
        let _agent =
            StandIn::start("agent", &hanging.listen(), &[&SPLITTING[..], &["--tiers", "small,large"]].concat());
        is_whole(&world, task).await;
        world.end().await;
    }
}

#[tokio::test]
async fn the_service_is_stopped_in_the_middle_of_each_step() {
    for (step, questions) in STEPS {
        let mut hanging = agent(&[&SPLITTING[..], &["--fault", "hang", "--fault-on", step]].concat());
        let world = World::new(settings(Some(&hanging), None));
        let task = world.submit(&format!("stopped in {step}")).await;
        let before = u64::from(step != "analyze");
        world.soon("to come to the step", || world.services.figures().routed >= before).await;
        hangs(&world, questions).await;
        let world = world.restart().await;
        hangs(&world, questions).await;
        hanging.kill();
        let _agent =
            StandIn::start("agent", &hanging.listen(), &[&SPLITTING[..], &["--tiers", "small,large"]].concat());
        is_whole(&world, task).await;
        world.end().await;
    }
}

#[tokio::test]
async fn who_waits_waits_for_good_and_is_served_at_last() {
    let mut process = agent(&["--decompose-rate", "0"]);
    process.kill();
    let world = World::new(settings(Some(&process), None));
    let mut tasks = Vec::new();
    for number in 0..40 {
        tasks.push(world.submit(&format!("work {number}")).await);
    }
    world.stays_waiting(tasks[0], Duration::from_millis(1500)).await;
    let figures = world.services.figures();
    let asked: u64 = figures.services[0].calls.iter().sum();
    assert!(figures.services[0].away_since.is_some());
    assert!(asked < 60, "{asked} calls of a service that is away");
    let _agent = StandIn::start("agent", &process.listen(), &["--decompose-rate", "0", "--tiers", "small,large"]);
    for task in tasks {
        world.routed(task).await;
    }
    assert_eq!(world.services.figures().services[0].state, BreakerState::Closed);
    world.end().await;
}

#[tokio::test]
async fn the_rules_decide_after_a_while_where_that_is_wanted() {
    let mut process = agent(&["--decompose-rate", "0"]);
    process.kill();
    let after = Duration::from_millis(600);
    let fallback = Fallback::Builtin { after };
    let world = World::new(dats::routing::Settings { fallback, ..settings(Some(&process), None) });
    let early = world.submit("early").await;
    world.stays_waiting(early, after / 2).await;
    let late = world.submit("late").await;
    let status = world.routed(early).await;
    assert_eq!((&status["phase"], &status["tier"]), (&json!("queued"), &json!("small")));
    assert_eq!(world.service.phase(late), "analyzing", "each waits for its own time");
    world.routed(late).await;
    world.soon("to be counted", || world.services.figures().fallbacks == 2).await;
    let mut many = Vec::new();
    for number in 0..100 {
        many.push(world.submit(&format!("work {number}")).await);
    }
    for task in many {
        world.routed(task).await;
    }
    world.soon("to be counted", || world.services.figures().fallbacks == 102).await;
    let _agent = StandIn::start("agent", &process.listen(), &["--tiers", "large", "--decompose-rate", "0"]);
    world.soon("to be back", || world.services.figures().services[0].state != BreakerState::Open).await;
    let after_it = world.submit("the Agent is back").await;
    assert_eq!(world.routed(after_it).await["tier"], "large");
    world.end().await;
}

#[tokio::test]
async fn what_the_agent_can_not_answer_holds_up_nothing_else() {
    let lying = ["--decompose-rate", "0.5", "--fault", "garbage", "--fault-on", "decompose"];
    let process = agent(&lying);
    let mut narrow = settings(Some(&process), None);
    // They come again seldom, as in earnest: else there is nothing but them.
    narrow.return_max = Duration::from_secs(3);
    narrow.return_initial = Duration::from_millis(300);
    narrow.agent = narrow.agent.map(|agent| dats::routing::Service { concurrency: 2, ..agent });
    let world = World::new(narrow.clone());
    let mut tasks = Vec::new();
    for number in 0..40 {
        tasks.push(world.submit(&format!("work {number}")).await);
    }
    let is_analysed = |task: &TaskId| world.service.status(*task)["mode"] != json!(null);
    world.soon("to be analysed", || tasks.iter().all(is_analysed)).await;
    let mut stuck = 0;
    for task in &tasks {
        if world.is_to_be_split(*task).await {
            stuck += 1;
        } else {
            world.routed(*task).await;
        }
    }
    assert!((8..32).contains(&stuck), "{stuck} of 40 are to be split");
    let waiting = tasks.iter().filter(|task| is_waiting(&world.service.status(**task))).count();
    assert_eq!(waiting, stuck);
    assert_eq!(world.services.figures().services[0].state, BreakerState::Closed, "it answers, if nonsense");
    let one_more = world.submit("work 0 again and again").await;
    world.soon("one more to be analysed", || is_analysed(&one_more)).await;
    world.end().await;

    let fallback = Fallback::Builtin { after: Duration::from_millis(300) };
    let world = World::new(dats::routing::Settings { fallback, ..narrow });
    let mut tasks = Vec::new();
    for number in 0..10 {
        tasks.push(world.submit(&format!("work {number}")).await);
    }
    for task in &tasks {
        assert_eq!(world.routed(*task).await["phase"], "queued");
    }
    let fallbacks = || world.services.figures().fallbacks >= 2;
    world.soon("the rules to decide about those that can not be split", fallbacks).await;
    world.end().await;
}

#[tokio::test]
async fn who_is_back_is_seen_before_it_is_needed() {
    let (mut agent, mut rag) = (agent(&["--decompose-rate", "0"]), StandIn::rag(&[]));
    agent.kill();
    rag.kill();
    let fallback = Fallback::Builtin { after: Duration::from_millis(100) };
    let world = World::new(dats::routing::Settings { fallback, ..settings(Some(&agent), Some(&rag)) });
    let away = || world.services.figures().services.iter().filter(|service| service.away_since.is_some()).count();
    for number in 0..5 {
        let task = world.submit(&format!("work {number}")).await;
        world.routed(task).await;
    }
    assert_eq!(away(), 2);
    let _agent = StandIn::start("agent", &agent.listen(), &[]);
    world.soon("the Agent to be back", || away() == 1).await;
    let _rag = StandIn::start("rag", &rag.listen(), &[]);
    world.soon("RAG to be back", || away() == 0).await;
    world.end().await;
}

/// More tasks than places, each of which takes its full time to fail, and
/// after them others.
async fn others_beside_poison(breaker: Option<Breaker>) {
    let process = agent(&["--decompose-rate", "0", "--fault", "hang", "--fault-text", "poison"]);
    let mut narrow = settings(Some(&process), None);
    narrow.agent = narrow.agent.map(|agent| dats::routing::Service {
        concurrency: 4,
        try_timeout: Duration::from_millis(400),
        call_timeout: Duration::from_millis(800),
        breaker: breaker.unwrap_or(agent.breaker),
        ..agent
    });
    let world = World::new(narrow);
    let mut poisoned = Vec::new();
    for number in 0..12 {
        poisoned.push(world.submit(&format!("poison {number}")).await);
    }
    let failed = || world.services.figures().services[0].calls[5] >= 12;
    world.soon("each to have hung once", failed).await;
    let mut others = Vec::new();
    for number in 0..30 {
        others.push(world.submit(&format!("work {number}")).await);
    }
    for task in others {
        world.routed(task).await;
    }
    for task in poisoned {
        assert_eq!(world.service.phase(task), "analyzing");
    }
    world.end().await;
}

#[tokio::test]
async fn tasks_that_make_the_agent_hang_do_not_take_all_places() {
    others_beside_poison(Some(super::NEVER)).await;
}

#[tokio::test]
async fn tasks_that_make_the_agent_hang_are_no_probes() {
    others_beside_poison(None).await;
}

#[tokio::test]
async fn cancelled_while_it_is_asked_about() {
    let process = agent(&["--fault", "late", "--late-ms", "300"]);
    let world = World::new(settings(Some(&process), None));
    let task = world.submit("work").await;
    hangs(&world, 1).await;
    world.service.engine().tasks().cancel(task, None).await.unwrap();
    world.soon("to be answered", || world.services.figures().routed == 1).await;
    assert_eq!(world.service.status(task)["status"], "cancelled");
    assert_eq!((world.count().await, world.services.figures().in_flight), (1, 0));
    world.end().await;
}

/// Everything at once: an Agent that fails in all ways and is killed now and
/// then, a service that is restarted, tasks of several projects.
#[tokio::test]
async fn in_the_end_all_are_routed_exactly_once() {
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    let calm: Vec<&str> = [&SPLITTING[..], &["--tiers", "small,large"], &["--depth", "2"]].concat();
    let fault = |name: &'static str| [&calm[..], &["--fault", name, "--fault-rate", "0.4"]].concat();
    let mut process = StandIn::agent(&fault("error"));
    let mut settings = settings(Some(&process), None);
    settings.agent = settings.agent.map(|agent| dats::routing::Service {
        try_timeout: Duration::from_millis(200),
        call_timeout: Duration::from_millis(500),
        ..agent
    });
    let mut world = World::new(settings);
    let mut roots = Vec::new();
    for _ in 0..from_environment("DATS_ROUNDS", 5) {
        for number in 0..8 {
            let project = format!("p-{}", random.below(4));
            roots.push(world.service.submit(submission(&project, &format!("work {number}"))).await);
        }
        tokio::time::sleep(Duration::from_millis(random.below(200))).await;
        process.kill();
        if random.chance(50) {
            world = world.restart().await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
        let name = *random.pick(&["error", "cut", "garbage", "endless", "wrong-types", "hang", "none"]);
        process = StandIn::start("agent", &process.listen(), &fault(name));
    }
    process.kill();
    let _calm = StandIn::start("agent", &process.listen(), &calm);
    let (mut open, mut all) = (roots.clone(), 0);
    while let Some(task) = open.pop() {
        all += 1;
        world.soon("to be routed or blocked", || !is_waiting(&world.service.status(task))).await;
        let parts = children(&world.service.status(task));
        let times = (world.times(task, "task.split").await, world.times(task, "task.routed").await);
        assert_eq!(times, if parts.is_empty() { (0, 1) } else { (1, 0) }, "{task}");
        open.extend(parts);
    }
    assert!(all > roots.len() * 2, "{all} tasks of {} submissions", roots.len());
    assert_eq!(world.count().await, all.min(1000), "each task has one parent or none");
    world.restart().await.end().await;
}
