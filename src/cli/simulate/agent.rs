//! The Agent service's stand-in: analyses, splits and estimates tasks by
//! chance, the same each time for the same text. Of the texts of a script it
//! says what the script says.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::answering::{Answers, Behaviour, Listening, text, whole};
use super::chance::Chance;
use super::fault::Fault;
use super::script::{Known, known};
use crate::cli::args;
use crate::cli::exit::Failure;

/// Most subtasks that the real one makes of a task.
const MAX_SUBTASKS: u32 = 20;
/// Deepest nesting that the real one is asked for.
const MAX_DEPTH: u64 = 5;
/// Longest part of a task's text that its subtasks repeat, in bytes.
const REPEATED: usize = 32 * 1024;
const DOMAINS: [&str; 6] =
    ["code-general", "code-embedded", "code-mobile", "documentation", "architecture", "analysis"];
const MODES: [&str; 6] = ["new_project", "modify", "fix_bug", "refactor", "documentation", "testing"];

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(in crate::cli) behaviour: Behaviour,
    /// Tiers to choose from, by commas.
    #[arg(long, value_delimiter = ',', default_value = "tiny,small,large,coding,frontier")]
    pub(in crate::cli) tiers: Vec<String>,
    /// QA profile of every answer.
    #[arg(long, default_value = "consensus")]
    pub(in crate::cli) qa_profile: String,
    /// Share of tasks that should be split, from 0 to 1.
    #[arg(long, default_value_t = 0.3, value_parser = args::rate)]
    pub(in crate::cli) decompose_rate: f64,
    /// Fewest subtasks of a task.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(in crate::cli) subtasks_min: u32,
    /// Most subtasks of a task.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(in crate::cli) subtasks_max: u32,
    /// How subtasks depend on one another.
    #[arg(long, value_enum, default_value = "random")]
    pub(in crate::cli) dependencies: Dependencies,
    /// Levels of subtasks there may be: with 1 none is split again.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=5))]
    pub(in crate::cli) depth: u64,
    /// Share of subtasks that should be split again where the depth allows
    /// it, from 0 to 1.
    #[arg(long, default_value_t = 0.3, value_parser = args::rate)]
    pub(in crate::cli) nested_rate: f64,
    /// Tasks of which it does not speak by chance.
    #[arg(skip)]
    pub(in crate::cli) script: &'static [Known],
}

impl Arguments {
    /// For an Agent that knows a script, and splits nothing else.
    pub(in crate::cli) fn of_script(script: &'static [Known]) -> Self {
        Self {
            behaviour: Behaviour::sound(150, 100),
            tiers: vec!["small".to_owned()],
            qa_profile: "consensus".to_owned(),
            decompose_rate: 0.0,
            subtasks_min: 2,
            subtasks_max: 2,
            dependencies: Dependencies::None,
            depth: 1,
            nested_rate: 0.0,
            script,
        }
    }
}

/// How subtasks depend on one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Dependencies {
    /// Not at all.
    None,
    /// Each on the one before it.
    Chain,
    /// All on the first one.
    Fan,
    /// Each on some of those before it.
    Random,
}

/// Answers until `stop`.
pub(in crate::cli) async fn run(arguments: Arguments, stop: CancellationToken) -> Result<(), Failure> {
    listen(arguments).await?.announce_and_run(stop).await
}

/// Takes an address to answer on.
pub(in crate::cli) async fn listen(arguments: Arguments) -> Result<Listening<Agent>, Failure> {
    if arguments.subtasks_min > arguments.subtasks_max {
        return Err(Failure::Usage("--subtasks-min must not be above --subtasks-max".to_owned()));
    }
    let behaviour = arguments.behaviour.clone();
    Listening::start(Agent(arguments), behaviour).await
}

/// What the Agent's stand-in knows.
pub(in crate::cli) struct Agent(Arguments);

impl Answers for Agent {
    const NAME: &'static str = "agent";
    const ENDPOINTS: &'static [&'static str] = &["analyze", "decompose", "estimate"];

    fn answer(&self, endpoint: &str, question: &Value, fault: Option<Fault>) -> Result<Value, String> {
        match endpoint {
            "analyze" => self.analyze(question),
            "decompose" => self.decompose(question, fault),
            _ => self.estimate(question),
        }
    }
}

impl Agent {
    fn chance(&self, purpose: &str, text: &str) -> Chance {
        Chance::new(self.0.behaviour.seed, purpose, text, 0)
    }

