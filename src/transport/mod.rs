#[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7"))]
mod byte_stream;
#[cfg(feature = "embedded-io-v0_7")]
pub mod embedded_io;
#[cfg(feature = "embedded-io-async-v0_7")]
pub mod embedded_io_async;
#[cfg(feature = "minreq")]
pub mod minreq;
#[cfg(any(feature = "minreq", feature = "rustls"))]
mod proxy;
#[cfg(feature = "rustls")]
pub mod rustls;
