use core::fmt;

/// The ID scope of a DPS instance, such as `0ne00002193`.
///
/// This type accepts 1 to 64 ASCII letters, digits, `-`, `.` and `_`, and keeps their case. The service
/// does not document the format of an ID scope.
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
    /// The maximum number of characters.
    pub const MAX_LEN: usize = 64;

    /// Creates an ID scope from a text.
    ///
    /// # Errors
    /// [`InvalidIdentifier`] with the problem and its position.
    pub fn new(text: &'a str) -> Result<Self, InvalidIdentifier> {
        check(text, Identifier::IdScope, Self::MAX_LEN, false)?;
        Ok(Self(text))
    }

    /// Returns the text.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

/// The registration ID of a device, such as `breakroom499-contoso-tstrsd-007`.
///
/// A registration ID has 1 to 128 ASCII letters, digits, `-`, `.`, `_` and `:`. The last character is a
/// letter, a digit or `-`.
///
/// **Use lower case only.** The service documents registration IDs as case-insensitive, but upper case
/// can fail:
///
/// - The service has rejected upper-case IDs (error 400004).
/// - The service keeps the case of the ID, and device IDs at the hub are case-sensitive.
/// - It is not documented what happens if a known device registers in another case, and from which case
///   the service derives the device key.
///
/// This type keeps the case. [`GroupKey::derive_into`](crate::GroupKey::derive_into) signs the ID
/// unchanged.
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
    /// The maximum number of characters.
    pub const MAX_LEN: usize = 128;

    /// Creates a registration ID from a text.
    ///
    /// # Errors
    /// [`InvalidIdentifier`] with the problem and its position.
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

    /// Returns the text.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Returns `true` if the ID has an upper-case letter. The [type's documentation](Self) says why to
    /// avoid such an ID.
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

/// The reason why a text is not an ID scope or not a registration ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct InvalidIdentifier {
    /// The kind of identifier.
    pub identifier: Identifier,
    /// The problem.
    pub problem: IdentifierProblem,
    /// The position of the problem in the text, in bytes from 0.
    pub position: usize,
}

/// The kinds of identifiers that an [`InvalidIdentifier`] can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Identifier {
    /// An [`IdScope`].
    IdScope,
    /// A [`RegistrationId`].
    RegistrationId,
}

/// The problems that an identifier can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum IdentifierProblem {
    /// The text is empty.
    Empty,
    /// A character is not allowed.
    Character,
    /// The last character is `.`, `_` or `:`.
    LastCharacter,
    /// The text is too long. The position is that of the first character over the limit.
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
                write!(f, "the {name} has a character at position {} that is not allowed: use {allowed}", self.position)
            }
            IdentifierProblem::LastCharacter => {
                write!(f, "the {name} must end with a letter, a digit or -: see position {}", self.position)
            }
            IdentifierProblem::TooLong => write!(f, "the {name} is longer than {} characters", self.position),
        }
    }
}
