//! Errors and warnings of a configuration, with their places.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::identity::key::SymmetricKey;

/// An error or a warning in a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    is_error: bool,
    path: Path,
    /// Line and column in the text, starting from 1.
    place: Option<(usize, usize)>,
    message: String,
    /// Other places that the finding depends on. If one of them cannot be read, the finding may be wrong.
    depends_on: Vec<Path>,
}

impl Finding {
    /// Creates an error. The configuration cannot be used.
    pub(crate) fn error(path: Path, message: impl Into<String>) -> Self {
        Self { is_error: true, path, place: None, message: message.into(), depends_on: Vec::new() }
    }

    /// Creates a warning. The setting is allowed, but probably a mistake.
    pub(crate) fn warning(path: Path, message: impl Into<String>) -> Self {
        Self { is_error: false, ..Self::error(path, message) }
    }

    pub(super) fn depends_on(self, path: Path) -> Self {
        let mut depends_on = self.depends_on;
        depends_on.push(path);
        Self { depends_on, ..self }
    }

    /// Returns the place in the configuration as a path.
    pub(super) fn in_config(&self) -> &Path {
        &self.path
    }

    pub(super) fn placed(self, path: Path, place: Option<(usize, usize)>) -> Self {
        Self { path, place, ..self }
    }

    /// Returns `true` if the finding only follows from the part `unread`, which could not be read.
    pub(super) fn follows_from(&self, unread: &Path) -> bool {
        self.path.is_in(unread) || self.depends_on.iter().any(|other| other.is_in(unread) || unread.is_in(other))
    }

    /// Creates an error about the text as a whole.
    #[doc(hidden)]
    #[must_use]
    pub fn of_text(message: String) -> Self {
        Self::error(Path::default(), message)
    }

    /// Attributes the finding to an option of the command line, which replaced the value in the text.
    #[doc(hidden)]
    #[must_use]
    pub fn of_option(self, option: &str) -> Self {
        Self { path: Path::default().key(option), place: None, ..self }
    }

    /// Returns `true` if the finding is about an option of the command line.
    #[doc(hidden)]
    #[must_use]
    pub fn is_of_option(&self) -> bool {
        matches!(self.path.0.first(), Some(Step::Key(key)) if key.starts_with("--"))
    }

    /// Returns `true` if the configuration cannot be used, `false` for a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }

    /// Returns the place in the configuration, such as `enrollment_groups[2].allocation.iot_hubs[0]`. It is empty if
    /// the finding is about the text as a whole.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// Returns the line in the text, starting from 1. Returns `None` if no text was read, or if the error is not in the
    /// text.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.place.map(|(line, _)| line)
    }

    /// Returns the column in the line, in characters starting from 1.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.place.map(|(_, column)| column)
    }

    /// Returns what is wrong. The message quotes no key and no function key.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn place(&self) -> Option<(usize, usize)> {
        self.place
    }
}

/// Displays such as `line 3, column 5: linked_hubs[0]: "my hub" is not a host name`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        let path = self.path();
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Finding", 5)?;
        object.serialize_field("level", if self.is_error { "error" } else { "warning" })?;
        object.serialize_field("path", &self.path())?;
        object.serialize_field("line", &self.line())?;
        object.serialize_field("column", &self.column())?;
        object.serialize_field("message", &self.message)?;
        object.end()
    }
}

/// A place in a configuration.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Path(pub(super) Vec<Step>);

#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    pub(crate) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// Returns the same path with another last key.
    pub(super) fn sibling(mut self, key: &str) -> Self {
        self.0.pop();
        self.key(key)
    }

    fn is_in(&self, outer: &Self) -> bool {
        self.0.starts_with(&outer.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if at > 0 { "." } else { "" };
                    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                    if !key.is_empty() && key.chars().all(is_bare) && !may_be_secret(key) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{}", quoted(key))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Same as `Display`, which hides a misplaced key.
impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Quotes a text of the configuration, unless it may be a misplaced key.
pub(crate) fn quoted(text: &str) -> String {
    if may_be_secret(text) { format!("\"****\" ({} characters)", text.chars().count()) } else { format!("{text:?}") }
}

/// Returns `true` if a text may contain a symmetric key, a connection string, a token or a function key.
fn may_be_secret(text: &str) -> bool {
    const LONGEST_NAME: usize = 128;
    // The length of a 16-byte key without padding. A key with a missing letter is not base64, but is still secret.
    const SHORTEST_KEY: usize = 22;
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    // Names may have long words too, but seldom in both upper and lower case.
    let is_key = |word: &str| {
        let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
        word.len() >= SHORTEST_KEY && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase)
    };
    let lower = text.to_ascii_lowercase();
    SymmetricKey::from_base64(text).is_ok()
        || text.len() >= SHORTEST_KEY && (text.chars().all(is_base64) || text.ends_with('='))
        || text.split(|c| !is_base64(c)).any(is_key)
        || text.chars().count() > LONGEST_NAME
        || ["key=", "sig=", "code="].iter().any(|name| lower.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are shown. Text that may contain a key is hidden at any position.
    #[test]
    fn keys_are_not_quoted() {
        for name in [
            "linked_hubs",
            "hub-1.azure-devices.net",
            "refuse_concurrent_registration",
            "my hub",
            "a\"b",
            "verylongnamesofhubs2026.azure-devices.net",
        ] {
            assert_eq!(quoted(name), format!("{name:?}"));
        }
        for secret in [
            "c2l4dGVlbiBieXRlcyEhIQ==",
            "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA=",
            "HostName=h;SharedAccessKeyName=n;SharedAccessKey=k",
            "SharedAccessSignature sr=a&sig=b",
            "https://host/api?code=secret",
            "Xq3-_8vPzz1bQ-cYl0T3x9sAzFuabcd==",
            "my key: c2l4dGVlbiBieXRlcyEhIQ",
        ] {
            assert!(!quoted(secret).contains(&secret[1..5]), "{secret}");
            let path = Path::default().key(secret).index(3).key("x").to_string();
            assert_eq!(format!("{:?}", Path::default().key(secret).index(3).key("x")), path);
            assert!(!path.contains(&secret[1..5]) && path.ends_with("[3].x"), "{path}");
        }
        assert_eq!(Path::default().key("tags").key("a b").key("c-d").to_string(), r#"tags."a b".c-d"#);
    }
}
