//! Decodes the answers of the services into the core's types.
//!
//! Unknown fields are ignored, and optional fields may be missing. Any other
//! difference from the agreed form is refused with the pointer, the value and what is
//! allowed. The core checks how the parts of a decomposition fit together.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, InvalidAnswer};
use crate::json::{self, Findings, Object, quoted};
use crate::task::{
    Analysis, ArtifactId, Context, Decomposition, Domain, Estimate, InvalidId, MAX_DESCRIPTION_BYTES, MAX_ID_BYTES,
    MAX_METADATA_BYTES, MAX_REFERENCES, QaProfile, Subtask, Tier,
};

/// Largest context that is accepted, in bytes. Workers get it in their `task.ready`
/// message.
pub const MAX_CONTEXT_BYTES: usize = 128 * 1024;
/// Longest reasoning that is kept, in bytes. The rest is cut off.
const MAX_REASONING_BYTES: usize = 8 * 1024;

#[derive(Deserialize)]
struct AnalysisWire {
    mode: Option<String>,
    domain: Option<String>,
    needs_decomposition: Option<bool>,
    estimated_complexity: Option<String>,
    qa_profile: Option<String>,
    acceptance_criteria: Option<Value>,
}

/// Decodes the answer of `/analyze`. `limit` is in bytes, as below.
pub(super) fn analysis(raw: &[u8], limit: usize, tiers: &[Tier]) -> Result<Analysis, Error> {
    let (wire, mut found) = decode::<AnalysisWire>(raw, limit)?;
    let mode = parse_required(&mut found, "/mode", wire.mode);
    let domain = parse_required(&mut found, "/domain", wire.domain);
    let needs_decomposition = found.required("/needs_decomposition", wire.needs_decomposition);
    let tier = tier(&mut found, "/estimated_complexity", wire.estimated_complexity, tiers);
    let qa_profile = parse_optional::<QaProfile>(&mut found, "/qa_profile", wire.qa_profile);
    let acceptance_criteria = wire.acceptance_criteria.map(|criteria| criteria.to_string());
    if let Some(length) = acceptance_criteria.as_ref().map(String::len).filter(|length| *length > MAX_METADATA_BYTES) {
        let message = format!("must be at most {MAX_METADATA_BYTES} bytes of JSON, was {length}");
        found.add("/acceptance_criteria", message);
    }
    match (mode, domain, tier, needs_decomposition) {
        (Some(mode), Some(domain), Some(tier), Some(needs_decomposition)) if found.is_empty() => {
            Ok(Analysis { mode, domain, tier, needs_decomposition, qa_profile, acceptance_criteria })
        }
        _ => Err(invalid(found)),
    }
}

#[derive(Deserialize)]
struct DecompositionWire {
    subtasks: Option<Vec<Object<SubtaskWire>>>,
    decomposition_depth: Option<u32>,
}

#[derive(Deserialize)]
struct SubtaskWire {
    id: Option<String>,
    description: Option<String>,
    domain: Option<String>,
    is_atomic: Option<bool>,
    dependencies: Option<Vec<String>>,
}

/// Decodes the answer of `/decompose`.
pub(super) fn decomposition(raw: &[u8], limit: usize) -> Result<Decomposition, Error> {
    let (wire, mut found) = decode::<DecompositionWire>(raw, limit)?;
    let subtasks = found.required("/subtasks", wire.subtasks).unwrap_or_default();
    let subtasks: Vec<_> = subtasks
        .into_iter()
        .enumerate()
        .filter_map(|(index, Object(part))| subtask(&mut found, &format!("/subtasks/{index}"), part))
        .collect();
    if found.is_empty() {
        return Ok(Decomposition { subtasks, depth: wire.decomposition_depth });
    }
    Err(invalid(found))
}

fn subtask(found: &mut Findings, at: &str, wire: SubtaskWire) -> Option<Subtask> {
    let id = found.required(&format!("{at}/id"), wire.id).and_then(|id| local_id(found, &format!("{at}/id"), id));
    let description = description(found, &format!("{at}/description"), wire.description);
    let domain = parse_optional::<Domain>(found, &format!("{at}/domain"), wire.domain);
    let is_atomic = found.required(&format!("{at}/is_atomic"), wire.is_atomic);
    let dependencies = wire.dependencies.unwrap_or_default().into_iter().enumerate();
    let dependencies =
        dependencies.filter_map(|(index, id)| local_id(found, &format!("{at}/dependencies/{index}"), id)).collect();
    Some(Subtask { id: id?, description: description?, domain, is_atomic: is_atomic?, dependencies })
}

