//! Lists against a plain model: filters, cursors, offsets, totals.

use dats::engine::{Answer, PageStart, TaskFilter};
use dats::task::{Domain, Status, TaskId, Timestamp};
use serde_json::Value;

use crate::support::fixtures::{failure_report, output_report, project, settings, submission, tier, verdict_report};
use crate::support::random::{Random, from_environment};
use crate::support::service::Service;

fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn id_of(task: &Value) -> TaskId {
    task["task_id"].as_str().expect("an id").parse().expect("an id")
}

fn created_at(task: &Value) -> Timestamp {
    task["created_at"].as_str().expect("a time").parse().expect("a time")
}

/// Tasks of three projects in every status.
async fn filled(random: &mut Random) -> (Service, Vec<Value>) {
    let mut service = Service::new(settings());
    let mut tasks = Vec::new();
    for number in 0..120 {
        let mut wanted = submission(["a", "b", "c"][random.index(3)], &format!("task {number}"));
        wanted.options.tier = random.chance(50).then(|| tier("large"));
        wanted.options.domain = random.chance(30).then(|| Domain::new("documentation").expect("a domain"));
        let task = service.submit(wanted).await;
        match random.below(5) {
            0 => drop(service.engine().tasks().cancel(task, None).await.expect("to cancel")),
            1 if service.phase(task) == "queued" => drop(service.report(task, failure_report(false)).await),
            2 if service.phase(task) == "queued" => {
                service.report(task, output_report("a")).await;
                service.report(task, verdict_report("a", true)).await;
            }
            _ => {}
        }
        tasks.push(task);
    }
    let statuses = tasks.iter().rev().map(|task| service.status(*task)).collect();
    (service, statuses)
}

fn any_filter(random: &mut Random, tasks: &[Value]) -> TaskFilter {
    let time = |random: &mut Random| random.chance(15).then(|| created_at(random.pick(tasks)));
    TaskFilter {
        project: random.chance(50).then(|| project(["a", "b", "c", "nobody's"][random.index(4)])),
        statuses: (0..random.below(4)).map(|_| *random.pick(&Status::ALL)).collect(),
        parent: random.chance(3).then(|| id_of(random.pick(tasks))),
        tier: random.chance(20).then(|| tier("large")),
        domain: random.chance(20).then(|| Domain::new("documentation").expect("a domain")),
        created_after: time(random),
        created_before: time(random),
    }
}

fn matches(filter: &TaskFilter, task: &Value) -> bool {
    let status = |status: &Status| task["status"] == status.as_str();
    filter.project.as_ref().is_none_or(|project| task["project_id"] == project.as_str())
        && (filter.statuses.is_empty() || filter.statuses.iter().any(status))
        && filter.parent.is_none()
        && filter.tier.as_ref().is_none_or(|tier| task["tier"] == tier.as_str())
        && filter.domain.as_ref().is_none_or(|domain| task["domain"] == domain.as_str())
        && filter.created_after.is_none_or(|after| created_at(task) >= after)
        && filter.created_before.is_none_or(|before| created_at(task) < before)
}

#[tokio::test]
async fn pages_are_what_the_model_says() {
    let mut random = Random::new(from_environment("DATS_SEED", 1));
    let (service, tasks) = filled(&mut random).await;
    let (mut exact, mut found) = (0, 0);
    for _ in 0..400 {
        let filter = any_filter(&mut random, &tasks);
        let expected: Vec<&Value> = tasks.iter().filter(|task| matches(&filter, task)).collect();
        let limit = 1 + random.index(30);
        let offset = random.index(10);
        let page = service.engine().tasks().list(filter.clone(), PageStart::Offset(offset), limit).await.unwrap();
        let listed: Vec<Value> = page.tasks.iter().map(parsed).collect();
        assert!(listed.iter().eq(expected.iter().skip(offset).take(limit).copied()), "{filter:?}");
        if let Some(total) = page.total {
            assert_eq!(total, u64::try_from(expected.len()).unwrap(), "{filter:?}");
            exact += 1;
        }
        let mut start = PageStart::Offset(0);
        let mut walked = Vec::new();
        loop {
            let page = service.engine().tasks().list(filter.clone(), start, limit).await.unwrap();
            walked.extend(page.tasks.iter().map(parsed));
            let Some(next) = page.next else { break };
            start = PageStart::After(next);
        }
        assert!(walked.iter().eq(expected), "{filter:?}");
        found += walked.len();
    }
    assert!(exact > 100 && found > 1000, "the test has lost its aim");
}

#[tokio::test]
async fn new_tasks_move_no_page_that_follows_a_cursor() {
    let service = Service::new(settings());
    let mut old = Vec::new();
    for _ in 0..30 {
        old.push(service.submit(submission("p", "d")).await);
    }
    let mut walked = Vec::new();
    let mut start = PageStart::Offset(0);
    loop {
        let page = service.engine().tasks().list(TaskFilter::default(), start, 7).await.unwrap();
        walked.extend(page.tasks.iter().map(|task| id_of(&parsed(task))));
        service.submit(submission("p", "new")).await;
        let Some(next) = page.next else { break };
        start = PageStart::After(next);
    }
    old.reverse();
    assert_eq!(walked, old);
}
