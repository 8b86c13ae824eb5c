//! The operator's custom allocation function: what it is asked, how often, and what its answer means.

pub(crate) mod allowed;
pub(super) mod calls;
mod client;
pub(super) mod request;
pub(crate) mod response;
