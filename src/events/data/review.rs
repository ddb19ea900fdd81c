//! What people are asked of an output, and what they say.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use super::{InvalidData, finish, shortened, typed};
use crate::json::{self, Findings};
use crate::schema::{described, word};
use crate::task::{ArtifactId, Correlation, Report, Review, ReviewDecision, ReviewId, ReviewRequest, TaskId};

/// That a person is asked about an output.
#[derive(Deserialize, ToSchema)]
#[schema(as = ReviewRequestedData)]
pub(in crate::events) struct RequestedData {
    /// The review.
    #[schema(value_type = ReviewId)]
    review_id: Option<String>,
    /// Why, in words.
    #[schema(value_type = String)]
    reason: Option<String>,
    /// How urgent it is, in the words of who asks: anything but null.
    #[schema(value_type = Urgency)]
    priority: Option<IgnoredAny>,
    /// The task; without it, that of the artifact.
    #[schema(value_type = Option<TaskId>)]
    task_id: Option<String>,
    /// The output.
    #[schema(value_type = Option<ArtifactId>)]
    artifact_id: Option<String>,
}

/// What a person says of an output.
#[derive(Deserialize, ToSchema)]
#[schema(as = ReviewCompletedData)]
pub(in crate::events) struct CompletedData {
    /// The review.
    #[schema(value_type = ReviewId)]
    review_id: Option<String>,
    /// What was decided.
    #[schema(value_type = ReviewDecision)]
    decision: Option<String>,
    /// Who has decided.
    #[schema(value_type = String)]
    reviewer_id: Option<String>,
    /// The task; without it that of the artifact, and without that one that of the review.
    #[schema(value_type = Option<TaskId>)]
    task_id: Option<String>,
    /// The output.
    #[schema(value_type = Option<ArtifactId>)]
    artifact_id: Option<String>,
    /// Why, in words: the next attempt is told.
    comments: Option<String>,
}

const DECISIONS: [ReviewDecision; 3] =
    [ReviewDecision::Approved, ReviewDecision::Rejected, ReviewDecision::ChangesRequested];

/// How urgent a review is.
struct Urgency;

described! {
    Urgency, "Urgency": ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::String, Type::Number, Type::Boolean, Type::Object, Type::Array]))
        .description(Some("How urgent a review is, in the words of who asks for it."))
        .build();
    ReviewDecision, "ReviewDecision": word("What a person says of an output.", DECISIONS.map(ReviewDecision::as_str));
}

pub(super) fn requested(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<RequestedData>(data)?;
    let (task, artifact, review) =
        review_of(&mut found, [&data.task_id, &data.artifact_id, &data.review_id].map(|id| id.as_deref()));
    let reason = found.required("/data/reason", data.reason);
    found.required("/data/priority", data.priority);
    let (task, (review, reason)) = finish(found, task, review.zip(reason))?;
    let correlation = Correlation { task, artifact: artifact.clone(), review: Some(review.clone()) };
    let request = ReviewRequest { review, reason: shortened(reason), artifact };
    Ok((correlation, Report::ReviewRequested(request)))
}

pub(super) fn completed(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = typed::<CompletedData>(data)?;
    let (task, artifact, review) =
        review_of(&mut found, [&data.task_id, &data.artifact_id, &data.review_id].map(|id| id.as_deref()));
    let decision = found.required("/data/decision", data.decision).and_then(|word| decision(&mut found, &word));
    let reviewer = found.required("/data/reviewer_id", data.reviewer_id);
    let (task, (review, decision)) = finish(found, task, review.zip(decision))?;
    let correlation = Correlation { task, artifact: artifact.clone(), review: Some(review.clone()) };
    let comments = data.comments.map(shortened);
    Ok((correlation, Report::ReviewCompleted(Review { review, decision, reviewer, artifact, comments })))
}

type ReviewOf = (Result<Option<TaskId>, InvalidData>, Option<ArtifactId>, Option<ReviewId>);

fn review_of(found: &mut Findings, [task, artifact, review]: [Option<&str>; 3]) -> ReviewOf {
    let task = super::task(found, task, false);
    let artifact = super::artifact(found, artifact, false);
    let review = found.required("/data/review_id", review).and_then(|id| found.parse("/data/review_id", id));
    (task, artifact, review)
}

fn decision(found: &mut Findings, word: &str) -> Option<ReviewDecision> {
    let decision = DECISIONS.into_iter().find(|decision| decision.as_str() == word);
    if decision.is_none() {
        let message = format!("must be one of approved, rejected, changes_requested, was {}", json::quoted(word));
        found.add("/data/decision", message);
    }
    decision
}
