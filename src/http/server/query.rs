//! Query parameters: unknown names are refused, and all errors are reported at
//! once.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::cursor;
use super::problem::Problem;
use crate::json::{self, FieldError, Findings};

/// Largest `limit`: entries of a page.
pub(in crate::http) const MAX_LIMIT: u64 = 1000;
/// Entries of a page without `limit`.
pub(in crate::http) const DEFAULT_LIMIT: u64 = 50;

/// The parameters of a query, and the errors found in them so far.
#[derive(Debug)]
pub(in crate::http) struct Query {
    pairs: Vec<(String, String)>,
    found: Findings,
}

impl Query {
    /// Parses a query. Only the names in `known` are allowed.
    pub(in crate::http) fn new(raw: Option<&str>, known: &[&str]) -> Self {
        let pairs = form_urlencoded::parse(raw.unwrap_or_default().as_bytes()).into_owned();
        let mut found = Findings::default();
        let (pairs, unknown): (Vec<_>, Vec<_>) = pairs.partition(|(name, _)| known.contains(&name.as_str()));
        for (name, _) in unknown.into_iter().take(json::MAX_ERRORS) {
            let suggestion = json::nearest(&name, known.iter().copied());
            let suggestion = suggestion.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
            let allowed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("unknown query parameter {}, allowed: {allowed}{suggestion}", json::quoted(&name));
            found.add(&name, message);
        }
        Self { pairs, found }
    }

    /// Returns a parameter that may be given only once.
    pub(in crate::http) fn one(&mut self, name: &str) -> Option<String> {
        let mut values = self.pairs.iter().filter(|(each, _)| each == name).map(|(_, value)| value);
        let first = values.next().cloned();
        if values.next().is_some() {
            self.found.add(name, "must be given once");
        }
        first
    }

    /// Whether a parameter is given.
    pub(in crate::http) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(each, _)| each == name)
    }

    /// Returns the values of a parameter that may be given several times, or with
    /// commas.
    pub(in crate::http) fn many(&self, name: &str) -> Vec<String> {
        let values = self.pairs.iter().filter(|(each, _)| each == name);
        values.flat_map(|(_, value)| value.split(',')).map(|word| word.trim().to_owned()).collect()
    }

    /// Parses a parameter that may be given only once.
    pub(in crate::http) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.one(name)?;
        self.found.parse(name, &text)
    }

    /// Parses a whole number within the allowed range.
    pub(in crate::http) fn number(&mut self, name: &str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let text = self.one(name)?;
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        if number.is_none() {
            let (least, most) = allowed.into_inner();
            let bounds = if most == u64::MAX { format!("{least} or more") } else { format!("from {least} to {most}") };
            self.found.add(name, format!("must be a whole number, {bounds}, was {}", json::quoted(&text)));
        }
        number
    }

    /// Returns the length of a page: `limit`, or the default.
    pub(in crate::http) fn limit(&mut self) -> usize {
        let limit = self.number("limit", 1..=MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Returns the position of the cursor, if one is given. `read` decodes its bytes.
    pub(in crate::http) fn cursor<T>(&mut self, scope: &str, read: impl FnOnce(Vec<u8>) -> Option<T>) -> Option<T> {
        let text = self.one("cursor")?;
        let position = cursor::decode(scope, &text).and_then(read);
        if position.is_none() {
            self.reject("cursor", "is not a cursor of this query: start again without a cursor");
        }
        position
    }

    /// Records an error in a parameter.
    pub(in crate::http) fn reject(&mut self, name: &str, message: impl Into<String>) {
        self.found.add(name, message);
    }

    /// Returns a problem with all errors, if there are any.
    pub(in crate::http) fn finish(self) -> Result<(), Problem> {
        let errors: Vec<FieldError> = self.found.into_errors();
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskId;

    #[test]
    fn values_are_parsed() {
        let mut query =
            Query::new(Some("status=a,b&status=c&limit=7&project_id=p%20q"), &["status", "limit", "project_id"]);
        assert_eq!(query.many("status"), ["a", "b", "c"]);
        assert_eq!(query.limit(), 7);
        assert_eq!(query.one("project_id").as_deref(), Some("p q"));
        query.finish().unwrap();
        let mut empty = Query::new(None, &[]);
        assert_eq!(empty.limit(), 50);
        empty.finish().unwrap();
    }

    #[test]
    fn all_errors_are_reported() {
        let mut query = Query::new(Some("limt=1&limit=0&id=x&one=1&one=2"), &["limit", "id", "one"]);
        query.limit();
        assert_eq!(query.parsed::<TaskId>("id"), None);
        query.one("one");
        let problem = query.finish().unwrap_err();
        let text = serde_json::to_string(&problem.wire("/")).unwrap();
        for part in ["did you mean `limit`?", "from 1 to 1000", "must be a UUID", "must be given once"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
