//! Counts doc comments too short to say more than the name beside them.

use super::collect::Sources;

const FEW_WORDS: usize = 3;

/// Places of doc comments that have at most three words in all, under `src`, but for files of unit
/// tests: `file:line: text`.
pub(super) fn short_doc_comments(sources: &Sources) -> Vec<String> {
    let files = sources.iter().filter(|(file, _)| file.starts_with("src/") && !file.ends_with("tests.rs"));
    files.flat_map(|(file, source)| short_in(file, source)).collect()
}

fn short_in(file: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    for (index, line) in lines.iter().enumerate() {
        let Some(text) = line.strip_prefix("///") else { continue };
        let is_doc = |line: Option<&&str>| line.is_some_and(|line| line.starts_with("///"));
        let is_alone = !is_doc(lines.get(index + 1)) && (index == 0 || !is_doc(lines.get(index - 1)));
        if is_alone && text.split_whitespace().count() <= FEW_WORDS {
            found.push(format!("{file}:{}: {}", index + 1, text.trim()));
        }
    }
    found
}
