//! The values that a condition compares.

use std::cmp::Ordering;

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::lexer::{Token, Tokens};

/// One side of a comparison.
#[derive(Debug)]
pub(super) enum Operand {
    /// A member, by its names from outer to inner.
    Member(Vec<String>),
    Literal(Value),
}

impl Operand {
    /// Reads an operand. `name` is the name after FROM, which may stand before a member.
    pub(super) fn parse(tokens: &mut Tokens, name: Option<&str>, members: &[&str]) -> Result<Self, String> {
        if let Some(literal) = literal(tokens) {
            return Ok(Self::Literal(literal));
        }
        let Some(word) = tokens.word() else {
            return Err(format!("a member or a value is expected, not {}", tokens.here()));
        };
        let is_member = |path: &[&str]| path.first().is_some_and(|first| members.contains(first));
        let path: Vec<_> = word.split('.').collect();
        let path = match &*path {
            [first, rest @ ..] if !is_member(&path) && (Some(*first) == name || is_collection(first)) => rest,
            path => path,
        };
        if !is_member(path) {
            let word: String = word.chars().take(100).collect();
            return Err(format!("{word:?} is not a member. Members: {}", members.join(", ")));
        }
        Ok(Self::Member(path.iter().map(|name| (*name).to_owned()).collect()))
    }

    /// Returns the value in an item. Returns `None` if the item has no such member.
    pub(super) fn value<'a>(&'a self, item: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Member(path) => path.iter().try_fold(item, |value, name| value.get(name)),
        }
    }
}

/// Returns `true` for the name of a collection. Queries may write it before members even without FROM.
fn is_collection(name: &str) -> bool {
    ["enrollments", "enrollmentGroups", "registrations", "deviceRegistrations"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// Takes a text, a number, `true`, `false` or `null`.
pub(super) fn literal(tokens: &mut Tokens) -> Option<Value> {
    for (keyword, value) in [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)] {
        if tokens.take_word(keyword) {
            return Some(value);
        }
    }
    match tokens.next_value()? {
        Token::Text(text) => Some(Value::String(text)),
        Token::Number(number) => serde_json::Number::from_f64(number).map(Value::Number),
        Token::Word(_) | Token::Symbol(_) => None,
    }
}

/// Compares two values. Returns `None` if they are of different kinds.
pub(super) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(match (time(left), time(right)) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ => left.cmp(right),
        }),
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

/// Times cannot be compared as texts, because their fractions have no trailing zeros.
fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
