//! Ground: what happened, for tests to look at and for people to read.

mod bounded;
#[doc(hidden)]
pub mod console;
pub(crate) mod happening;
mod history;
pub(crate) mod journal;
pub(crate) mod records;
pub(crate) mod text;

pub(crate) use bounded::Bounded;