    fn analyze(&self, question: &Value) -> Result<Value, String> {
        let request = text(question, "request")?;
        text(question, "project_id")?;
        let known = known(self.0.script, request);
        let mut chance = self.chance("analyze", request);
        let needs_decomposition = chance.hits(self.0.decompose_rate);
        Ok(json!({
            "mode": known.map_or_else(|| chance.pick(&MODES), |known| known.mode.into()),
            "domain": known.map_or_else(|| chance.pick(&DOMAINS), |known| known.domain.into()),
            "needs_decomposition": known.map_or(needs_decomposition, |known| !known.parts.is_empty()),
            "estimated_complexity": known.map_or_else(|| chance.pick(&self.0.tiers), |known| known.tier.into()),
            "qa_profile": self.0.qa_profile,
            "analysis_id": format!("analysis-{:08x}", chance.number(u32::MAX)),
            "acceptance_criteria": ["it does what the request says", "its tests pass"],
        }))
    }

    fn estimate(&self, question: &Value) -> Result<Value, String> {
        text(question, "task_id")?;
        let description = text(question, "description")?;
        text(question, "domain")?;
        let mut chance = self.chance("estimate", description);
        let tokens = 500 + description.len().saturating_mul(10);
        let known = known(self.0.script, description);
        Ok(json!({
            "recommended_tier": known.map_or_else(|| chance.pick(&self.0.tiers), |known| known.tier.into()),
            "estimated_tokens": tokens,
            "confidence": chance.share(50, 99),
            "qa_profile": self.0.qa_profile,
            "reasoning": format!("a text of {} bytes", description.len()),
        }))
    }

    fn decompose(&self, question: &Value, fault: Option<Fault>) -> Result<Value, String> {
        text(question, "task_id")?;
        let description = text(question, "description")?;
        let max_depth = whole(question, "max_depth")?;
        if !(1..=MAX_DEPTH).contains(&max_depth) {
            return Err(format!("max_depth: expected 1 to {MAX_DEPTH}, got {max_depth}"));
        }
        if let Some(known) = known(self.0.script, description) {
            return Ok(known.decomposition());
        }
        let mut chance = self.chance("decompose", description);
        let spread = self.0.subtasks_max.saturating_sub(self.0.subtasks_min);
        let count = match fault {
            Some(Fault::TooMany) => MAX_SUBTASKS + 5,
            // A circle and a double need two.
            Some(_) => self.0.subtasks_max.max(2),
            None => self.0.subtasks_min + chance.number(spread),
        };
        let may_nest = max_depth > 1 && level(description) < self.0.depth;
        let beginning = &description[..description.floor_char_boundary(REPEATED)];
        let mut subtasks: Vec<Value> = Vec::new();
        for number in 1..=count {
            let is_nested = may_nest && chance.hits(self.0.nested_rate);
            subtasks.push(json!({
                "id": format!("sub-{number}"),
                "description": format!("Part {number} of {count}: {beginning}"),
                "domain": chance.pick(&DOMAINS),
                "is_atomic": !is_nested,
                "dependencies": self.dependencies(number, &mut chance),
            }));
        }
        if let Some(fault) = fault {
            spoil(&mut subtasks, fault);
        }
        let is_deep = subtasks.iter().any(|subtask| subtask["is_atomic"] == false);
        Ok(json!({"subtasks": subtasks, "decomposition_depth": if is_deep { 2 } else { 1 }}))
    }

    fn dependencies(&self, number: u32, chance: &mut Chance) -> Vec<String> {
        let depends = |on: u32, chance: &mut Chance| match self.0.dependencies {
            Dependencies::None => false,
            Dependencies::Chain => on + 1 == number,
            Dependencies::Fan => on == 1,
            Dependencies::Random => chance.hits(0.3),
        };
        (1..number).filter(|on| depends(*on, chance)).map(|on| format!("sub-{on}")).collect()
    }
}

