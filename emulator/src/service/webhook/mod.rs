//! The custom allocation webhook: its requests, its retries, and the meaning of its answers.

pub(crate) mod allowed;
pub(super) mod calls;
mod client;
pub(super) mod request;
pub(crate) mod response;
