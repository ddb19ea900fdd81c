//! The events about reviews of outputs by people.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use super::fields::{InvalidData, decode, finish, read_artifact, read_task, shorten_reason};
use crate::json::{self, Findings};
use crate::schema::{described, word};
use crate::task::{ArtifactId, Correlation, Report, Review, ReviewDecision, ReviewId, ReviewRequest, TaskId};

/// A person is asked to review an output.
#[derive(Deserialize, ToSchema)]
#[schema(as = ReviewRequestedData)]
pub(in crate::events) struct RequestedData {
    /// The id of the review.
    #[schema(value_type = ReviewId)]
    review_id: Option<String>,
    /// The reason for the review, in words.
    #[schema(value_type = String)]
    reason: Option<String>,
    /// The urgency, in the form of the sender: any value but null.
    #[schema(value_type = Urgency)]
    priority: Option<IgnoredAny>,
    /// The id of the task. Default: the task of the artifact.
    #[schema(value_type = Option<TaskId>)]
    task_id: Option<String>,
    /// The artifact of the output.
    #[schema(value_type = Option<ArtifactId>)]
    artifact_id: Option<String>,
}

/// A person has reviewed an output.
#[derive(Deserialize, ToSchema)]
#[schema(as = ReviewCompletedData)]
pub(in crate::events) struct CompletedData {
    /// The id of the review.
    #[schema(value_type = ReviewId)]
    review_id: Option<String>,
    /// The decision.
    #[schema(value_type = ReviewDecision)]
    decision: Option<String>,
    /// The person who has decided.
    #[schema(value_type = String)]
    reviewer_id: Option<String>,
    /// The id of the task. Default: the task of the artifact, or else that of the review.
    #[schema(value_type = Option<TaskId>)]
    task_id: Option<String>,
    /// The artifact of the output.
    #[schema(value_type = Option<ArtifactId>)]
    artifact_id: Option<String>,
    /// The reason for the decision, in words. The next attempt receives it.
    comments: Option<String>,
}

const DECISIONS: [ReviewDecision; 3] =
    [ReviewDecision::Approved, ReviewDecision::Rejected, ReviewDecision::ChangesRequested];

/// The urgency of a review.
struct Urgency;

described! {
    Urgency, "Urgency": ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::String, Type::Number, Type::Boolean, Type::Object, Type::Array]))
        .description(Some("The urgency of a review, in the form of the sender."))
        .build();
    ReviewDecision, "ReviewDecision": word("The decision of a person about an output.", DECISIONS.map(ReviewDecision::as_str));
}

pub(super) fn read_requested(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = decode::<RequestedData>(data)?;
    let (task, artifact, review) =
        read_ids(&mut found, [&data.task_id, &data.artifact_id, &data.review_id].map(|id| id.as_deref()));
    let reason = found.required("/data/reason", data.reason);
    found.required("/data/priority", data.priority);
    let (task, (review, reason)) = finish(found, task, review.zip(reason))?;
    let correlation = Correlation { task, artifact: artifact.clone(), review: Some(review.clone()) };
    let request = ReviewRequest { review, reason: shorten_reason(reason), artifact };
    Ok((correlation, Report::ReviewRequested(request)))
}

pub(super) fn read_completed(data: Value) -> Result<(Correlation, Report), InvalidData> {
    let (data, mut found) = decode::<CompletedData>(data)?;
    let (task, artifact, review) =
        read_ids(&mut found, [&data.task_id, &data.artifact_id, &data.review_id].map(|id| id.as_deref()));
    let decision = found.required("/data/decision", data.decision).and_then(|word| read_decision(&mut found, &word));
    let reviewer = found.required("/data/reviewer_id", data.reviewer_id);
    let (task, (review, decision)) = finish(found, task, review.zip(decision))?;
    let correlation = Correlation { task, artifact: artifact.clone(), review: Some(review.clone()) };
    let comments = data.comments.map(shorten_reason);
    Ok((correlation, Report::ReviewCompleted(Review { review, decision, reviewer, artifact, comments })))
}

type ReviewIds = (Result<Option<TaskId>, InvalidData>, Option<ArtifactId>, Option<ReviewId>);

fn read_ids(found: &mut Findings, [task, artifact, review]: [Option<&str>; 3]) -> ReviewIds {
    let task = read_task(found, task, false);
    let artifact = read_artifact(found, artifact, false);
    let review = found.required("/data/review_id", review).and_then(|id| found.parse("/data/review_id", id));
    (task, artifact, review)
}

fn read_decision(found: &mut Findings, word: &str) -> Option<ReviewDecision> {
    let decision = DECISIONS.into_iter().find(|decision| decision.as_str() == word);
    if decision.is_none() {
        let message = format!("must be one of approved, rejected, changes_requested, was {}", json::quoted(word));
        found.add("/data/decision", message);
    }
    decision
}
