//! The condition after WHERE.

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    lexer::{Token, Tokens},
    value::{Operand, compare, literal},
};

/// How deep parentheses and NOT may be nested.
const DEPTH: usize = 32;

#[derive(Debug)]
pub(super) enum Condition {
    Any(Vec<Condition>),
    All(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Operand, Comparison, Operand),
    OneOf(Operand, Vec<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// Reads a condition.
struct Parser<'a> {
    tokens: &'a mut Tokens,
    name: Option<&'a str>,
    members: &'a [&'a str],
}

impl Condition {
    /// Reads a condition. `name` is the name after FROM, and `members` are the names that an item may have.
    pub(super) fn parse(tokens: &mut Tokens, name: Option<&str>, members: &[&str]) -> Result<Self, String> {
        Parser { tokens, name, members }.any(DEPTH)
    }

    /// Returns whether an item meets the condition. Returns `None` if the item does not have the member: then neither
    /// a comparison nor its negation is met.
    pub(super) fn is_met(&self, item: &Value) -> Option<bool> {
        match self {
            Self::Any(conditions) => first(conditions, item, true),
            Self::All(conditions) => first(conditions, item, false),
            Self::Not(condition) => condition.is_met(item).map(|is_met| !is_met),
            Self::Compare(left, comparison, right) => {
                let ordering = compare(left.value(item)?, right.value(item)?);
                Some(match comparison {
                    Comparison::Equal => ordering == Some(Ordering::Equal),
                    Comparison::Unequal => ordering != Some(Ordering::Equal),
                    Comparison::Less => ordering == Some(Ordering::Less),
                    Comparison::AtMost => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
                    Comparison::More => ordering == Some(Ordering::Greater),
                    Comparison::AtLeast => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
                })
            }
            Self::OneOf(operand, values) => {
                let value = operand.value(item)?;
                Some(values.iter().any(|other| compare(value, other) == Some(Ordering::Equal)))
            }
        }
    }
}

/// Returns `decisive` if one of the conditions has this value, because it decides for all of them.
fn first(conditions: &[Condition], item: &Value, decisive: bool) -> Option<bool> {
    let mut result = Some(!decisive);
    for condition in conditions {
        match condition.is_met(item) {
            Some(is_met) if is_met == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

impl Parser<'_> {
    fn any(&mut self, depth: usize) -> Result<Condition, String> {
        let mut conditions = vec![self.all(depth)?];
        while self.tokens.take_word("OR") {
            conditions.push(self.all(depth)?);
        }
        Ok(Condition::Any(conditions))
    }

    fn all(&mut self, depth: usize) -> Result<Condition, String> {
        let mut conditions = vec![self.one(depth)?];
        while self.tokens.take_word("AND") {
            conditions.push(self.one(depth)?);
        }
        Ok(Condition::All(conditions))
    }

    fn one(&mut self, depth: usize) -> Result<Condition, String> {
        let depth = depth.checked_sub(1).ok_or("the condition is too deeply nested")?;
        if self.tokens.take_word("NOT") {
            return self.one(depth).map(|condition| Condition::Not(Box::new(condition)));
        }
        if self.tokens.take(&Token::Symbol("(")) {
            let condition = self.any(depth)?;
            return self.tokens.expect(")").map(|()| condition);
        }
        let left = self.operand()?;
        if self.tokens.take_word("IN") {
            return Ok(Condition::OneOf(left, self.list()?));
        }
        if self.tokens.take_word("NIN") {
            return Ok(Condition::Not(Box::new(Condition::OneOf(left, self.list()?))));
        }
        let comparison = self.comparison()?;
        Ok(Condition::Compare(left, comparison, self.operand()?))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        Operand::parse(self.tokens, self.name, self.members)
    }

    fn comparison(&mut self) -> Result<Comparison, String> {
        for (symbol, comparison) in [
            ("=", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<>", Comparison::Unequal),
            ("<", Comparison::Less),
            ("<=", Comparison::AtMost),
            (">", Comparison::More),
            (">=", Comparison::AtLeast),
        ] {
            if self.tokens.take(&Token::Symbol(symbol)) {
                return Ok(comparison);
            }
        }
        Err(format!("a comparison is expected, not {}", self.tokens.here()))
    }

    /// Reads a list such as `['a', 'b']`.
    fn list(&mut self) -> Result<Vec<Value>, String> {
        self.tokens.expect("[")?;
        let mut values = Vec::new();
        loop {
            let value = literal(self.tokens);
            values.push(value.ok_or_else(|| format!("a value is expected, not {}", self.tokens.here()))?);
            if !self.tokens.take(&Token::Symbol(",")) {
                break;
            }
        }
        self.tokens.expect("]").map(|()| values)
    }
}
