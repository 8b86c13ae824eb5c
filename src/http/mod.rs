//! Writes requests and reads answers of HTTP/1.1, without I/O.
//!
//! Use this module to drive a run over a network that has no transport in this crate. The
//! [driving contract](crate::Provisioning#the-driving-contract) has a complete driver.
//!
//! ```
//! use azure_dps::http::{self, ResponseReader};
//! use azure_dps::provisioning::Step;
//! use azure_dps::{Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId};
//! use core::time::Duration;
//!
//! let mut key = DeviceKey::new();
//! key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
//! let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
//! let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
//!
//! let (now, unix_time) = (Duration::ZERO, 1_700_000_000);
//! let mut buffer = [0; 1024];
//! provisioning.start(now, unix_time);
//! assert_eq!(provisioning.step(now), Step::Sign);
//! provisioning.sign_with(&mut key, &mut buffer)?;
//! assert_eq!(provisioning.step(now), Step::Send);
//!
//! let len = http::write_request(&mut provisioning, now, &mut buffer)?;
//! assert!(buffer[..len].starts_with(b"PUT /0ne00002193/registrations/dev-1/register?"));
//!
//! // Send the request. Then read until the answer is complete.
//! let mut answer: &[u8] = b"HTTP/1.1 429 Too Many\r\nRetry-After: 300\r\nContent-Length: 0\r\n\r\n";
//! let mut reader = ResponseReader::new();
//! let response = loop {
//!     let space = reader.space(&mut buffer)?;
//!     let len = answer.len().min(space.len()); // in your program: read from the socket into `space`
//!     space[..len].copy_from_slice(&answer[..len]);
//!     answer = &answer[len..];
//!     if let Some(response) = reader.received(&mut buffer, len)? {
//!         break response;
//!     }
//! };
//! provisioning.on_answer(now, response.answer(&buffer));
//! // The service asks for 300 s. The run adds jitter.
//! assert!(matches!(provisioning.step(now), Step::Wait(wait) if wait.as_secs() >= 300));
//! # Ok::<(), azure_dps::Error>(())
//! ```

#[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7"))]
mod exchange;
mod request;
mod response;

#[cfg(any(feature = "embedded-io-v0_7", feature = "embedded-io-async-v0_7"))]
pub(crate) use exchange::{Action, Exchange};

pub use request::write_request;
#[cfg(feature = "minreq")]
pub(crate) use request::write_target;
#[cfg(feature = "minreq")]
pub(crate) use response::Framing;
pub use response::{MAX_HEADERS, Response, ResponseReader};
