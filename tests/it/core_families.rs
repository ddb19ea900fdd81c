//! Rows and inputs of the table of every state against every input that have
//! to do with routing, subtasks and their parents.

use dats::task::{
    Analysis, Child, Chosen, Context, Decomposition, Domain, End, Estimate, Finding, Findings, Input, Mode,
    OnChildFailure, OutputArtifact, Policy, QaProfile, Routing, RoutingStep, Status, Subtask, TaskId, submit,
};

use crate::core_fixtures::{artifact, at, policy, present, project, resolved, submission, task_id, tier};
use crate::core_table::Row;

const SPLIT: RoutingStep = RoutingStep::Decompose { max_depth: 5 };

pub(crate) fn made(artifacts: &[&str]) -> End {
    let artifacts = artifacts.iter().map(|&id| OutputArtifact {
        id: artifact(id),
        kind: None,
        path: None,
        language: None,
        checksum: None,
        size_bytes: None,
    });
    End::Completed { artifacts: artifacts.collect() }
}

pub(crate) fn lost(reason: &str) -> End {
    End::Lost { status: Status::Failed, reason: reason.to_owned() }
}

/// The number behind [`task_id`].
pub(crate) fn number(task: TaskId) -> u128 {
    u128::from_be_bytes(task.to_bytes())
}

fn analysis(needs_decomposition: bool) -> Finding {
    Finding::Analyzed(Analysis {
        mode: Mode::new("fix_bug").expect("a mode"),
        domain: Domain::new("analysis").expect("a domain"),
        tier: tier("large"),
        needs_decomposition,
        qa_profile: Some(QaProfile::new("strict").expect("a profile")),
        acceptance_criteria: Some("[\"it runs\"]".to_owned()),
    })
}

fn estimate() -> Finding {
    let estimate = Estimate { tier: tier("tiny"), qa_profile: None, tokens: None, confidence: None, reasoning: None };
    let context = Context { text: "as before".to_owned(), sources: vec![artifact("s1")] };
    Finding::Estimated { estimate, context: Some(context) }
}

/// A part is `id`, `id!` when it is not atomic, `id<a,b` when it depends on
/// `a` and `b`.
fn parts(parts: &[&str]) -> Finding {
    let subtasks = parts.iter().map(|part| {
        let (id, dependencies) = part.split_once('<').unwrap_or((part, ""));
        Subtask {
            id: id.trim_end_matches('!').to_owned(),
            description: format!("do {id}"),
            domain: None,
            is_atomic: !id.ends_with('!'),
            dependencies: dependencies.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        }
    });
    Finding::Decomposed(Decomposition { subtasks: subtasks.collect(), depth: Some(1) })
}

fn route(step: RoutingStep, finding: Finding) -> Input {
    Input::Route { step, finding, ids: (10..40).map(task_id).collect() }
}

fn with_agent() -> Policy {
    Policy { agent: true, rag: true, ..policy(None) }
}

/// A task whose client has chosen what `chosen` says, with an Agent.
fn new(name: &'static str, chosen: Chosen, on_child_failure: OnChildFailure) -> Row {
    let policy = with_agent();
    let mut resolved = resolved(3, 600, "consensus");
    resolved.routing = Routing::of_submission(chosen, true, on_child_failure, &policy);
    let task = submit(task_id(1), &submission(project("p"), &[], None), resolved, &[], present(at(900)), &policy).task;
    Row { name, task, policy }
}