/// The level of the subtasks that a task would get, from 1: each level has
/// put its `Part 1 of 3: ` before the text.
fn level(description: &str) -> u64 {
    let parts = description.split(": ").take_while(|part| {
        let words: Vec<&str> = part.split(' ').collect();
        matches!(words.as_slice(), ["Part", number, "of", count] if number.parse::<u32>().is_ok() && count.parse::<u32>().is_ok())
    });
    u64::try_from(parts.count()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Gives subtasks, of which there are two or more, a fault.
fn spoil(subtasks: &mut [Value], fault: Fault) {
    let ids: Vec<Value> = subtasks.iter().map(|subtask| subtask["id"].clone()).collect();
    let Some((first, rest)) = subtasks.split_first_mut() else { return };
    let Some(last) = rest.last_mut() else { return };
    match fault {
        Fault::Cycle => {
            first["dependencies"] = json!([last["id"]]);
            last["dependencies"] = json!([ids[0]]);
        }
        Fault::UnknownSibling => last["dependencies"] = json!(["no-such-sibling"]),
        Fault::Duplicate => last["id"] = first["id"].clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn agent(options: &[&str]) -> Agent {
        let words = ["agent", "--listen", "127.0.0.1:0"].iter().chain(options);
        Agent(Line::parse_from(words).arguments)
    }

    fn parts(agent: &Agent, description: &str, fault: Option<Fault>) -> Vec<Value> {
        let question = json!({"task_id": "t", "description": description, "max_depth": 5});
        let answer = agent.answer("decompose", &question, fault).unwrap();
        answer["subtasks"].as_array().unwrap().clone()
    }

    fn dependencies(parts: &[Value]) -> Vec<Vec<&str>> {
        parts
            .iter()
            .map(|part| part["dependencies"].as_array().unwrap().iter().filter_map(Value::as_str).collect())
            .collect()
    }

    #[test]
    fn the_same_text_is_answered_the_same() {
        let (one, other) = (agent(&["--seed", "1"]), agent(&["--seed", "2"]));
        let asked = |agent: &Agent, n: u32| {
            let question = json!({"request": format!("work {n}"), "project_id": "p"});
            agent.answer("analyze", &question, None).unwrap()
        };
        let all = |agent: &Agent| (0..50).map(|n| asked(agent, n)).collect::<Vec<_>>();
        assert_eq!(all(&one), all(&one));
        assert_ne!(all(&one), all(&other));
        let split = all(&one).iter().filter(|answer| answer["needs_decomposition"] == true).count();
        assert!((3..30).contains(&split), "{split} of 50");
    }

    #[test]
    fn subtasks_depend_as_asked() {
        let of = |how: &str| {
            let agent = agent(&["--dependencies", how, "--subtasks-min", "4", "--subtasks-max", "4"]);
            parts(&agent, "x", None)
        };
        let nothing: Vec<&str> = Vec::new();
        assert_eq!(dependencies(&of("none")), [(); 4].map(|()| nothing.clone()));
        assert_eq!(dependencies(&of("chain")), [nothing.clone(), vec!["sub-1"], vec!["sub-2"], vec!["sub-3"]]);
        assert_eq!(dependencies(&of("fan")), [nothing.clone(), vec!["sub-1"], vec!["sub-1"], vec!["sub-1"]]);
        assert_eq!(dependencies(&of("random"))[0], nothing);
    }

    #[test]
    fn nesting_ends_at_its_depth() {
        let agent = agent(&["--depth", "3", "--nested-rate", "1"]);
        let mut text = "Write: a thing".to_owned();
        for atomic in [false, false, true] {
            let part = parts(&agent, &text, None).remove(0);
            assert_eq!(part["is_atomic"], atomic, "{text}");
            part["description"].as_str().unwrap().clone_into(&mut text);
        }
        let question = json!({"task_id": "t", "description": "x", "max_depth": 1});
        let shallow = agent.answer("decompose", &question, None).unwrap();
        assert!(shallow["subtasks"].as_array().unwrap().iter().all(|part| part["is_atomic"] == true));
    }

    #[test]
    fn decompositions_have_the_fault_that_was_asked_for() {
        let agent = agent(&["--dependencies", "none", "--subtasks-max", "3"]);
        let spoilt = |fault| parts(&agent, "x", Some(fault));
        assert_eq!(dependencies(&spoilt(Fault::Cycle)), [vec!["sub-3"], vec![], vec!["sub-1"]]);
        assert_eq!(dependencies(&spoilt(Fault::UnknownSibling))[2], ["no-such-sibling"]);
        let ids = |parts: &[Value]| parts.iter().map(|part| part["id"].to_string()).collect::<BTreeSet<_>>().len();
        assert_eq!(ids(&spoilt(Fault::Duplicate)), 2);
        assert_eq!(spoilt(Fault::TooMany).len(), 25);
    }

    #[test]
    fn questions_are_checked() {
        let agent = agent(&[]);
        let refused = |endpoint: &str, question: Value| agent.answer(endpoint, &question, None).unwrap_err();
        assert_eq!(refused("analyze", json!({"project_id": "p"})), "request: is required");
        assert_eq!(refused("analyze", json!({"request": "x"})), "project_id: is required");
        let deep = json!({"task_id": "t", "description": "x", "max_depth": 9});
        assert_eq!(refused("decompose", deep), "max_depth: expected 1 to 5, got 9");
        assert!(refused("estimate", json!({"task_id": "t", "description": " "})).starts_with("description: "));
    }
}