fn description(found: &mut Findings, pointer: &str, text: Option<String>) -> Option<String> {
    let text = found.required(pointer, text)?;
    if text.trim().is_empty() {
        found.add(pointer, format!("must not be blank, was {}", quoted(&text)));
        return None;
    }
    if text.len() > MAX_DESCRIPTION_BYTES {
        found.add(pointer, format!("must be at most {MAX_DESCRIPTION_BYTES} bytes, was {}", text.len()));
        return None;
    }
    Some(text)
}

/// Checks an id that is used within one answer, by the rules of all ids.
fn local_id(found: &mut Findings, pointer: &str, id: String) -> Option<String> {
    let error = match id.len() {
        0 => InvalidId::Empty,
        length if length > MAX_ID_BYTES => InvalidId::TooLong(length),
        _ if id.chars().any(char::is_control) => InvalidId::Control,
        _ => return Some(id),
    };
    found.add(pointer, format!("{error}, was {}", quoted(&id)));
    None
}

#[derive(Deserialize)]
struct EstimateWire {
    recommended_tier: Option<String>,
    estimated_tokens: Option<u64>,
    confidence: Option<f64>,
    qa_profile: Option<String>,
    reasoning: Option<String>,
}

/// Decodes the answer of `/estimate`.
pub(super) fn estimate(raw: &[u8], limit: usize, tiers: &[Tier]) -> Result<Estimate, Error> {
    let (wire, mut found) = decode::<EstimateWire>(raw, limit)?;
    let tier = tier(&mut found, "/recommended_tier", wire.recommended_tier, tiers);
    if let Some(confidence) = wire.confidence.filter(|confidence| !(0.0..=1.0).contains(confidence)) {
        found.add("/confidence", format!("must be from 0 to 1, was {confidence}"));
    }
    let qa_profile = parse_optional(&mut found, "/qa_profile", wire.qa_profile);
    let tokens = wire.estimated_tokens;
    match tier {
        Some(tier) if found.is_empty() => Ok(Estimate {
            tier,
            qa_profile,
            tokens,
            confidence: wire.confidence,
            reasoning: wire.reasoning.map(|text| truncate(text, MAX_REASONING_BYTES)),
        }),
        _ => Err(invalid(found)),
    }
}

#[derive(Deserialize)]
struct ContextWire {
    context: Option<String>,
    sources: Option<Vec<Object<SourceWire>>>,
}

#[derive(Deserialize)]
struct SourceWire {
    artifact_id: Option<String>,
    relevance_score: Option<f64>,
}

/// Decodes the answer of `/query`. The sources are ordered by relevance, without
/// duplicates, and at most [`MAX_REFERENCES`].
pub(super) fn context(raw: &[u8], limit: usize) -> Result<Context, Error> {
    let (wire, mut found) = decode::<ContextWire>(raw, limit)?;
    let text = found.required("/context", wire.context);
    if let Some(length) = text.as_ref().map(String::len).filter(|length| *length > MAX_CONTEXT_BYTES) {
        found.add("/context", format!("must be at most {MAX_CONTEXT_BYTES} bytes, was {length}"));
    }
    let mut sources: Vec<(f64, ArtifactId)> = Vec::new();
    for (index, Object(source)) in wire.sources.unwrap_or_default().into_iter().enumerate() {
        let id = parse_required(&mut found, &format!("/sources/{index}/artifact_id"), source.artifact_id);
        sources.extend(id.map(|id| (source.relevance_score.unwrap_or(0.0), id)));
    }
    match text {
        Some(text) if found.is_empty() => Ok(Context { text, sources: by_relevance(sources) }),
        _ => Err(invalid(found)),
    }
}

fn by_relevance(mut sources: Vec<(f64, ArtifactId)>) -> Vec<ArtifactId> {
    sources.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let mut seen = HashSet::new();
    let each_once = sources.into_iter().map(|(_, id)| id).filter(|id| seen.insert(id.clone()));
    each_once.take(MAX_REFERENCES).collect()
}

