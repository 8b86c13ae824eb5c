//! The ground: JSON, base64 and text in the caller's buffers. It knows nothing of the service.

pub(crate) mod base64;
#[cfg(feature = "serde")]
pub(crate) mod deserialize;
#[cfg(feature = "defmt-v1")]
mod format;
pub mod json;
pub(crate) mod writer;

use core::fmt;

/// A buffer of the caller's is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct BufferTooSmall {
    /// The number of bytes that the buffer must hold.
    pub needed: usize,
    /// `true` if [`needed`](Self::needed) bytes are known to be sufficient. This is so for everything
    /// that this crate writes, and for the bodies of answers with a `Content-Length`. Otherwise more
    /// may be needed.
    pub exact: bool,
}

impl BufferTooSmall {
    /// Creates the error of a driver that needs at least this many bytes.
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

/// Why a returned payload, or a twin's properties, were not read into a type.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum PayloadError {
    /// A member that the type must have is missing.
    Missing(&'static str),
    /// The scratch buffer cannot hold a string whose escapes must be decoded.
    BufferTooSmall(BufferTooSmall),
    /// The value is of another kind than the type, or does not fit: a number that is too large, a
    /// string that is too long or has escapes and was to be borrowed, a wrong number of elements, a
    /// member or a variant that is unknown or occurs twice.
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
            PayloadError::BufferTooSmall(error) => write!(f, "a string of the JSON: {error}"),
            PayloadError::Unfit => f.write_str("the JSON does not fit the type it was to be read into"),
        }
    }
}
