//! Base layer: listeners, TLS, the protocols on a connection, the thread that runs them, and HTTP clients.

pub(crate) mod client;
pub(crate) mod fault;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod mqtt;
pub(crate) mod protocol;
pub(crate) mod speech;
pub(crate) mod tls;
pub(crate) mod worker;
