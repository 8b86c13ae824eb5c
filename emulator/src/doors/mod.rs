//! The doors: one file a protocol. A door translates, and the service decides.

pub(crate) mod control;
mod device_http;
pub(crate) mod device_mqtt;
mod exchange;
mod fault;
pub(crate) mod http;
mod masked;
mod service_http;
mod websocket;