fn decode<T: DeserializeOwned>(raw: &[u8], limit: usize) -> Result<(T, Findings), Error> {
    Ok((json::decode(raw, limit)?, Findings::default()))
}

fn invalid(found: Findings) -> Error {
    Error::Invalid(InvalidAnswer::Fields(found.into_errors()))
}

/// Parses a required name or id.
fn parse_required<T: std::str::FromStr<Err: std::fmt::Display>>(
    found: &mut Findings,
    pointer: &str,
    text: Option<String>,
) -> Option<T> {
    let text = found.required(pointer, text)?;
    found.parse(pointer, &text)
}

/// Parses an optional name or id.
fn parse_optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    found: &mut Findings,
    pointer: &str,
    text: Option<String>,
) -> Option<T> {
    text.and_then(|text| found.parse(pointer, &text))
}

/// Finds a required tier among those that exist.
fn tier(found: &mut Findings, pointer: &str, text: Option<String>, tiers: &[Tier]) -> Option<Tier> {
    let text = found.required(pointer, text)?;
    let known = tiers.iter().find(|tier| tier.as_str() == text).cloned();
    if known.is_none() {
        let names: Vec<&str> = tiers.iter().map(Tier::as_str).collect();
        found.add(pointer, format!("must be one of {}, was {}", names.join(", "), quoted(&text)));
    }
    known
}

