//! Starting the service, looking into it, and stopping it: what tests use.

mod builder;
mod error;
mod running;
mod start;

pub use self::{builder::Builder, error::StartError, running::Emulator};
