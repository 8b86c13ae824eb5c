//! Base layer: records of what happened, for tests and for the log.

mod bounded;
#[doc(hidden)]
pub mod console;
pub(crate) mod happening;
mod history;
pub(crate) mod journal;
pub(crate) mod records;
pub(crate) mod text;

pub(crate) use bounded::Bounded;
