//! The query language of the service API: `SELECT * FROM enrollments WHERE …`.

mod condition;
mod lexer;
mod value;

use serde::{Deserialize, Serialize};

use self::{
    condition::Condition,
    lexer::{Token, Tokens},
};
use super::{error::ServiceError, json_body};

/// The longest query. The limit keeps the store responsive: it is locked while each condition is checked against each
/// item.
const LONGEST: usize = 16 * 1024;

/// The condition of a query.
#[derive(Debug)]
pub(super) struct Filter(Option<Condition>);

#[derive(Deserialize)]
struct QuerySpecification {
    query: Option<String>,
}

impl Filter {
    /// Reads the body of a query. Without a body or without a condition, the query matches all items. `members` are
    /// the names that an item may have.
    pub(super) fn read(body: &[u8], members: &[&str]) -> Result<Self, ServiceError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self(None));
        }
        let specification: QuerySpecification = json_body::read(body)?;
        let text = specification.query.unwrap_or_default();
        Self::parse(&text, members).map_err(|fault| ServiceError::bad_request(format!("query: {fault}")))
    }

    fn parse(text: &str, members: &[&str]) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("it has {} bytes; at most {LONGEST} are allowed", text.len()));
        }
        let unwrapped = unwrap(text.trim());
        let mut tokens = Tokens::new(&unwrapped)?;
        // Microsoft's sample for Node sends only "*".
        let selects = tokens.take_word("SELECT");
        let has_all = tokens.take(&Token::Symbol("*"));
        if selects && !has_all {
            return Err(format!("* is expected, not {}: only SELECT * is supported", tokens.here()));
        }
        let mut name = None;
        if has_all && tokens.take_word("FROM") {
            name = Some(tokens.word().ok_or_else(|| format!("a name is expected, not {}", tokens.here()))?);
        }
        let condition = match has_all && tokens.take_word("WHERE") {
            true => Some(Condition::parse(&mut tokens, name.as_deref(), members)?),
            false => None,
        };
        match tokens.is_at_end() {
            true => Ok(Self(condition)),
            false => Err(format!("{} is not supported", tokens.here())),
        }
    }

    /// Returns `true` if the item matches the query.
    pub(super) fn matches(&self, item: &impl Serialize) -> bool {
        let Some(condition) = &self.0 else { return true };
        serde_json::to_value(item).is_ok_and(|item| condition.is_met(&item) == Some(true))
    }
}

