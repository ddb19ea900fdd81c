//! Finding the setting that a misspelt one probably meant.

/// The known path nearest to an unknown one: the same key elsewhere, or one a
/// few letters away.
pub(super) fn nearest_path<'a>(unknown: &str, known: &'a [String]) -> Option<&'a str> {
    let key = last(unknown);
    let elsewhere = known.iter().find(|path| last(path) == key);
    let near = elsewhere.or_else(|| {
        let rank = |path: &&String| distance(unknown, path);
        known.iter().min_by_key(rank).filter(|path| rank(path) <= tolerance(key))
    });
    near.map(String::as_str)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A third of the letters may differ, three at most.
fn tolerance(key: &str) -> usize {
    (key.chars().count() / 3).clamp(1, 3)
}

/// Levenshtein's distance: letters to insert, delete or replace.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
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

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
