use core::fmt;

/// The ID scope of a DPS instance, such as `0ne00002193`.
///
/// The service treats it as opaque; this type accepts 1 to 64 ASCII letters, digits and
/// `-`, `.`, `_`, and never changes its case.
///
/// ```
/// use azure_dps::IdScope;
///
/// assert_eq!(IdScope::new("0ne00002193")?.as_str(), "0ne00002193");
/// assert!(IdScope::new("0ne 2193").is_err());
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// Source: [ID scope](https://learn.microsoft.com/azure/iot-dps/concepts-service#id-scope).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct IdScope<'a>(&'a str);

impl<'a> IdScope<'a> {
    /// The most characters accepted.
    pub const MAX_LEN: usize = 64;

    /// Checks an ID scope.
    ///
    /// # Errors
    /// [`InvalidIdentifier`] with the reason and the position.
    pub fn new(text: &'a str) -> Result<Self, InvalidIdentifier> {
        check(text, Identifier::IdScope, Self::MAX_LEN, false)?;
        Ok(Self(text))
    }

    /// The text as given.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

/// The name under which a device registers, such as `breakroom499-contoso-tstrsd-007`.
///
/// At most 128 ASCII letters, digits and `-`, `.`, `_`, `:`; the last character is a
/// letter, a digit or `-`.
///
/// **Use lower case.** Upper case is legal, and the service calls IDs case-insensitive. It keeps
/// the spelling, and device IDs at the hub are case-sensitive. But it has refused upper-case IDs
/// (400004), and two things are not documented: what it does when a known device registers in another
/// case, and which case it derives a key from. This type keeps the case that it is given, and
/// [`GroupKey::derive`](crate::GroupKey::derive) signs the ID verbatim.
///
/// ```
/// use azure_dps::{RegistrationId, identity::IdentifierProblem};
///
/// let id = RegistrationId::new("sn-007-888-abc")?;
/// assert!(!id.has_upper_case());
///
/// let error = RegistrationId::new("sn 007").unwrap_err();
/// assert_eq!(error.problem, IdentifierProblem::Character);
/// assert_eq!(error.position, 2);
/// # Ok::<(), azure_dps::Error>(())
/// ```
///
/// Source: [registration ID](https://learn.microsoft.com/azure/iot-dps/concepts-service#registration-id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct RegistrationId<'a>(&'a str);

impl<'a> RegistrationId<'a> {
    /// The most characters the service accepts.
    pub const MAX_LEN: usize = 128;

    /// Checks a registration ID.
    ///
    /// # Errors
    /// [`InvalidIdentifier`] with the reason and the position.
    pub fn new(text: &'a str) -> Result<Self, InvalidIdentifier> {
        let identifier = Identifier::RegistrationId;
        check(text, identifier, Self::MAX_LEN, true)?;
        match text.bytes().last() {
            Some(b'.' | b'_' | b':') => Err(InvalidIdentifier {
                identifier,
                problem: IdentifierProblem::LastCharacter,
                position: text.len() - 1,
            }),
            _ => Ok(Self(text)),
        }
    }

    /// The text as given.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Whether the ID has an upper-case letter, which is legal and asks for trouble.
    pub fn has_upper_case(&self) -> bool {
        self.0.bytes().any(|byte| byte.is_ascii_uppercase())
    }
}

impl fmt::Display for IdScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for RegistrationId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[inline(never)]
fn check(text: &str, identifier: Identifier, max_len: usize, colon: bool) -> Result<(), InvalidIdentifier> {
    let wrong = |problem, position| Err(InvalidIdentifier { identifier, problem, position });
    if text.is_empty() {
        return wrong(IdentifierProblem::Empty, 0);
    }
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') || colon && byte == b':';
    if let Some(position) = text.bytes().position(|byte| !allowed(byte)) {
        return wrong(IdentifierProblem::Character, position);
    }
    if text.len() > max_len {
        return wrong(IdentifierProblem::TooLong, max_len);
    }
    Ok(())
}

/// Why a text is not an ID scope or a registration ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct InvalidIdentifier {
    /// Which of the two it was to be.
    pub identifier: Identifier,
    /// What is wrong.
    pub problem: IdentifierProblem,
    /// Where, in bytes from 0.
    pub position: usize,
}

/// The identifiers that this crate checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Identifier {
    /// See [`IdScope`].
    IdScope,
    /// See [`RegistrationId`].
    RegistrationId,
}

/// What can be wrong with an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum IdentifierProblem {
    /// There is nothing.
    Empty,
    /// A character that is not allowed.
    Character,
    /// The last character is `.`, `_` or `:`.
    LastCharacter,
    /// Too many characters; the position is that of the first one too many.
    TooLong,
}

impl core::error::Error for InvalidIdentifier {}

impl fmt::Display for InvalidIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, allowed) = match self.identifier {
            Identifier::IdScope => ("ID scope", "letters, digits, - . _"),
            Identifier::RegistrationId => ("registration ID", "letters, digits, - . _ :"),
        };
        match self.problem {
            IdentifierProblem::Empty => write!(f, "the {name} is empty"),
            IdentifierProblem::Character => {
                write!(f, "the {name} has a character at position {} that is not one of {allowed}", self.position)
            }
            IdentifierProblem::LastCharacter => {
                write!(f, "the {name} must end in a letter, a digit or -, not as at position {}", self.position)
            }
            IdentifierProblem::TooLong => write!(f, "the {name} is longer than {} characters", self.position),
        }
    }
}
