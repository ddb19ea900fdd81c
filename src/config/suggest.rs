//! Suggestions for unknown keys.

use strsim::levenshtein;

/// Returns the known path most similar to an unknown one: the same key in another section, or
/// a path that differs in a few letters.
pub(super) fn nearest_path<'a>(unknown: &str, known: &'a [String]) -> Option<&'a str> {
    let key = last(unknown);
    let elsewhere = known.iter().find(|path| last(path) == key);
    let near = elsewhere.or_else(|| {
        let rank = |path: &&String| levenshtein(unknown, path);
        known.iter().min_by_key(rank).filter(|path| rank(path) <= tolerance(key))
    });
    near.map(String::as_str)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Returns how many letters may differ: a third of the key, at most three.
fn tolerance(key: &str) -> usize {
    (key.chars().count() / 3).clamp(1, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_is_a_typo_or_the_same_key_elsewhere() {
        let known = ["server.listen".to_owned(), "engine.data_dir".to_owned()];
        assert_eq!(nearest_path("server.lisen", &known), Some("server.listen"));
        assert_eq!(nearest_path("data_dir", &known), Some("engine.data_dir"));
        assert_eq!(nearest_path("server.colour", &known), None);
    }
}
