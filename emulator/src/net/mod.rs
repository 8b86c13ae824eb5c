//! Base layer: listeners, TLS, the protocols on a connection, and the thread that runs them.

pub(crate) mod fault;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod mqtt;
pub(crate) mod protocol;
pub(crate) mod speech;
pub(crate) mod tls;
pub(crate) mod worker;