pub(crate) fn family_rows() -> Vec<Row> {
    let open = |name| new(name, Chosen::default(), OnChildFailure::Cancel);
    let all = Chosen { domain: true, tier: true, qa_profile: true };
    let go_on = |name| new(name, Chosen::default(), OnChildFailure::Continue);
    let split = |row: Row| {
        row.then(901, route(RoutingStep::Analyze, analysis(true))).then(902, route(SPLIT, parts(&["a", "b!<a"])))
    };
    let child = |task, end| Input::ChildEnded { task: task_id(task), end };
    let mut rows = vec![
        open("analyzing"),
        new("analyzing, everything chosen", all, OnChildFailure::Cancel),
        open("analyzing, to be split").then(901, route(RoutingStep::Analyze, analysis(true))),
        open("analyzing, its tier").then(901, route(RoutingStep::Analyze, analysis(false))),
        new("analyzing, its context", all, OnChildFailure::Cancel)
            .then(901, route(RoutingStep::Analyze, analysis(false))),
        open("queued, routed by the Agent")
            .then(901, route(RoutingStep::Analyze, analysis(false)))
            .then(902, route(RoutingStep::Estimate, estimate())),
        split(open("children")),
        split(open("children, one was taken")).then(903, Input::ChildStarted),
        split(open("children, one completed")).then(903, child(10, made(&["c10"]))),
        split(go_on("children, one failed, the other goes on")).then(903, child(10, lost("out of memory"))),
        split(open("completed with its children"))
            .then(903, child(11, made(&["c11"])))
            .then(904, child(10, made(&["c10"]))),
        split(open("failed with a child")).then(903, child(11, lost("out of memory"))),
        split(open("cancelled with its children")).then(903, Input::Cancel { reason: None }),
    ];
    let mut waits = Row::new("blocked by 2, to be analyzed", 3, &[2], None);
    waits.policy = with_agent();
    waits.task.routing = Routing::of_submission(Chosen::default(), true, OnChildFailure::Cancel, &waits.policy);
    rows.push(waits);
    rows
}

pub(crate) fn routing_inputs() -> Vec<(String, Input)> {
    let twenty_one: Vec<String> = (1..=21).map(|n| format!("s{n}")).collect();
    let twenty_one: Vec<&str> = twenty_one.iter().map(String::as_str).collect();
    let mut deep = parts(&["a"]);
    if let Finding::Decomposed(decomposition) = &mut deep {
        decomposition.depth = Some(6);
    }
    let builtin = || Finding::Builtin { context: None };
    let findings = [
        ("analyzed, atomic", RoutingStep::Analyze, analysis(false)),
        ("analyzed, to be split", RoutingStep::Analyze, analysis(true)),
        ("analyzed too late", RoutingStep::Estimate, analysis(false)),
        ("split in none", SPLIT, parts(&[])),
        ("split in two", SPLIT, parts(&["a", "b!<a,a"])),
        ("split as of another depth", RoutingStep::Decompose { max_depth: 4 }, parts(&["a", "b"])),
        ("split in too many", SPLIT, parts(&twenty_one)),
        ("split too deep", SPLIT, deep),
        ("split with a double", SPLIT, parts(&["a", "a"])),
        ("split with a stranger", SPLIT, parts(&["a", "b<c"])),
        ("split in a circle", SPLIT, parts(&["x<a", "a<b", "b<c", "c<a"])),
        ("split with itself", SPLIT, parts(&["a<a"])),
        ("estimated", RoutingStep::Estimate, estimate()),
        ("estimated, of another step", RoutingStep::Context, estimate()),
        ("rules instead of the analysis", RoutingStep::Analyze, builtin()),
        ("rules instead of the parts", SPLIT, builtin()),
        ("rules instead of the tier", RoutingStep::Estimate, builtin()),
        ("rules after the context", RoutingStep::Context, builtin()),
    ];
    let mut inputs: Vec<(String, Input)> =
        findings.into_iter().map(|(name, step, finding)| (name.to_owned(), route(step, finding))).collect();
    for child in [10, 11, 12] {
        for (how, end) in [("completed", made(&["c"])), ("failed", lost("out of memory"))] {
            inputs.push((format!("child {child} {how}"), Input::ChildEnded { task: task_id(child), end }));
        }
    }
    inputs
}

pub(crate) fn kept(findings: &Findings) -> String {
    let parts = [
        findings.acceptance_criteria.as_ref().map(|_| "criteria"),
        findings.estimate.as_ref().map(|_| "estimate"),
        findings.context.as_ref().map(|_| "context"),
    ];
    format!("keep {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

pub(crate) fn spawned(children: &[Child]) -> String {
    let children = children.iter().map(|child| {
        let depends_on: Vec<_> = child.depends_on.iter().map(|task| number(*task).to_string()).collect();
        let next = child.routing.map_or("nothing".to_owned(), |routing| format!("{:?}", routing.step));
        format!("{} to find out {next}, after [{}]", number(child.id), depends_on.join(" "))
    });
    format!("spawn {}", children.collect::<Vec<_>>().join(" and "))
}
