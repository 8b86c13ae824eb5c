//! Reads as much as possible of a configuration's TOML text, and collects all errors with their places.

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Deserializer},
};

use super::{
    Config,
    finding::{Finding, Path, Step},
    rules, unreadable, warnings,
};

/// Further findings are not reported.
const MOST_FINDINGS: usize = 100;

/// A configuration that was read from a text.
#[derive(Debug)]
pub struct Document<'a> {
    /// The parts that could be read. Callers may change it before [`findings`](Self::findings), for example with
    /// options of the command line.
    pub config: Config,
    text: &'a str,
    /// The parsed text.
    table: DeTable<'a>,
    /// The parsed text without the parts that could not be read. `config` was read from it.
    readable: DeTable<'a>,
    unread: Vec<Path>,
    /// The findings from reading.
    findings: Vec<Finding>,
    /// `true` if `config` equals the text, except for the parts in `unread`.
    is_read: bool,
}

impl<'a> Document<'a> {
    /// Reads as much as possible.
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let table = table.into_inner();
        let mut document = Self {
            config: Config::default(),
            text,
            readable: table.clone(),
            table,
            unread: Vec::new(),
            findings: Vec::new(),
            is_read: false,
        };
        let is_toml = errors.is_empty();
        for error in errors {
            // The error's text quotes the line, which may contain a key. The error's message does not.
            let place = error.span().map(|span| position(text, span.start));
            let finding = Finding::error(Path::default(), format!("this is not TOML: {}", error.message()));
            document.findings.push(finding.placed(Path::default(), place));
        }
        while document.findings.len() < MOST_FINDINGS {
            let root = Spanned::new(0..text.len(), document.readable.clone());
            match Config::deserialize(Deserializer::from(root)) {
                Ok(config) => {
                    document.config = config;
                    // If the text is invalid TOML, any part of it may be missing.
                    document.is_read = is_toml;
                    break;
                }
                Err(error) if !document.leave_out(&error) => break,
                Err(_) => {}
            }
        }
        document
    }

    /// Reports a part that cannot be read, and removes it. Returns `false` if it cannot be removed.
    fn leave_out(&mut self, error: &toml::de::Error) -> bool {
        let span = error.span();
        let found = span.as_ref().and_then(|span| {
            let mut paths = Vec::new();
            spanning(&self.readable, span, &Path::default(), &mut paths);
            // The span of a list of [[tables]] is the span of its first table.
            let is_list = error.message().starts_with("invalid type: sequence");
            if is_list { paths.into_iter().next() } else { paths.pop() }
        });
        let path = found.clone().unwrap_or_default();
        let (original, _) = self.look_up(&path);
        let (message, meant) = unreadable::explain(error.message(), lookup(&self.readable, &path));
        let place = span.map(|span| position(self.text, span.start));
        // The removal of a member can cause a "missing field" error. It is not reported.
        let missing = error.message().strip_prefix("missing field `").map(|name| name.trim_end_matches('`'));
        let is_told = missing.is_some_and(|name| self.unread.contains(&original.clone().key(name)));
        if !is_told {
            self.findings.push(Finding::error(path.clone(), message).placed(original.clone(), place));
        }
        self.unread.extend(meant.map(|meant| original.clone().sibling(meant)));
        self.unread.push(original);
        found.is_some_and(|path| remove(&mut self.readable, &path.0))
    }

    /// Returns all errors and warnings of the configuration, in the order of the text.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = self.findings.clone();
        if self.is_read {
            let of_rules = rules::errors(&self.config).into_iter().chain(warnings::warnings(&self.config));
            for finding in of_rules {
                let (path, span) = self.look_up(finding.in_config());
                let place = span.map(|start| position(self.text, start));
                let finding = finding.placed(path, place);
                if !self.unread.iter().any(|unread| finding.follows_from(unread)) {
                    findings.push(finding);
                }
            }
        }
        findings.sort_by_key(Finding::place);
        findings.truncate(MOST_FINDINGS);
        findings
    }

    /// Converts a path in `config` to the path in the text, and returns where it begins. If it is not in the text, it
    /// begins at the table or list that would contain it.
    fn look_up(&self, path: &Path) -> (Path, Option<usize>) {
        let (mut original, mut start) = (Path::default(), None);
        let (mut now, mut before) = (Node::Table(&self.readable), Node::Table(&self.table));
        let mut steps = path.0.iter();
        for step in steps.by_ref() {
            let (Some((begin, inner)), Some((step, outer))) = (now.step(step), now.before(step, before)) else {
                original.0.push(step.clone());
                break;
            };
            original.0.push(step);
            (now, before, start) = (inner, outer, Some(begin));
        }
        original.0.extend(steps.cloned());
        (original, start)
    }
}