/// Returns the query of the text in which `az` wraps it: `{'additional_properties': {}, 'query': 'SELECT *'}`.
fn unwrap(text: &str) -> String {
    let wrapped =
        text.strip_prefix('{').and_then(|text| text.split_once("'query':")).map(|(_, query)| query.trim_start());
    let Some(quoted) = wrapped else { return text.to_owned() };
    let mut chars = quoted.chars();
    let Some(quote @ ('\'' | '"')) = chars.next() else { return String::new() };
    let mut query = String::new();
    while let Some(c) = chars.next().filter(|c| *c != quote) {
        query.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MEMBERS: [&str; 6] =
        ["registrationId", "initialTwin", "iotHubs", "capabilities", "createdDateTimeUtc", "deviceId"];

    fn matches(query: &str) -> Result<bool, String> {
        let item = json!({
            "registrationId": "lock-1",
            "initialTwin": { "tags": { "floor": 4, "it's": "x" } },
            "iotHubs": ["a", "b"],
            "capabilities": { "iotEdge": false },
            "createdDateTimeUtc": "2026-01-02T03:04:05.5Z",
        });
        let body = json!({ "query": query }).to_string();
        Filter::read(body.as_bytes(), &MEMBERS).map(|filter| filter.matches(&item)).map_err(|error| error.message)
    }

    #[test]
    fn a_query_without_a_condition_selects_all_items() {
        for query in [
            "",
            " ",
            "*",
            "SELECT *",
            "select * from enrollments",
            "SELECT * FROM devices",
            "{'additional_properties': {}, 'query': 'SELECT *'}",
            "{'query': \"SELECT * FROM enrollments WHERE registrationId = 'lock-1'\"}",
            r"{'query': 'SELECT * FROM enrollments WHERE registrationId = \'lock-1\''}",
        ] {
            assert_eq!(matches(query), Ok(true), "{query}");
        }
        for body in ["", "\n", "{}", r#"{"query":null}"#] {
            assert!(Filter::read(body.as_bytes(), &MEMBERS).unwrap().matches(&json!({})), "{body}");
        }
    }

    #[test]
    fn a_condition_is_met_or_not() {
        for (condition, is_met) in [
            ("registrationId = 'lock-1'", true),
            ("enrollments.registrationId = 'lock-1'", true),
            ("e.registrationId = 'lock-2'", false),
            ("registrationId != 'lock-1'", false),
            ("registrationId <> 'lock-2'", true),
            ("'lock-1' = registrationId", true),
            ("registrationId > 'lock'", true),
            ("initialTwin.tags.floor >= 4 AND initialTwin.tags.floor < 5", true),
            ("initialTwin.tags.floor = '4'", false),
            ("initialTwin.tags.floor = 4.0", true),
            ("capabilities.iotEdge = false", true),
            ("capabilities.iotEdge = true or registrationId = 'lock-1'", true),
            ("NOT capabilities.iotEdge = true", true),
            ("not (registrationId = 'lock-1' or deviceId = 'x')", false),
            // A missing member is neither equal nor unequal.
            ("deviceId = 'x'", false),
            ("deviceId != 'x'", false),
            ("NOT deviceId = 'x'", false),
            ("deviceId = null", false),
            // AND binds stronger than OR.
            ("registrationId = 'lock-1' OR registrationId = 'a' AND registrationId = 'b'", true),
            ("registrationId IN ['lock-1', 'lock-2']", true),
            ("registrationId NIN ['lock-1', 'lock-2']", false),
            ("initialTwin.tags.floor in [1, 2]", false),
            // Times are compared as times, not as texts.
            ("createdDateTimeUtc > '2026-01-02T03:04:05Z'", true),
            ("createdDateTimeUtc < '2026-01-02T04:04:06+01:00'", true),
            ("registrationId = \"lock-1\"", true),
            ("registrationId = 'it''s'", false),
        ] {
            assert_eq!(matches(&format!("SELECT * FROM e WHERE {condition}")), Ok(is_met), "{condition}");
        }
    }

    #[test]
    fn an_unsupported_query_has_an_error_that_names_the_part() {
        let nested = format!("SELECT * WHERE {}registrationId = 'a'{}", "(".repeat(100), ")".repeat(100));
        let negated = format!("SELECT * WHERE {}registrationId = 'a'", "NOT ".repeat(1000));
        let long = format!("SELECT * WHERE registrationId = 'a'{}", " OR etag = ''".repeat(2000));
        for (query, named) in [
            ("DELETE FROM enrollments", "\"DELETE\" is not supported"),
            ("SELECT registrationId FROM enrollments", "* is expected, not \"registrationId\""),
            ("SELECT * FROM", "a name is expected, not the end"),
            ("SELECT * FROM enrollments ORDER BY etag", "\"ORDER\" is not supported"),
            ("SELECT * WHERE", "a member or a value is expected, not the end"),
            ("SELECT * WHERE registrationId", "a comparison is expected, not the end"),
            ("SELECT * WHERE registrationId LIKE 'a%'", "a comparison is expected, not \"LIKE\""),
            ("SELECT * WHERE startswith(registrationId, 'a')", "\"startswith\" is not a member"),
            ("SELECT * WHERE registratonId = 'a'", "\"registratonId\" is not a member"),
            ("SELECT * WHERE registrationId = 'a", "a string has no closing quote"),
            ("SELECT * WHERE registrationId = 'a' etag", "\"etag\" is not supported"),
            ("SELECT * WHERE (registrationId = 'a'", ") is expected, not the end"),
            ("SELECT * WHERE registrationId IN 'a'", "[ is expected, not \"a\""),
            ("SELECT * WHERE registrationId = 'a'; DROP", "\";\" is not supported"),
            ("SELECT * WHERE registrationId = 1e999", "\"1e999\" is not a number"),
            (&nested, "too deeply nested"),
            (&negated, "too deeply nested"),
            (&long, "at most 16384 are allowed"),
        ] {
            let fault = matches(query).unwrap_err();
            assert!(fault.contains(named), "{fault} / {named}");
        }
        for (body, fault) in [("[]", "query"), ("{\"query\":1}", "query"), ("{", "not JSON")] {
            let error = Filter::read(body.as_bytes(), &MEMBERS).unwrap_err();
            assert!(error.status() == 400, "{body} {fault}");
        }
    }
}
