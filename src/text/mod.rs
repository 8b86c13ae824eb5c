//! JSON, base64 and text in the caller's buffers. Nothing here depends on the service.

pub(crate) mod base64;
#[cfg(feature = "serde")]
pub(crate) mod deserialize;
#[cfg(feature = "defmt-v1")]
mod format;
pub mod json;
pub(crate) mod writer;

use core::fmt;

/// The caller's buffer is too small.
///
/// ```
/// use azure_dps::{DeviceKey, error::BufferTooSmall};
///
/// let mut key = DeviceKey::new();
/// key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let error: BufferTooSmall = key.write_base64(&mut [0; 40]).unwrap_err();
/// assert_eq!(error.to_string(), "the buffer is too small: 44 bytes are needed");
/// # Ok::<(), azure_dps::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct BufferTooSmall {
    /// The number of bytes that the buffer must hold.
    pub needed: usize,
    /// `true` if [`needed`](Self::needed) bytes are sufficient, `false` if more may be needed.
    ///
    /// The size is exact for everything that this crate writes, and for the body of an answer with a
    /// `Content-Length`.
    pub exact: bool,
}

impl BufferTooSmall {
    /// Creates an error for a buffer that needs at least `needed` bytes, and perhaps more.
    pub const fn at_least(needed: usize) -> Self {
        Self { needed, exact: false }
    }
}

impl core::error::Error for BufferTooSmall {}

impl fmt::Display for BufferTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_least = if self.exact { "" } else { "at least " };
        write!(f, "the buffer is too small: {at_least}{} bytes are needed", self.needed)
    }
}

/// The reason why a returned payload, or the properties of a twin, cannot be read into a type.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum PayloadError {
    /// The JSON lacks this member, which the type requires.
    Missing(&'static str),
    /// The scratch buffer is too small for a string with escapes, which is decoded there.
    BufferTooSmall(BufferTooSmall),
    /// The JSON does not fit the type. For example:
    ///
    /// - the value is of another kind, such as a string instead of a number;
    /// - a number is too large, or a string is too long;
    /// - a string has escapes, and the type borrows a `&str`;
    /// - an array has too few or too many elements;
    /// - a member or a variant is unknown, or a member occurs twice.
    Unfit,
}

impl core::error::Error for PayloadError {}

// See `crate::total`.
impl fmt::Debug for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadError::Missing(member) => write!(f, "Missing(\"{member}\")"),
            PayloadError::BufferTooSmall(error) => f.debug_tuple("BufferTooSmall").field(error).finish(),
            PayloadError::Unfit => f.write_str("Unfit"),
        }
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadError::Missing(member) => write!(f, "the JSON has no `{member}`"),
            PayloadError::BufferTooSmall(error) => write!(f, "cannot decode a string of the JSON: {error}"),
            PayloadError::Unfit => f.write_str("the JSON does not fit the type that it is read into"),
        }
    }
}
