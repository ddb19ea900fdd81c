//! Routing: what must be found out about a task before it waits for a slot. The module
//! `crate::routing` decides which service is asked and how.

use serde::{Deserialize, Serialize};

use super::analysis::{Analysis, Context, Decomposition, Estimate};
use super::policy::Policy;
use super::request::OnChildFailure;

/// The next thing to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoutingStep {
    /// The kind of work, and whether to split it: the Agent's `/analyze`.
    Analyze,
    /// The parts of the task: the Agent's `/decompose`.
    Decompose {
        /// How many levels of subtasks are still allowed.
        max_depth: u32,
    },
    /// The tier, from the Agent's `/estimate`, and meanwhile the context.
    Estimate,
    /// The context alone: the RAG service's `/query`.
    Context,
}

/// Which choices the request or the project has made, so that no finding overrides them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chosen {
    /// Whether the domain is chosen.
    pub domain: bool,
    /// Whether the tier is chosen.
    pub tier: bool,
    /// Whether the QA profile is chosen.
    pub qa_profile: bool,
}

/// What routing still has to find out about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// The next step.
    pub step: RoutingStep,
    /// The choices that findings must not change.
    pub chosen: Chosen,
    /// Whether the task may be split.
    pub decompose: bool,
    /// What a failed subtask does to its siblings.
    pub on_child_failure: OnChildFailure,
}

/// The result of a [`RoutingStep`].
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// The Agent's answer to `/analyze`.
    Analyzed(Analysis),
    /// The Agent's answer to `/decompose`.
    Decomposed(Decomposition),
    /// The Agent's answer to `/estimate`.
    Estimated {
        /// Tier, QA profile and expected tokens.
        estimate: Estimate,
        /// The answer of the RAG service; `None` if it gave none.
        context: Option<Context>,
    },
    /// The built-in rules decide what is still open.
    Builtin {
        /// The answer of the RAG service; `None` if it gave none.
        context: Option<Context>,
    },
}

/// Findings that are kept for the workers of a task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Criteria for a good output: any JSON value, as compact JSON text.
    pub acceptance_criteria: Option<String>,
    /// The Agent's estimate.
    pub estimate: Option<Estimate>,
    /// Context from the RAG service.
    pub context: Option<Context>,
}

impl Findings {
    /// Takes over the fields that `newer` has.
    pub fn merge(&mut self, newer: Self) {
        self.acceptance_criteria = newer.acceptance_criteria.or(self.acceptance_criteria.take());
        self.estimate = newer.estimate.or(self.estimate.take());
        self.context = newer.context.or(self.context.take());
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Routing {
    /// Routing of a new submission; `None` if there is nothing to find out.
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

    /// The step that chooses the tier, or else the step that fetches the context; `None` if there
    /// is nothing to find out.
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
