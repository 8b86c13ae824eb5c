//! The doors: one file a protocol. A door translates, and the service decides.

pub(crate) mod control;
mod device_http;
mod exchange;
mod fault;
pub(crate) mod http;
mod masked;
pub(crate) mod mqtt;
mod service_http;
mod websocket;
