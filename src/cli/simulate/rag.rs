//! The RAG service's stand-in: answers each query with made-up context.

use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::answering::{Answers, Behaviour, Listening, text, whole};
use super::chance::Chance;
use super::fault::Fault;
use crate::cli::exit::Failure;

/// Bytes that a token is taken for.
const TOKEN_BYTES: u64 = 4;
/// Longest part of a query that its context repeats, in characters.
const REPEATED: usize = 120;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(in crate::cli) behaviour: Behaviour,
    /// Sources that each answer names.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub(in crate::cli) sources: u64,
}

impl Arguments {
    /// Sound, and quick.
    pub(in crate::cli) fn sound() -> Self {
        Self { behaviour: Behaviour::sound(50, 50), sources: 2 }
    }
}

/// Answers queries until `stop`.
pub(in crate::cli) async fn run(arguments: Arguments, stop: CancellationToken) -> Result<(), Failure> {
    listen(arguments).await?.announce_and_run(stop).await
}

/// Takes an address to answer on.
pub(in crate::cli) async fn listen(arguments: Arguments) -> Result<Listening<Rag>, Failure> {
    let Arguments { behaviour, sources } = arguments;
    Listening::start(Rag { seed: behaviour.seed, sources }, behaviour).await
}

/// What RAG's stand-in knows.
pub(in crate::cli) struct Rag {
    seed: u64,
    sources: u64,
}

impl Answers for Rag {
    const NAME: &'static str = "rag";
    const ENDPOINTS: &'static [&'static str] = &["query"];

    fn answer(&self, _endpoint: &str, question: &Value, _fault: Option<Fault>) -> Result<Value, String> {
        let query = text(question, "query")?;
        let project = text(question, "project_id")?;
        let max_tokens = whole(question, "max_tokens")?;
        let search_mode = text(question, "search_mode")?;
        if !["hybrid", "semantic", "keyword"].contains(&search_mode) {
            return Err(format!("search_mode: expected hybrid, semantic or keyword, got {search_mode:?}"));
        }
        let mut chance = Chance::new(self.seed, "rag", query, 0);
        let sources: Vec<Value> = (0..self.sources)
            .map(|number| {
                let id = format!("{project}-note-{:08x}", chance.number(u32::MAX));
                json!({"artifact_id": id, "relevance_score": chance.share(0, 100), "rank": number})
            })
            .collect();
        let about: String = query.chars().take(REPEATED).collect();
        let most = usize::try_from(max_tokens.saturating_mul(TOKEN_BYTES)).unwrap_or(usize::MAX);
        let mut context = format!("Notes of project {project} on: {about}\nNothing else is known.");
        context.truncate(context.floor_char_boundary(most));
        let tokens = u64::try_from(context.len()).unwrap_or(u64::MAX).div_ceil(TOKEN_BYTES);
        Ok(json!({"context": context, "sources": sources, "tokens_used": tokens}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rag() -> Rag {
        Rag { seed: 1, sources: 3 }
    }

    fn query(max_tokens: u64) -> Value {
        json!({"query": "fibonacci", "project_id": "p", "max_tokens": max_tokens, "search_mode": "hybrid"})
    }

    #[test]
    fn context_fits_and_repeats() {
        let answer = rag().answer("query", &query(4000), None).unwrap();
        assert_eq!(answer, rag().answer("query", &query(4000), None).unwrap());
        assert_eq!(answer["sources"].as_array().unwrap().len(), 3);
        assert!(answer["context"].as_str().unwrap().contains("fibonacci"));
        let short = rag().answer("query", &query(5), None).unwrap();
        assert_eq!((short["context"].as_str().unwrap().len(), &short["tokens_used"]), (20, &json!(5)));
    }

    #[test]
    fn a_wrong_query_is_refused_with_the_field() {
        for (field, value) in [
            ("query", json!("")),
            ("query", json!(1)),
            ("project_id", Value::Null),
            ("max_tokens", json!(-1)),
            ("search_mode", json!("psychic")),
        ] {
            let mut question = query(10);
            question[field] = value;
            let refused = rag().answer("query", &question, None).unwrap_err();
            assert!(refused.starts_with(field), "{refused}");
            question.as_object_mut().unwrap().remove(field);
            assert_eq!(rag().answer("query", &question, None), Err(format!("{field}: is required")));
        }
    }
}
