//! What a finding of the Agent, of the RAG service or of the built-in rules does to a task.

use super::analysis::{Analysis, Context, Estimate};
use super::change::{Change, Effect, Outcome, RoutedBy};
use super::draft::{Draft, Step};
use super::id::TaskId;
use super::routing::{Finding, Findings, Routing, RoutingStep};
use super::split;
use super::state::{Pending, State};

/// Applies a finding. A finding for a step that the task is no longer at is late and changes
/// nothing. `ids` are for subtasks, at least as many as the finding has.
pub(super) fn apply(mut draft: Draft<'_>, step: RoutingStep, finding: Finding, ids: &[TaskId]) -> Step {
    let waits = matches!(draft.task.state, State::Pending(Pending::Analyzing { .. }));
    let Some(routing) = draft.task.routing.filter(|routing| waits && routing.step == step) else {
        return draft.done(Outcome::Unchanged);
    };
    match (step, finding) {
        (RoutingStep::Analyze, Finding::Analyzed(analysis)) => apply_analysis(&mut draft, routing, analysis),
        (RoutingStep::Decompose { max_depth }, Finding::Decomposed(decomposition)) => {
            split::split(&mut draft, routing, &decomposition, max_depth, ids);
        }
        (RoutingStep::Estimate, Finding::Estimated { estimate, context }) => {
            apply_estimate(&mut draft, routing, estimate, context);
        }
        (_, Finding::Builtin { context }) => {
            let by = match step {
                RoutingStep::Context if draft.policy.agent => RoutedBy::Request,
                RoutingStep::Context | RoutingStep::Analyze | RoutingStep::Decompose { .. } | RoutingStep::Estimate => {
                    RoutedBy::Builtin
                }
            };
            let unasked = context.is_none() && !draft.policy.agent && draft.policy.rag;
            keep_findings(&mut draft, Findings { context, ..Findings::default() });
            if unasked && step != RoutingStep::Context {
                // The Agent was removed from the configuration, the RAG service was not.
                draft.task.routing = Some(Routing { step: RoutingStep::Context, ..routing });
            } else {
                draft.finish_routing(by);
            }
        }
        (_, Finding::Analyzed(_) | Finding::Decomposed(_) | Finding::Estimated { .. }) => {
            return draft.done(Outcome::Unchanged);
        }
    }
    draft.applied()
}

fn apply_analysis(draft: &mut Draft<'_>, routing: Routing, analysis: Analysis) {
    let task = &mut draft.task;
    task.mode = Some(analysis.mode.clone());
    if !routing.chosen.domain {
        task.domain = analysis.domain;
    }
    if !routing.chosen.tier {
        task.tier = analysis.tier;
    }
    if let Some(qa_profile) = analysis.qa_profile.filter(|_| !routing.chosen.qa_profile) {
        task.qa_profile = qa_profile;
    }
    let max_depth = draft.policy.max_depth.saturating_sub(task.depth);
    let split = analysis.needs_decomposition && routing.decompose && max_depth > 0;
    draft.log(Change::Analyzed { mode: analysis.mode, split });
    keep_findings(draft, Findings { acceptance_criteria: analysis.acceptance_criteria, ..Findings::default() });
    if split {
        draft.task.routing = Some(Routing { step: RoutingStep::Decompose { max_depth }, ..routing });
    } else {
        draft.choose_tier(routing);
    }
}

fn apply_estimate(draft: &mut Draft<'_>, routing: Routing, estimate: Estimate, context: Option<Context>) {
    if !routing.chosen.tier {
        draft.task.tier = estimate.tier.clone();
    }
    if let Some(qa_profile) = estimate.qa_profile.clone().filter(|_| !routing.chosen.qa_profile) {
        draft.task.qa_profile = qa_profile;
    }
    keep_findings(draft, Findings { estimate: Some(estimate), context, ..Findings::default() });
    draft.finish_routing(RoutedBy::Agent);
}

fn keep_findings(draft: &mut Draft<'_>, findings: Findings) {
    if !findings.is_empty() {
        draft.task.has_findings = true;
        draft.effects.push(Effect::KeepFindings(Box::new(findings)));
    }
}