#[derive(Clone, Copy)]
enum Node<'t, 'a> {
    Table(&'t DeTable<'a>),
    List(&'t DeArray<'a>),
    Leaf,
}

impl<'t, 'a> Node<'t, 'a> {
    fn of(value: &'t Spanned<DeValue<'a>>) -> Self {
        match value.get_ref() {
            DeValue::Table(table) => Self::Table(table),
            DeValue::Array(list) => Self::List(list),
            _ => Self::Leaf,
        }
    }

    fn value(self, step: &Step) -> Option<&'t Spanned<DeValue<'a>>> {
        match (self, step) {
            (Self::Table(table), Step::Key(key)) => table.get(&**key),
            (Self::List(list), Step::Index(index)) => list.get(*index),
            _ => None,
        }
    }

    /// Returns where a member begins, and the member.
    fn step(self, step: &Step) -> Option<(usize, Self)> {
        self.value(step).map(|value| (value.span().start, Self::of(value)))
    }

    /// Returns the same member in the list or table before the removal of unreadable parts.
    fn before(self, step: &Step, before: Self) -> Option<(Step, Self)> {
        let value = self.value(step)?;
        match (step, before) {
            (Step::Index(_), Node::List(list)) => {
                let is_same = |other: &&Spanned<DeValue<'_>>| other.span() == value.span();
                let index = list.iter().position(|other| is_same(&other))?;
                list.get(index).map(|value| (Step::Index(index), Self::of(value)))
            }
            _ => before.value(step).map(|value| (step.clone(), Self::of(value))),
        }
    }
}

/// Finds the paths with this span, or whose key has this span, from outer to inner.
fn spanning(table: &DeTable<'_>, span: &std::ops::Range<usize>, path: &Path, found: &mut Vec<Path>) {
    for (key, value) in table {
        let path = path.key(key.get_ref());
        if key.span() == *span && value.span() != *span {
            found.push(path.clone());
        }
        spanning_value(value, span, &path, found);
    }
}

fn spanning_value(value: &Spanned<DeValue<'_>>, span: &std::ops::Range<usize>, path: &Path, found: &mut Vec<Path>) {
    if value.span() == *span {
        found.push(path.clone());
    }
    match value.get_ref() {
        DeValue::Table(table) => spanning(table, span, path, found),
        DeValue::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                spanning_value(value, span, &path.index(index), found);
            }
        }
        _ => {}
    }
}

fn lookup<'t, 'a>(table: &'t DeTable<'a>, path: &Path) -> Option<&'t DeValue<'a>> {
    let (last, path) = path.0.split_last()?;
    let node = path.iter().try_fold(Node::Table(table), |node, step| node.value(step).map(Node::of))?;
    node.value(last).map(Spanned::get_ref)
}

fn remove(table: &mut DeTable<'_>, path: &[Step]) -> bool {
    match path {
        [Step::Key(key)] => table.remove(&**key).is_some(),
        [Step::Key(key), rest @ ..] => table.get_mut(&**key).is_some_and(|value| remove_in(value.get_mut(), rest)),
        _ => false,
    }
}

fn remove_in(value: &mut DeValue<'_>, path: &[Step]) -> bool {
    match (value, path) {
        (DeValue::Table(table), path) => remove(table, path),
        (DeValue::Array(list), [Step::Index(index)]) if *index < list.len() => {
            let kept = list.iter().enumerate().filter(|(at, _)| at != index).map(|(_, value)| value.clone());
            *list = kept.collect();
            true
        }
        (DeValue::Array(list), [Step::Index(index), rest @ ..]) => {
            list.get_mut(*index).is_some_and(|value| remove_in(value.get_mut(), rest))
        }
        _ => false,
    }
}

/// Returns line and column, starting from 1.
fn position(text: &str, start: usize) -> (usize, usize) {
    let before = text.get(..start).unwrap_or(text);
    let line = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line..].chars().count() + 1)
}
