//! The built-in router: a small rule table that gives a domain and a tier
//! where a request names none.

use memchr::memmem::Finder;

use super::id::{Domain, Tier};

/// One rule. It matches when one of its keywords stands in the description
/// as a whole word (or it has none) and the length fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// One of them is enough.
    pub keywords: Vec<Keyword>,
    /// Shortest description that matches, in characters.
    pub min_length: Option<usize>,
    /// Longest description that matches, in characters.
    pub max_length: Option<usize>,
    /// The domain it gives, if it gives one.
    pub domain: Option<Domain>,
    /// The tier it gives, if it gives one.
    pub tier: Option<Tier>,
}

/// Words that must follow one another in a description, whatever their case
/// and what stands between them.
#[derive(Debug, Clone)]
pub struct Keyword(Finder<'static>);

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.needle() == other.0.needle()
    }
}

impl Eq for Keyword {}

impl Keyword {
    /// `None` for a text without any letter or digit, which would match
    /// everything.
    #[must_use]
    pub fn new(words: &str) -> Option<Self> {
        let text = Words::of(words).text;
        (text != " ").then(|| Self(Finder::new(&text).into_owned()))
    }
}

/// The rule table and what holds when no rule gives an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// In order: the first rule that gives a domain gives the domain, the
    /// first that gives a tier gives the tier.
    pub rules: Vec<Rule>,
    /// The domain without a matching rule.
    pub default_domain: Domain,
    /// The tier without a matching rule.
    pub default_tier: Tier,
}

impl Router {
    /// The domain and tier of a description.
    #[must_use]
    pub fn route(&self, description: &str) -> (Domain, Tier) {
        let text = Words::of(description);
        let mut domain = None;
        let mut tier = None;
        for rule in &self.rules {
            if domain.is_some() && tier.is_some() {
                break;
            }
            if text.matches(rule) {
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
        // Most descriptions are ASCII, whose case takes no table.
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

    fn matches(&self, rule: &Rule) -> bool {
        let fits = rule.min_length.is_none_or(|min| self.length >= min)
            && rule.max_length.is_none_or(|max| self.length <= max);
        fits && (rule.keywords.is_empty()
            || rule.keywords.iter().any(|keyword| keyword.0.find(self.text.as_bytes()).is_some()))
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
    fn first_rule_that_says_something_wins() {
        let router = Router {
            rules: vec![
                rule(&["readme", "user guide"], Some("documentation"), None),
                rule(&["ui"], Some("ui-design"), Some("large")),
                Rule { min_length: Some(60), ..rule(&[], None, Some("frontier")) },
            ],
            default_domain: Domain::new("code-general").unwrap(),
            default_tier: Tier::new("small").unwrap(),
        };
        let expect = |text: &str, domain: &str, tier: &str| {
            assert_eq!(routed(&router, text), (domain.to_owned(), tier.to_owned()), "{text}");
        };
        expect("sort a list", "code-general", "small");
        expect("Write a README!", "documentation", "small");
        expect("a user-guide for the UI", "documentation", "large");
        expect("build a tool", "code-general", "small");
        expect(&"long ".repeat(20), "code-general", "frontier");
        expect(&"länge ".repeat(12), "code-general", "frontier");
        expect(&"ä".repeat(59), "code-general", "small");
        expect("für das README: Änderungen", "documentation", "small");
    }
}
