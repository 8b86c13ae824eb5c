#[cfg(feature = "embedded-io-v0_7")]
pub mod embedded_io;
#[cfg(feature = "minreq")]
pub mod minreq;
