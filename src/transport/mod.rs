//! The transports, one file each.

#[cfg(feature = "embedded-io-async-v0_7")]
pub mod asynch;
#[cfg(feature = "embedded-io-v0_7")]
pub mod blocking;
#[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7"))]
mod byte_stream;
#[cfg(feature = "minreq")]
pub mod https;
#[cfg(any(feature = "minreq", feature = "rustls"))]
mod proxy;
#[cfg(feature = "rustls")]
pub mod tls;
