//! The stand-in for the Agent service. It analyses, splits and estimates tasks by chance,
//! with the same answer for the same text each time. For tasks of a script it gives the
//! answers of the script.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::chance::{Chance, parse_rate};
use super::fault::Fault;
use super::script::{ScriptedTask, find_task};
use super::server::{Answers, Behaviour, Listening, required_number, required_text};
use crate::workload::console::Console;
use crate::workload::error::Error;

/// Most subtasks into which the real Agent splits a task.
const MAX_SUBTASKS: u32 = 20;
/// Deepest nesting that the service asks for.
const MAX_DEPTH: u64 = 5;
/// Longest part of a description that subtasks repeat, in bytes.
const MAX_REPEATED_BYTES: usize = 32 * 1024;
const DOMAINS: [&str; 6] =
    ["code-general", "code-embedded", "code-mobile", "documentation", "architecture", "analysis"];
const MODES: [&str; 6] = ["new_project", "modify", "fix_bug", "refactor", "documentation", "testing"];

/// Settings of the stand-in, which are also the flags of `dats simulate agent`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// How it answers.
    #[command(flatten)]
    pub behaviour: Behaviour,
    /// Tiers to choose from, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "tiny,small,large,coding,frontier")]
    pub tiers: Vec<String>,
    /// QA profile in every answer.
    #[arg(long, default_value = "consensus")]
    pub qa_profile: String,
    /// Share of tasks to be split, from 0 to 1.
    #[arg(long, default_value_t = 0.3, value_parser = parse_rate)]
    pub decompose_rate: f64,
    /// Fewest subtasks for a task.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub subtasks_min: u32,
    /// Most subtasks for a task.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub subtasks_max: u32,
    /// How the subtasks of a task depend on one another.
    #[arg(long, value_enum, default_value = "random")]
    pub dependencies: Dependencies,
    /// Levels of subtasks; with 1, no subtask is split again.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=5))]
    pub depth: u64,
    /// Share of subtasks to be split again where the depth allows it, from 0 to 1.
    #[arg(long, default_value_t = 0.3, value_parser = parse_rate)]
    pub nested_rate: f64,
    /// Tasks with predefined answers.
    #[arg(skip)]
    pub script: &'static [ScriptedTask],
}

impl Settings {
    /// Settings for an Agent that answers a script, and splits no other task.
    #[must_use]
    pub fn for_script(script: &'static [ScriptedTask]) -> Self {
        Self {
            behaviour: Behaviour::without_faults(150, 100),
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

/// How the subtasks of a task depend on one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dependencies {
    /// No dependencies.
    None,
    /// Each subtask on the one before it.
    Chain,
    /// All subtasks on the first.
    Fan,
    /// Each subtask on some of those before it.
    Random,
}

/// Binds the configured address. The stand-in answers once [`Listening::run`] is called.
pub async fn listen(settings: Settings, console: Console) -> Result<Listening<Agent>, Error> {
    if settings.subtasks_min > settings.subtasks_max {
        return Err(Error::Usage(format!(
            "--subtasks-min {} is above --subtasks-max {}: lower the first or raise the second",
            settings.subtasks_min, settings.subtasks_max
        )));
    }
    let behaviour = settings.behaviour.clone();
    Listening::bind(Agent(settings), behaviour, console).await
}

/// The answers of the Agent's stand-in.
#[derive(Debug)]
pub struct Agent(Settings);

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
        let request = required_text(question, "request")?;
        required_text(question, "project_id")?;
        let known = find_task(self.0.script, request);
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
        required_text(question, "task_id")?;
        let description = required_text(question, "description")?;
        required_text(question, "domain")?;
        let mut chance = self.chance("estimate", description);
        let tokens = 500 + description.len().saturating_mul(10);
        let known = find_task(self.0.script, description);
        Ok(json!({
            "recommended_tier": known.map_or_else(|| chance.pick(&self.0.tiers), |known| known.tier.into()),
            "estimated_tokens": tokens,
            "confidence": chance.share(50, 99),
            "qa_profile": self.0.qa_profile,
            "reasoning": format!("a text of {} bytes", description.len()),
        }))
    }

    fn decompose(&self, question: &Value, fault: Option<Fault>) -> Result<Value, String> {
        required_text(question, "task_id")?;
        let description = required_text(question, "description")?;
        let max_depth = required_number(question, "max_depth")?;
        if !(1..=MAX_DEPTH).contains(&max_depth) {
            return Err(format!("max_depth: expected 1 to {MAX_DEPTH}, got {max_depth}"));
        }
        if let Some(known) = find_task(self.0.script, description) {
            return Ok(known.decomposition());
        }
        let mut chance = self.chance("decompose", description);
        let spread = self.0.subtasks_max.saturating_sub(self.0.subtasks_min);
        let count = match fault {
            Some(Fault::TooMany) => MAX_SUBTASKS + 5,
            // A cycle and a duplicate need two subtasks.
            Some(_) => self.0.subtasks_max.max(2),
            None => self.0.subtasks_min + chance.number(spread),
        };
        let may_nest = max_depth > 1 && level(description) < self.0.depth;
        let beginning = &description[..description.floor_char_boundary(MAX_REPEATED_BYTES)];
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
            add_fault(&mut subtasks, fault);
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

/// Returns the level that the subtasks of a task would have, from 1: each level has
/// prefixed the description with its `Part 1 of 3: `.
fn level(description: &str) -> u64 {
    let parts = description.split(": ").take_while(|part| {
        let words: Vec<&str> = part.split(' ').collect();
        matches!(words.as_slice(), ["Part", number, "of", count] if number.parse::<u32>().is_ok() && count.parse::<u32>().is_ok())
    });
    u64::try_from(parts.count()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Adds a fault to a list of at least two subtasks.
fn add_fault(subtasks: &mut [Value], fault: Fault) {
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
        settings: Settings,
    }

    fn agent(options: &[&str]) -> Agent {
        let words = ["agent", "--listen", "127.0.0.1:0"].iter().chain(options);
        Agent(Line::parse_from(words).settings)
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
        let faulty = |fault| parts(&agent, "x", Some(fault));
        assert_eq!(dependencies(&faulty(Fault::Cycle)), [vec!["sub-3"], vec![], vec!["sub-1"]]);
        assert_eq!(dependencies(&faulty(Fault::UnknownSibling))[2], ["no-such-sibling"]);
        let ids = |parts: &[Value]| parts.iter().map(|part| part["id"].to_string()).collect::<BTreeSet<_>>().len();
        assert_eq!(ids(&faulty(Fault::Duplicate)), 2);
        assert_eq!(faulty(Fault::TooMany).len(), 25);
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
