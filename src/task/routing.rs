//! Routing: what has to be found out about a task before it can wait for a
//! slot, and what a finding does to it. Who is asked, and how, is decided
//! outside.

use serde::{Deserialize, Serialize};

use super::analysis::{Analysis, Context, Decomposition, Estimate};
use super::change::{Change, Effect, Outcome, RoutedBy};
use super::id::TaskId;
use super::policy::Policy;
use super::request::OnChildFailure;
use super::split;
use super::state::{Pending, State};
use super::transition::{Draft, Step};

/// What has to be found out next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoutingStep {
    /// What the task is, and whether it should be split: the Agent's `/analyze`.
    Analyze,
    /// Its parts: the Agent's `/decompose`.
    Decompose {
        /// How many levels of subtasks may still come.
        max_depth: u32,
    },
    /// Its tier: the Agent's `/estimate`; its context meanwhile.
    Estimate,
    /// Its context alone: the RAG service's `/query`.
    Context,
}

/// What the request or the project has decided, which nobody else overrules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chosen {
    /// The kind of work.
    pub domain: bool,
    /// The tier.
    pub tier: bool,
    /// How outputs are validated.
    pub qa_profile: bool,
}

/// What routing has still to find out about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// What comes next.
    pub step: RoutingStep,
    /// What is not to be touched.
    pub chosen: Chosen,
    /// Whether the task may be split.
    pub decompose: bool,
    /// What a failing subtask does to its siblings.
    pub on_child_failure: OnChildFailure,
}

/// What came of a [`RoutingStep`].
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// The Agent's answer to `/analyze`.
    Analyzed(Analysis),
    /// The Agent's answer to `/decompose`.
    Decomposed(Decomposition),
    /// The Agent's answer to `/estimate`.
    Estimated {
        /// The answer.
        estimate: Estimate,
        /// What RAG had to say meanwhile.
        context: Option<Context>,
    },
    /// The built-in rules shall decide what is still open.
    Builtin {
        /// What RAG had to say.
        context: Option<Context>,
    },
}

/// What is kept of findings for the workers of a task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// What a good output fulfils: any JSON value, as compact JSON text.
    pub acceptance_criteria: Option<String>,
    /// The Agent's estimate.
    pub estimate: Option<Estimate>,
    /// Text that may help.
    pub context: Option<Context>,
}

impl Findings {
    /// Takes over what newer ones say.
    pub fn merge(&mut self, newer: Self) {
        self.acceptance_criteria = newer.acceptance_criteria.or(self.acceptance_criteria.take());
        self.estimate = newer.estimate.or(self.estimate.take());
        self.context = newer.context.or(self.context.take());
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Routing {
    /// What has to be found out about a new submission; `None`: nothing.
    #[must_use]
    pub const fn of_submission(
        chosen: Chosen,
        decompose: bool,
        on_child_failure: OnChildFailure,
        policy: &Policy,
    ) -> Option<Self> {
        let known = chosen.domain && chosen.tier && chosen.qa_profile && !decompose;
        let step = if policy.agent && !known {
            RoutingStep::Analyze
        } else if policy.rag {
            RoutingStep::Context
        } else {
            return None;
        };
        Some(Self { step, chosen, decompose, on_child_failure })
    }

    /// The step that chooses the tier, or what is left without one.
    pub(super) const fn last_step(self, policy: &Policy) -> Option<Self> {
        let known = self.chosen.tier && self.chosen.qa_profile;
        let step = if policy.agent && !known {
            RoutingStep::Estimate
        } else if policy.rag {
            RoutingStep::Context
        } else {
            return None;
        };
        Some(Self { step, ..self })
    }
}

/// Takes a finding. One for a step that the task is not at has come too late
/// and changes nothing. `ids` are for subtasks, at least as many as it has.
pub(super) fn route(mut draft: Draft<'_>, step: RoutingStep, finding: Finding, ids: &[TaskId]) -> Step {
    let waits = matches!(draft.task.state, State::Pending(Pending::Analyzing { .. }));
    let Some(routing) = draft.task.routing.filter(|routing| waits && routing.step == step) else {
        return draft.done(Outcome::Unchanged);
    };
    match (step, finding) {
        (RoutingStep::Analyze, Finding::Analyzed(analysis)) => analyzed(&mut draft, routing, analysis),
        (RoutingStep::Decompose { max_depth }, Finding::Decomposed(decomposition)) => {
            split::split(&mut draft, routing, &decomposition, max_depth, ids);
        }
        (RoutingStep::Estimate, Finding::Estimated { estimate, context }) => {
            estimated(&mut draft, routing, estimate, context);
        }
        (_, Finding::Builtin { context }) => {
            let by = match step {
                RoutingStep::Context if draft.policy.agent => RoutedBy::Request,
                RoutingStep::Context | RoutingStep::Analyze | RoutingStep::Decompose { .. } | RoutingStep::Estimate => {
                    RoutedBy::Builtin
                }
            };
            let unasked = context.is_none() && !draft.policy.agent && draft.policy.rag;
            keep(&mut draft, Findings { context, ..Findings::default() });
            if unasked && step != RoutingStep::Context {
                // The Agent is gone from the configuration, RAG is not.
                draft.task.routing = Some(Routing { step: RoutingStep::Context, ..routing });
            } else {
                routed(&mut draft, by);
            }
        }
        (_, Finding::Analyzed(_) | Finding::Decomposed(_) | Finding::Estimated { .. }) => {
            return draft.done(Outcome::Unchanged);
        }
    }
    draft.applied()
}

fn analyzed(draft: &mut Draft<'_>, routing: Routing, analysis: Analysis) {
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
    keep(draft, Findings { acceptance_criteria: analysis.acceptance_criteria, ..Findings::default() });
    if split {
        draft.task.routing = Some(Routing { step: RoutingStep::Decompose { max_depth }, ..routing });
    } else {
        choose_tier(draft, routing);
    }
}

/// The task is done as it is: only its tier and its context are open.
pub(super) fn choose_tier(draft: &mut Draft<'_>, routing: Routing) {
    draft.task.routing = routing.last_step(draft.policy);
    if draft.task.routing.is_none() {
        routed(draft, RoutedBy::Agent);
    }
}

fn estimated(draft: &mut Draft<'_>, routing: Routing, estimate: Estimate, context: Option<Context>) {
    if !routing.chosen.tier {
        draft.task.tier = estimate.tier.clone();
    }
    if let Some(qa_profile) = estimate.qa_profile.clone().filter(|_| !routing.chosen.qa_profile) {
        draft.task.qa_profile = qa_profile;
    }
    keep(draft, Findings { estimate: Some(estimate), context, ..Findings::default() });
    routed(draft, RoutedBy::Agent);
}

fn keep(draft: &mut Draft<'_>, findings: Findings) {
    if !findings.is_empty() {
        draft.task.has_findings = true;
        draft.effects.push(Effect::KeepFindings(Box::new(findings)));
    }
}

/// Nothing is left to find out.
fn routed(draft: &mut Draft<'_>, by: RoutedBy) {
    draft.task.routing = None;
    draft.log(Change::Routed { domain: draft.task.domain.clone(), tier: draft.task.tier.clone(), by });
    draft.queue();
}
