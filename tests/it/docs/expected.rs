//! Compares the output that a page shows with the output of a run.
//!
//! White space does not count, so a page may wrap long lines. An id stands for one id of
//! the run, the same wherever the page shows it; a time stands for any time; `...` stands
//! for any text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

/// A UUID.
const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

/// What of a shown text is not taken literally; the patterns of a run have no white space.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    let token = format!(
        r"(?P<id>{UUID})|(?P<hex>\b[0-9a-f]{{32}}\b)|(?P<time>\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z)|\
          (?P<clock>\d\d:\d\d:\d\d\.\d{{3}})|(?P<any>\.\.\.)|(?P<space>\s+)"
    );
    Regex::new(&token.replace("\\\n", "").replace(' ', "")).unwrap()
});

/// The ids of a page and those of the run that they stand for.
#[derive(Default)]
pub(super) struct Ids(BTreeMap<String, String>);

impl Ids {
    /// Replaces the ids of the page in a command or a file.
    pub(super) fn resolve(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (shown, actual)| text.replace(shown, actual))
    }

    /// Whether `actual` is what `shown` stands for; remembers the ids that are new.
    pub(super) fn matches(&mut self, shown: &str, actual: &str) -> bool {
        let (pattern, new) = self.pattern(shown);
        let actual: String = actual.split_whitespace().collect();
        let Some(found) = Regex::new(&pattern).unwrap().captures(&actual) else { return false };
        let mut ids = BTreeMap::new();
        for (group, id) in new.iter().enumerate() {
            let actual = found[group + 1].to_owned();
            if ids.entry(id.clone()).or_insert_with(|| actual.clone()) != &actual {
                return false;
            }
        }
        self.0.extend(ids);
        true
    }

    /// The pattern for a shown text, and the id that each of its groups stands for.
    fn pattern(&self, shown: &str) -> (String, Vec<String>) {
        let (mut pattern, mut new, mut end) = ("(?s)^".to_owned(), Vec::new(), 0);
        for token in TOKEN.captures_iter(shown) {
            let whole = token.get(0).unwrap();
            pattern.push_str(&regex::escape(&shown[end..whole.start()]));
            end = whole.end();
            if token.name("id").is_some() {
                if let Some(actual) = self.0.get(whole.as_str()) {
                    pattern.push_str(&regex::escape(actual));
                } else {
                    write!(pattern, "({UUID})").unwrap();
                    new.push(whole.as_str().to_owned());
                }
            } else if token.name("hex").is_some() {
                pattern.push_str("[0-9a-f]{32}");
            } else if token.name("time").is_some() {
                pattern.push_str(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z");
            } else if token.name("clock").is_some() {
                pattern.push_str(r"\d\d:\d\d:\d\d\.\d{3}");
            } else if token.name("any").is_some() {
                pattern.push_str(".*?");
            }
        }
        pattern.push_str(&regex::escape(&shown[end..]));
        pattern.push('$');
        (pattern, new)
    }
}

#[test]
fn an_id_stands_for_one_id() {
    let (a, b) = ("01a204b0-4fa3-7360-8ccf-d910346c28ac", "01a204b0-4fc8-77bb-98ff-063c8a13f617");
    let (c, d) = ("11a204b0-4fa3-7360-8ccf-d910346c28ac", "11a204b0-4fc8-77bb-98ff-063c8a13f617");
    let mut ids = Ids::default();
    assert!(!ids.matches(&format!("{a} {a}"), &format!("{c} {d}")));
    assert!(ids.matches(&format!("{a} {b}\n... 2026-11-22T19:16:33Z"), &format!("{c}{d} and 2027-11-22T19:16:33.5Z")));
    assert!(!ids.matches(a, d) && ids.matches(a, c));
    assert_eq!(ids.resolve(&format!("dats status {b}")), format!("dats status {d}"));
}

#[test]
fn another_text_does_not_match() {
    let mut ids = Ids::default();
    assert!(ids.matches("{\"a\":1,\n  \"b\":[...]}", "{\"a\":1,\"b\":[2,3]}\n"));
    assert!(!ids.matches("{\"a\":1}", "{\"a\":1,\"b\":2}") && !ids.matches("a ... b", "a c"));
}