/// Cuts a text to `max_bytes`, at the end of a character.
fn truncate(mut text: String, max_bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(max_bytes));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LIMIT: usize = 1024 * 1024;

    fn tiers() -> Vec<Tier> {
        ["tiny", "small", "large"].map(|name| Tier::new(name).unwrap()).to_vec()
    }

    /// Returns the message of an invalid answer.
    fn error_of<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
        match answer {
            Err(Error::Invalid(invalid)) => invalid.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn analysed(answer: &Value) -> Result<Analysis, Error> {
        analysis(answer.to_string().as_bytes(), LIMIT, &tiers())
    }

    fn decomposed(answer: &Value) -> Result<Decomposition, Error> {
        decomposition(answer.to_string().as_bytes(), LIMIT)
    }

    fn estimated(answer: &Value) -> Result<Estimate, Error> {
        estimate(answer.to_string().as_bytes(), LIMIT, &tiers())
    }

    fn found(answer: &Value) -> Result<Context, Error> {
        context(answer.to_string().as_bytes(), LIMIT)
    }

    /// Changes one field of `answer`. `null` counts as missing.
    fn with(mut answer: Value, pointer: &str, value: Value) -> Value {
        *answer.pointer_mut(pointer).unwrap() = value;
        answer
    }

    fn full_analysis() -> Value {
        json!({
            "mode": "fix_bug", "domain": "code-general", "needs_decomposition": true, "estimated_complexity": "large",
            "qa_profile": "strict", "analysis_id": "an-1", "acceptance_criteria": ["it builds", {"tests": 3}],
            "model": "something new",
        })
    }

    #[test]
    fn a_complete_analysis_is_accepted() {
        let taken = analysed(&full_analysis()).unwrap();
        assert_eq!(taken.mode.as_str(), "fix_bug");
        assert_eq!((taken.domain.as_str(), taken.tier.as_str()), ("code-general", "large"));
        assert!(taken.needs_decomposition);
        assert_eq!(taken.qa_profile.unwrap().as_str(), "strict");
        assert_eq!(taken.acceptance_criteria.as_deref(), Some(r#"["it builds",{"tests":3}]"#));
    }

    #[test]
    fn an_analysis_has_four_required_fields() {
        for optional in ["qa_profile", "analysis_id", "acceptance_criteria", "model"] {
            let mut answer = full_analysis();
            answer.as_object_mut().unwrap().remove(optional);
            assert!(analysed(&answer).is_ok(), "{optional} may be missing");
            assert!(analysed(&with(full_analysis(), &format!("/{optional}"), Value::Null)).is_ok(), "{optional}: null");
        }
        for field in ["mode", "domain", "needs_decomposition", "estimated_complexity"] {
            let mut answer = full_analysis();
            answer.as_object_mut().unwrap().remove(field);
            assert_eq!(error_of(analysed(&answer)), format!("/{field}: is required"));
            assert_eq!(
                error_of(analysed(&with(full_analysis(), &format!("/{field}"), Value::Null))),
                format!("/{field}: is required")
            );
        }
    }

    #[test]
    fn a_refused_analysis_names_field_value_and_what_is_allowed() {
        let refused = |pointer: &str, value: Value| error_of(analysed(&with(full_analysis(), pointer, value)));
        assert_eq!(
            refused("/estimated_complexity", json!("huge")),
            "/estimated_complexity: must be one of tiny, small, large, was \"huge\""
        );
        assert_eq!(
            refused("/needs_decomposition", json!("yes")),
            "/needs_decomposition: invalid type: string \"yes\", expected a boolean"
        );
        assert_eq!(refused("/mode", json!(["a"])), "/mode: invalid type: sequence, expected a string");
        assert!(refused("/domain", json!("Code General")).contains("lowercase letters"));
        assert!(refused("/domain", json!("Code General")).ends_with("was \"Code General\""));
        assert!(refused("/mode", json!("")).starts_with("/mode: must not be empty"));
        assert!(refused("/qa_profile", json!("x".repeat(256))).contains("at most 255 bytes, was 256"));
        assert!(refused("/acceptance_criteria", json!("x".repeat(20_000))).contains("at most 16384 bytes"));
        let two = with(full_analysis(), "/mode", json!("!"));
        let two = error_of(analysed(&with(two, "/estimated_complexity", json!("!"))));
        assert!(two.contains("/mode: ") && two.contains("; /estimated_complexity: "), "{two}");
    }

    #[test]
    fn malformed_answers_are_refused() {
        for (raw, says) in [
            (&b""[..], "is empty"),
            (b"<html>502</html>", "not JSON"),
            (b"{\"mode\":", "not JSON"),
            (b"[]", "the whole answer: "),
            (b"null", "the whole answer: "),
            (b"{\"mode\":\"\xff\"}", "not UTF-8"),
            (b"{\"mode\":\"a\\u0000\"}", "U+0000"),
            (b"{\"other\":\"a\\u0000\"}", "U+0000"),
            (b"{\"mode\":\"a\",\"mode\":\"b\"}", "duplicate field"),
        ] {
            let message = error_of(analysis(raw, LIMIT, &tiers()));
            assert!(message.contains(says), "{raw:?}: {message}");
        }
        let deep = format!("{{\"acceptance_criteria\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(error_of(analysis(deep.as_bytes(), LIMIT, &tiers())).contains("nested"));
        assert!(error_of(analysis(deep.as_bytes(), 100, &tiers())).contains("at most 100 bytes"));
    }

    fn full_decomposition() -> Value {
        json!({
            "subtasks": [
                {"id": "a", "description": "first", "domain": "documentation", "is_atomic": true, "dependencies": []},
                {"id": "b", "description": "second", "is_atomic": false, "dependencies": ["a", "zzz"], "effort": 3},
            ],
            "decomposition_depth": 2,
        })
    }

    #[test]
    fn a_decomposition_is_accepted_unchecked() {
        let taken = decomposed(&full_decomposition()).unwrap();
        let ids: Vec<_> = taken.subtasks.iter().map(|part| part.id.as_str()).collect();
        assert_eq!((ids, taken.depth), (vec!["a", "b"], Some(2)));
        assert_eq!(taken.subtasks[0].domain.as_ref().unwrap().as_str(), "documentation");
        assert!(taken.subtasks[0].is_atomic && !taken.subtasks[1].is_atomic);
        assert_eq!(taken.subtasks[1].dependencies, ["a", "zzz"], "the core checks whether zzz exists");
        let minimal = json!({"subtasks": [{"id": "1", "description": "x", "is_atomic": true}]});
        let minimal = decomposed(&minimal).unwrap();
        assert_eq!((minimal.subtasks[0].dependencies.len(), minimal.depth), (0, None));
        assert!(decomposed(&json!({"subtasks": []})).unwrap().subtasks.is_empty());
    }

    #[test]
    fn a_refused_decomposition_names_its_wrong_fields() {
        let refused = |pointer: &str, value: Value| error_of(decomposed(&with(full_decomposition(), pointer, value)));
        assert_eq!(refused("/subtasks", Value::Null), "/subtasks: is required");
        assert_eq!(refused("/subtasks", json!({})), "/subtasks: invalid type: map, expected an array");
        assert_eq!(refused("/subtasks/1", json!([1])), "/subtasks/1: invalid type: sequence, expected an object");
        assert_eq!(refused("/subtasks/1/id", Value::Null), "/subtasks/1/id: is required");
        assert_eq!(refused("/subtasks/1/id", json!("")), "/subtasks/1/id: must not be empty, was \"\"");
        assert!(refused("/subtasks/1/id", json!(7)).starts_with("/subtasks/1/id: invalid type: integer `7`"));
        assert!(refused("/subtasks/0/description", json!(" \n")).contains("must not be blank"));
        let long = "x".repeat(MAX_DESCRIPTION_BYTES + 1);
        assert!(refused("/subtasks/0/description", json!(long)).ends_with("at most 65536 bytes, was 65537"));
        assert!(refused("/subtasks/0/domain", json!("1st")).starts_with("/subtasks/0/domain: "));
        assert_eq!(refused("/subtasks/0/is_atomic", Value::Null), "/subtasks/0/is_atomic: is required");
        assert!(refused("/subtasks/1/dependencies", json!("a")).contains("expected an array"));
        assert!(refused("/subtasks/1/dependencies/1", json!("\u{1}")).contains("control characters"));
        assert!(refused("/decomposition_depth", json!(-1)).starts_with("/decomposition_depth: "));
    }

    #[test]
    fn an_estimate_is_decoded() {
        let answer = json!({
            "recommended_tier": "tiny", "estimated_tokens": 1200, "confidence": 0.25, "qa_profile": "none",
            "reasoning": "ä".repeat(MAX_REASONING_BYTES),
        });
        let taken = estimated(&answer).unwrap();
        assert_eq!((taken.tier.as_str(), taken.tokens, taken.confidence), ("tiny", Some(1200), Some(0.25)));
        assert!(taken.qa_profile.unwrap().is_none());
        assert_eq!(taken.reasoning.unwrap().len(), MAX_REASONING_BYTES);
        assert!(estimated(&json!({"recommended_tier": "tiny"})).is_ok());
        let refused = |pointer: &str, value: Value| error_of(estimated(&with(answer.clone(), pointer, value)));
        assert_eq!(refused("/recommended_tier", Value::Null), "/recommended_tier: is required");
        assert!(refused("/recommended_tier", json!("frontier")).contains("one of tiny, small, large"));
        assert_eq!(refused("/confidence", json!(1.5)), "/confidence: must be from 0 to 1, was 1.5");
        assert!(refused("/estimated_tokens", json!(-5)).contains("expected a whole number"));
    }

    #[test]
    fn sources_are_unique_and_ordered_by_relevance() {
        let source = |id: &str, score: Option<f64>| json!({"artifact_id": id, "relevance_score": score});
        let sources = [source("c", None), source("a", Some(0.5)), source("b", Some(0.9)), source("a", Some(0.1))];
        let taken = found(&json!({"context": "text", "sources": sources, "tokens_used": 5})).unwrap();
        let ids: Vec<_> = taken.sources.iter().map(ArtifactId::as_str).collect();
        assert_eq!((taken.text.as_str(), ids), ("text", vec!["b", "a", "c"]));
        let many: Vec<_> = (0..300).map(|n| source(&n.to_string(), None)).collect();
        assert_eq!(found(&json!({"context": "", "sources": many})).unwrap().sources.len(), MAX_REFERENCES);
        assert!(found(&json!({"context": ""})).unwrap().sources.is_empty());
        assert_eq!(error_of(found(&json!({"sources": []}))), "/context: is required");
        assert_eq!(error_of(found(&json!({"context": "", "sources": [{}]}))), "/sources/0/artifact_id: is required");
        assert!(
            error_of(found(&json!({"context": "x".repeat(MAX_CONTEXT_BYTES + 1)}))).contains("at most 131072 bytes")
        );
    }
}
