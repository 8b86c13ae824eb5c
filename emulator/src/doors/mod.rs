//! The doors: one file a protocol. A door translates, and the service decides.

pub(crate) mod device_http;
pub(crate) mod device_mqtt;
mod fault;
mod websocket;
