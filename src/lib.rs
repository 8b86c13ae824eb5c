//! Device-side client for the [Azure IoT Hub Device Provisioning Service][DPS] (DPS).
//!
//! A device leaves the factory with an ID scope, a registration ID and a secret. It asks DPS
//! where it belongs; DPS runs the operator's allocation policy, which may be a webhook that
//! sees a JSON payload of the device's and sends one back, and answers with an IoT hub.
//!
//! ```
//! use azure_dps::{Credential, GroupKey, IdScope, Provisioning, Registration, RegistrationId};
//!
//! let registration_id = RegistrationId::new("breakroom499-contoso-tstrsd-007")?;
//! let mut key = GroupKey::from_base64(
//!     "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==",
//! )?
//! .derive(&registration_id);
//! let registration = Registration::new(IdScope::new("0ne00002193")?, registration_id)
//!     .with_payload(r#"{"MyDeviceFirmwareVersion":"12.0.2.5"}"#)?;
//! let mut provisioning = Provisioning::new(registration, Credential::sas(&mut key));
//! // … and then one call of a transport: `minreq::provision` or `embedded_io::provision`.
//! # Ok::<(), azure_dps::Error>(())
//! ```
//!
//! There is no std, no allocator and no `unsafe` here. Time, randomness, sockets, TLS and
//! storage are the caller's. Data flows one way:
//!
//! ```text
//!  group key ─► GroupKey ─► DeviceKey ─► SAS token ──────┐
//!  ID scope, registration ID, payload ─► Registration ───┤
//!                                                        ▼
//!                                    Provisioning   the state machine: no I/O, no clock
//!                                    Send │ Wait(d) │ Finished
//!                                         │
//!                                  ┌──────┴────────┐
//!                                 http            mqtt    bytes and topics, no I/O traits
//!              ┌───────────────────┼─────────┐     │
//!         embedded_io  embedded_io_async  minreq   the MQTT client of your choice
//!              └─ tls, on Linux
//! ```
//!
//! # The driving contract
//!
//! The transports keep it for you. It is short enough to keep yourself, on any network.
//!
//! 1. **Make** a [`Provisioning`] from a [`Registration`] and a [`Credential`], and one
//!    buffer ([sizes](#sizes)).
//! 2. **Start** a run with [`Provisioning::start`]: the monotonic clock's reading, and the
//!    wall clock for the token's expiry. This also starts a new run after any outcome.
//! 3. **Ask** [`Provisioning::step`] what to do. The answer borrows nothing.
//! 4. On [`Step::Wait`], do nothing for so long, then go to 3. Waiting longer is allowed.
//! 5. On [`Step::Send`], connect if there is no connection (of the credential's kind), and call
//!    [`Provisioning::on_connected`] after each new connection. Then have a codec write the request that
//!    is due ([`http::write_request`], [`mqtt::write_publish`]) and send it. A register request counts as
//!    sent once it is written ([`Provisioning::register_was_sent`]). What the request is,
//!    and whether it carries a token, is between the state machine and the codec. Give the
//!    exchange up at [`Provisioning::request_deadline`].
//! 6. Give the complete answer to [`Provisioning::on_answer`]. If there is none, say so to
//!    [`Provisioning::on_error`]. No request is under way then: go to 3. Whoever loses
//!    track in between (a dropped future, a reset modem) discards the connection and
//!    goes to 3 as well: the same request is due again, and the service tolerates it.
//! 7. On [`Step::Finished`], read the outcome with [`Provisioning::result`], from the buffer
//!    that holds the last answer's body. Of a failure, [`Provisioning::details`] tells what
//!    the service said. Nothing else borrows from the buffer, so it is yours between any two
//!    of these steps but the last answer and the result.
//!
//! The contract is the same for every credential:
//!
//! | | connection | 5: the request | 6: the answer | 7: the result |
//! |---|---|---|---|---|
//! | SAS over HTTP | TLS | a token is signed for each register request and kept for its polls | | |
//! | X.509 | mutual TLS | never a token; nothing is signed | | |
//! | [TPM](tpm) over HTTP | TLS | the first register request has no token | a 401 with a challenge is given to the TPM, and a second, signed register request is due | has a new encrypted key, which the caller gives to the TPM |
//! | SAS over MQTT | TLS, then CONNECT with [`mqtt::write_password`], whose token is for the session | no token | [`mqtt::on_message`] finds status and `retry-after` in the topic | |
//!
//! # After the first boot
//!
//! An assignment is for years. What a device does with it, up to the day that it is sent to
//! another hub:
//!
//! | | |
//! |---|---|
//! | [`Hub`] | what the hub's client connects with: host, client ID, user name, token, connection string |
//! | [`Record`] | the assignment in flash, in bytes that are whole and this device's own, or refused |
//! | [`Reprovisioning`] | decides whether to turn to the hub or to DPS, when, and with which key |
//!
//! None of them is linked into a program that does not call it, and none does I/O. Start with
//! [how to drive it](Reprovisioning#how-to-drive-it).
//!
//! # Sizes
//!
//! The caller owns the buffer, the [`Provisioning`] (below 550 bytes), the [`DeviceKey`]
//! (68 bytes), and later on the [`Reprovisioning`] (below 160). [`Sizes`] says how large the buffers
//! must be, at compile time too:
//!
//! ```
//! use azure_dps::Sizes;
//!
//! const SIZES: Sizes = Sizes::new("0ne00002193", "breakroom499-contoso-tstrsd-007").with_payload(80);
//! let mut buffer = [0; SIZES.http()];
//! # let _ = &mut buffer;
//! ```
//!
//! | buffer | bytes |
//! |---|---|
//! | of a transport, for all of the following | [`Sizes::http`] |
//! | a register request or a look-up | [`Sizes::http_register`] |
//! | a poll | [`Sizes::http_poll`] |
//! | the head of an answer | some 500 |
//! | the body of an answer | [`Sizes::answer`], as far as the service is known to answer |
//! | user name, password and messages of an MQTT session | [`Sizes::mqtt_user_name`], [`Sizes::sas_token`], [`Sizes::mqtt_publish`]; the client's own: [`Sizes::mqtt_answer`] |
//! | user name, token and connection strings of the hub | [`Sizes::hub_user_name`], [`Sizes::hub_token`], [`Sizes::hub_connection_string`], [`Sizes::hub_x509_connection_string`] |
//! | a [`Record`] | [`Sizes::record`] |
//!
//! 1 344 bytes in all are enough for the devices in the tutorial: buffer, state machine and key. A
//! buffer that is too small is an error that says how much is needed: [`Error::BufferTooSmall`].
//!
//! # Panics
//!
//! There are none, whatever the peer sends: the linker proves it for each entry point
//! (`tests/no-panic`). Of what it sees as a way to a panic five places are left, which that
//! script names, argues and checks: two of httparse in the reading of an answer, two of
//! serde-json-core in [`Registration::with_serialized`], and a future that is polled after its
//! end. The types for which `with_serialized` panics by design are named there. Not proven are
//! `minreq::provision` (minreq, rustls), `tls` (rustls, hyper-util), and `payload_as` into types with floats or such that take
//! whatever is there (untagged, flattened), since it is `core` then that reads floats.
//!
//! # Features
//!
//! All are off by default, and none changes the behaviour of another.
//!
//! | Feature | What it adds | Needs |
//! |---|---|---|
//! | `embedded-io-v0_7` | `embedded_io`, a transport over any blocking byte stream | – |
//! | `embedded-io-async-v0_7` | `embedded_io_async`, the same for async streams | – |
//! | `minreq` | `minreq`, a transport with TCP and TLS for Linux gateways that have a key | std |
//! | `rustls` | `tls`, connections for `embedded_io` and MQTT clients on Linux: CA file, client certificate, proxy, IPv6 | std |
//! | `serde` | payloads from and to types of your own | – |
//! | `tpm` | [`Credential::tpm`]: attestation by a TPM 2.0 | – |
//! | `csr` | [`Registration::with_csr`]: a certificate issued with the assignment | – |
//! | `lookup` | [`Provisioning::lookup`]: the status look-up | – |
//!
//! The last three add branches to the state machine. A firmware without them does not carry a
//! byte of it.
//!
//! # TLS
//!
//! DPS speaks **TLS 1.2 only**. A TLS stack that speaks 1.3 only, such as `embedded-tls`,
//! cannot reach it. Source: [TLS support in DPS](https://learn.microsoft.com/azure/iot-dps/tls-support).
//!
//! [DPS]: https://learn.microsoft.com/azure/iot-dps/about-iot-dps
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(any(feature = "minreq", feature = "rustls"))]
extern crate std;

// From the ground up: each module imports from those above it in this list only, and `error` from the
// first three (`tests/house.rs`).
pub mod after;
pub mod error;
pub mod http;
pub mod identity;
pub mod mqtt;
pub mod provisioning;
mod text;
mod total;
mod transport;

pub use error::Error;
pub use identity::{DeviceKey, GroupKey, IdScope, RegistrationId};
pub use provisioning::{Assignment, Attestation, Provisioning, Registration, RetryPolicy};
pub use text::json;
#[cfg(feature = "embedded-io-async-v0_7")]
pub use transport::asynch;
#[cfg(feature = "embedded-io-v0_7")]
pub use transport::blocking;
#[cfg(feature = "minreq")]
pub use transport::https;
#[cfg(feature = "rustls")]
pub use transport::tls;

/// What this crate calls itself in requests.
const USER_AGENT: &str = concat!("azure-dps/", env!("CARGO_PKG_VERSION"));

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
