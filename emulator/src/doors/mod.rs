//! The protocols of the listeners, one file for each protocol. These files translate requests and answers; `service`
//! and `hub` process them.

pub(crate) mod control;
mod device_http;
mod exchange;
mod fault;
pub(crate) mod http;
mod masked;
pub(crate) mod mqtt;
mod service_http;
mod websocket;
