//! The built-in router: a small table of rules that chooses a domain and a tier where a request
//! names none.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};

use super::id::{Domain, Tier};

/// A rule. It matches if the length fits and the description has one of the keywords as whole
/// words, or if the rule has no keywords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Keywords of which one is enough.
    pub keywords: Vec<Keyword>,
    /// Shortest matching description, in characters.
    pub min_length: Option<usize>,
    /// Longest matching description, in characters.
    pub max_length: Option<usize>,
    /// The domain that the rule chooses, if any.
    pub domain: Option<Domain>,
    /// The tier that the rule chooses, if any.
    pub tier: Option<Tier>,
}

/// Words that must follow one another in a description, in any case and with any separators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyword(String);

impl Keyword {
    /// Returns `None` for a text without a letter or digit, which would match everything.
    #[must_use]
    pub fn new(words: &str) -> Option<Self> {
        let text = Words::of(words).text;
        (text != " ").then_some(Self(text))
    }
}

/// The rules, and the defaults for descriptions that no rule matches.
#[derive(Debug, Clone)]
pub struct Router {
    rules: Vec<Rule>,
    default_domain: Domain,
    default_tier: Tier,
    /// Finds the keywords of all rules in one pass over a description.
    keywords: AhoCorasick,
    /// Index of the rule of each keyword.
    rule_of_keyword: Vec<usize>,
}

impl PartialEq for Router {
    fn eq(&self, other: &Self) -> bool {
        // The keyword search is derived from the rules.
        let Self { rules, default_domain, default_tier, keywords: _, rule_of_keyword: _ } = self;
        (rules, default_domain, default_tier) == (&other.rules, &other.default_domain, &other.default_tier)
    }
}

impl Eq for Router {}

impl Router {
    /// Builds a router with rules in order: the first matching rule with a domain gives the domain,
    /// the first one with a tier gives the tier, and the defaults apply otherwise.
    ///
    /// Returns `None` if the keywords are too large to be searched for, at about a gigabyte.
    #[must_use]
    pub fn new(rules: Vec<Rule>, default_domain: Domain, default_tier: Tier) -> Option<Self> {
        let all = rules.iter().enumerate();
        let all = all.flat_map(|(rule, Rule { keywords, .. })| keywords.iter().map(move |keyword| (rule, keyword)));
        let (rule_of_keyword, texts): (Vec<_>, Vec<_>) = all.map(|(rule, keyword)| (rule, &keyword.0)).unzip();
        let keywords = AhoCorasickBuilder::new().build(texts).ok()?;
        Some(Self { rules, default_domain, default_tier, keywords, rule_of_keyword })
    }

    /// The domain and tier for a description.
    #[must_use]
    pub fn route(&self, description: &str) -> (Domain, Tier) {
        let words = Words::of(description);
        let mut has_keyword = vec![false; self.rules.len()];
        for found in self.keywords.find_overlapping_iter(&words.text) {
            let rule = self.rule_of_keyword.get(found.pattern().as_usize());
            if let Some(has_keyword) = rule.and_then(|rule| has_keyword.get_mut(*rule)) {
                *has_keyword = true;
            }
        }
        let mut domain = None;
        let mut tier = None;
        for (rule, has_keyword) in self.rules.iter().zip(has_keyword) {
            if words.fit(rule) && (has_keyword || rule.keywords.is_empty()) {
                domain = domain.or(rule.domain.as_ref());
                tier = tier.or(rule.tier.as_ref());
            }
        }
        let domain = domain.unwrap_or(&self.default_domain);
        let tier = tier.unwrap_or(&self.default_tier);
        (domain.clone(), tier.clone())
    }
}

/// A description as lower-case words with one space before and after each.
struct Words {
    text: String,
    length: usize,
}

impl Words {
    fn of(description: &str) -> Self {
        let mut words = Self { text: String::with_capacity(description.len() + 2), length: 0 };
        words.text.push(' ');
        // Most descriptions are ASCII, whose lower case needs no table.
        if description.is_ascii() {
            words.length = description.len();
            description
                .bytes()
                .for_each(|byte| words.add(byte.to_ascii_lowercase().into(), byte.is_ascii_alphanumeric()));
        } else {
            words.length = description.chars().count();
            let lower = description.chars().flat_map(char::to_lowercase);
            lower.for_each(|character| words.add(character, character.is_alphanumeric()));
        }
        words.add(' ', false);
        words
    }

    fn add(&mut self, character: char, is_of_a_word: bool) {
        if is_of_a_word {
            self.text.push(character);
        } else if !self.text.ends_with(' ') {
            self.text.push(' ');
        }
    }

    /// Whether the length is in the rule's range.
    fn fit(&self, rule: &Rule) -> bool {
        rule.min_length.is_none_or(|min| self.length >= min) && rule.max_length.is_none_or(|max| self.length <= max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(keywords: &[&str], domain: Option<&str>, tier: Option<&str>) -> Rule {
        Rule {
            keywords: keywords.iter().filter_map(|word| Keyword::new(word)).collect(),
            min_length: None,
            max_length: None,
            domain: domain.map(|name| Domain::new(name).unwrap()),
            tier: tier.map(|name| Tier::new(name).unwrap()),
        }
    }

    fn routed(router: &Router, description: &str) -> (String, String) {
        let (domain, tier) = router.route(description);
        (domain.to_string(), tier.to_string())
    }

    #[test]
    fn a_keyword_has_letters_or_digits() {
        assert_eq!(Keyword::new(""), None);
        assert_eq!(Keyword::new("++"), None);
        assert!(Keyword::new("C++").is_some());
    }

    #[test]
    fn the_first_matching_rule_wins() {
        let rules = vec![
            rule(&["readme", "user guide"], Some("documentation"), None),
            rule(&["ui"], Some("ui-design"), Some("large")),
            Rule { min_length: Some(60), ..rule(&[], None, Some("frontier")) },
            rule(&["guide book", "book shop"], Some("fiction"), None),
        ];
        let (domain, tier) = (Domain::new("code-general").unwrap(), Tier::new("small").unwrap());
        let router = Router::new(rules, domain, tier).unwrap();
        let expect = |text: &str, domain: &str, tier: &str| {
            assert_eq!(routed(&router, text), (domain.to_owned(), tier.to_owned()), "{text}");
        };
        expect("sort a list", "code-general", "small");
        expect("Write a README!", "documentation", "small");
        expect("a user-guide for the UI", "documentation", "large");
        expect("build a tool", "code-general", "small");
        expect("no guide: book, shop", "fiction", "small");
        expect(&"long ".repeat(20), "code-general", "frontier");
        expect(&"länge ".repeat(12), "code-general", "frontier");
        expect(&"ä".repeat(59), "code-general", "small");
        expect("für das README: Änderungen", "documentation", "small");
    }
}
