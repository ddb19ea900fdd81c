//! Readers: status queries, long polls, lists, walks through all pages, histories, contents.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::sleep;

use super::context::Context;
use super::observe::{check_artifact, check_history, check_project_list, check_status, get, query_status};
use crate::client::{Call, segment, with_query};
use crate::clock::Clock;
use crate::task::Timestamp;
use crate::workload::random::Random;

/// Longest pause between two long polls.
const WAITER_PAUSE: Duration = Duration::from_millis(200);

/// Reads until the stage of work ends.
pub(super) async fn run(context: Arc<Context>, mut random: Random) {
    while context.is_working() {
        context.pause(random.time(context.hour().pause())).await;
        let task = context.ledger().pick(&mut random);
        let Some(task) = task else { continue };
        match random.below(100) {
            0..30 => drop(query_status(&context, &task).await),
            30..45 => long_poll(&context, &mut random).await,
            45..55 => check_history(&context, &task).await,
            55..65 => read_content(&context, &mut random).await,
            65..72 => list_tasks(&context, &mut random).await,
            72..80 => list_page(&context, &mut random).await,
            _ => read_anything(&context, &task, &mut random).await,
        }
    }
}

/// Sends one long poll after another until the end of the day, like a client that waits for
/// results.
pub(super) async fn wait(context: Arc<Context>, mut random: Random) {
    while !context.is_ended() {
        long_poll(&context, &mut random).await;
        sleep(random.time(WAITER_PAUSE)).await;
    }
}

/// Waits for the end of a task. A late answer is a finding.
async fn long_poll(context: &Context, random: &mut Random) {
    let Some(task) = context.ledger().pick_open(random) else { return };
    // Long enough to distinguish a lost wake-up from one that was not due.
    let wait = context.patience / 2 + Duration::from_secs(random.between(5, 20));
    let before = context.ledger().known_before(&task, "");
    let path = format!("/tasks/{}?wait={}", segment(&task), wait.as_secs());
    let asked = Clock::new().wall();
    let Some(reply) = context.send("long poll", Call::new(Method::GET, path).wait(wait), &[]).await else { return };
    check_status(context, &task, before, &reply);
    // The answer states when the task ended; it must have arrived soon after that.
    let answered = Clock::new().wall();
    let ended = reply.text("completed_at").parse::<Timestamp>().ok().filter(|ended| *ended > asked);
    if let Some(late) = ended.map(|ended| answered.since(ended)).filter(|late| *late > context.patience / 2) {
        let what = format!("task {task} ended, and a waiting reader was answered {:.1} s later", late.as_secs_f64());
        context.report_reply("wake-up", what, &reply);
    }
}

async fn read_content(context: &Context, random: &mut Random) {
    let output = context.ledger().pick_output(random);
    if let Some(output) = output {
        check_artifact(context, &output, random.chance(30)).await;
    }
}

/// Reads all pages of one project.
async fn list_tasks(context: &Context, random: &mut Random) {
    let project = context.day.project(random).to_owned();
    let limit = random.size(3, 1000);
    check_project_list(context, &project, limit).await;
}

/// Reads one page of a list with random filters.
async fn list_page(context: &Context, random: &mut Random) {
    let statuses = ["pending", "running", "completed", "failed,cancelled", "pending,running"];
    let query = [
        ("status", random.choose(&statuses).map(|status| (*status).to_owned())),
        ("project_id", random.chance(50).then(|| context.day.project(random).to_owned())),
        ("tier", random.chance(30).then(|| "small".to_owned())),
        ("limit", Some(random.size(1, 1000).to_string())),
        ("offset", random.chance(30).then(|| random.below(500).to_string())),
    ];
    get(context, "list", with_query("/tasks", &query), &[]).await;
}

/// Reads one of the other resources.
async fn read_anything(context: &Context, task: &str, random: &mut Random) {
    let project = segment(context.day.project(random));
    let artifact = context.ledger().pick_output(random).map(|output| segment(&output.artifact));
    let artifact = artifact.unwrap_or_else(|| "none".to_owned());
    let path = match random.below(14) {
        0 => format!("/tasks/{}/tree", segment(task)),
        1 => "/queues".to_owned(),
        2 => format!("/projects/{project}/status"),
        3 => format!("/projects/{project}/consistency"),
        4 => format!("/provenance?project_id={project}&limit=200"),
        5 => format!("/provenance/{artifact}/dependents"),
        6 => format!("/provenance/{artifact}/dependencies"),
        7 => format!("/provenance/{artifact}/impact"),
        8 => format!("/provenance/{artifact}/export?format=dot&depth=2"),
        9 => "/projects?limit=100".to_owned(),
        10 => "/dead-letters?limit=50".to_owned(),
        11 => "/health/detailed".to_owned(),
        12 => format!("/taint-events?artifact_id={artifact}"),
        _ => "/livez".to_owned(),
    };
    get(context, "glance", path, &[404]).await;
}
