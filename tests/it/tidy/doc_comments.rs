//! Finds doc comments that say nothing beyond the name below them.

use super::collect::Sources;

/// Longer comments are not looked at.
const FEW_WORDS: usize = 3;

/// Words without content of their own.
const EMPTY_WORDS: [&str; 24] = [
    "a", "all", "an", "and", "are", "by", "for", "how", "if", "in", "is", "it", "its", "of", "on", "said", "that",
    "the", "this", "to", "was", "what", "when", "why",
];

/// Places of doc comments of at most three words whose words all appear in the code below them:
/// `file:line: text`. Only files under `src`, without those of unit tests.
pub(super) fn repeated_names(sources: &Sources) -> Vec<String> {
    let files = sources.iter().filter(|(file, _)| file.starts_with("src/") && !file.ends_with("tests.rs"));
    files.flat_map(|(file, source)| repeated_in(file, source)).collect()
}

fn repeated_in(file: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    for (index, line) in lines.iter().enumerate() {
        let Some(text) = line.strip_prefix("///") else { continue };
        let is_doc = |line: Option<&&str>| line.is_some_and(|line| line.starts_with("///"));
        let is_alone = !is_doc(lines.get(index + 1)) && (index == 0 || !is_doc(lines.get(index - 1)));
        let item = lines[index + 1..].iter().find(|line| !line.starts_with("#["));
        if is_alone && item.is_some_and(|item| only_repeats(text, item)) {
            found.push(format!("{file}:{}: {}", index + 1, text.trim()));
        }
    }
    found
}

fn only_repeats(text: &str, item: &str) -> bool {
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let item = item.replace('_', "").to_lowercase();
    let is_repeated = |word: &String| EMPTY_WORDS.contains(&word.as_str()) || item.contains(stem(word));
    words.len() <= FEW_WORDS && words.iter().all(is_repeated)
}

/// A word without the endings that names lack.
fn stem(word: &str) -> &str {
    let stem = ["ing", "ed", "es", "s", "e"].iter().find_map(|ending| word.strip_suffix(ending));
    stem.filter(|stem| stem.len() > 2).unwrap_or(word)
}
