//! The stand-in for the RAG service. It answers each query with generated context.

use clap::Args;
use serde_json::{Value, json};

use super::chance::Chance;
use super::fault::Fault;
use super::server::{Answers, Behaviour, Listening, required_number, required_text};
use crate::workload::console::Console;
use crate::workload::error::Error;

/// Bytes that count as one token.
const TOKEN_BYTES: u64 = 4;
/// Longest part of a query that its context repeats, in characters.
const MAX_REPEATED_CHARS: usize = 120;

/// Settings of the stand-in, which are also the flags of `dats simulate rag`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// How it answers.
    #[command(flatten)]
    pub behaviour: Behaviour,
    /// Number of sources in each answer.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub sources: u64,
}

impl Settings {
    /// Settings without faults and with a low latency, for the demo.
    #[must_use]
    pub fn without_faults() -> Self {
        Self { behaviour: Behaviour::without_faults(50, 50), sources: 2 }
    }
}

/// Binds the configured address. The stand-in answers once [`Listening::run`] is called.
pub async fn listen(settings: Settings, console: Console) -> Result<Listening<Rag>, Error> {
    let Settings { behaviour, sources } = settings;
    Listening::bind(Rag { seed: behaviour.seed, sources }, behaviour, console).await
}

/// The answers of RAG's stand-in.
#[derive(Debug)]
pub struct Rag {
    seed: u64,
    sources: u64,
}

impl Answers for Rag {
    const NAME: &'static str = "rag";
    const ENDPOINTS: &'static [&'static str] = &["query"];

    fn answer(&self, _endpoint: &str, question: &Value, _fault: Option<Fault>) -> Result<Value, String> {
        let query = required_text(question, "query")?;
        let project = required_text(question, "project_id")?;
        let max_tokens = required_number(question, "max_tokens")?;
        let search_mode = required_text(question, "search_mode")?;
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
        let about: String = query.chars().take(MAX_REPEATED_CHARS).collect();
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
    fn an_invalid_query_is_refused_with_the_field() {
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
