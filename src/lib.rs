//! Device-side client for the [Azure IoT Hub Device Provisioning Service][DPS] (DPS).
//!
//! A device leaves the factory with an ID scope, a registration ID and a secret. It asks DPS which IoT
//! hub it belongs to. DPS runs the operator's allocation policy and answers with a hub. The policy may be
//! a webhook, which receives a JSON payload from the device and may send one back.
//!
//! The crate needs no std and no allocator, and has no `unsafe`. Time, randomness, sockets, TLS and
//! storage are the caller's.
//!
//! A complete device, over a blocking stream (feature `embedded-io-v0_7`):
//!
//! ```
//! # #[cfg(feature = "embedded-io-v0_7")]
//! # mod example {
//! use azure_dps::{Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId};
//! use azure_dps::{blocking, provisioning::Sizes};
//! use core::time::Duration;
//!
//! const ID_SCOPE: &str = "0ne00002193";
//! const REGISTRATION_ID: &str = "breakroom499-contoso-tstrsd-007";
//! const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5"}"#;
//! const SIZES: Sizes = Sizes::new(ID_SCOPE, REGISTRATION_ID).with_payload(PAYLOAD.len());
//!
//! /// `connect` opens a TLS 1.2 connection to the service and checks the service's certificate.
//! fn provision<C: blocking::Connect>(
//!     key_in_base64: &str,
//!     unix_time: u64,
//!     connect: &mut C,
//!     clock: impl Fn() -> Duration,
//!     delay: impl FnMut(Duration),
//! ) -> Result<(), blocking::Error<C::Error, C::StreamError>> {
//!     let mut key = DeviceKey::new();
//!     key.read_base64(key_in_base64)?;
//!     let registration = Registration::new(IdScope::new(ID_SCOPE)?, RegistrationId::new(REGISTRATION_ID)?)
//!         .with_payload(PAYLOAD)?;
//!     let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
//!
//!     let mut buffer = [0; SIZES.http()];
//!     provisioning.start(clock(), unix_time);
//!     match blocking::run(&mut provisioning, &mut key, &mut buffer, connect, clock, delay, |_progress| ()) {
//!         Ok(()) => {
//!             let assignment = provisioning.result(&buffer)?;
//!             let _place = (assignment.assigned_hub(), assignment.device_id());
//!             Ok(())
//!         }
//!         Err(error) => {
//!             let _words_of_the_service = provisioning.details(&buffer);
//!             Err(error)
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! # Where to start
//!
//! | on | use |
//! |---|---|
//! | a microcontroller | `blocking`, or `asynch` with embassy |
//! | Linux, a device with a key | `https`: TCP and TLS included |
//! | Linux, with a CA file, a client certificate, a proxy or IPv6 | `blocking` with `tls::Connector` |
//! | MQTT | [`mqtt`] and the client of your choice |
//! | any other network | [the driving contract](#the-driving-contract) and [`http`] |
//! | firmware in C or C++ | the C library in the repository's folder `c/` |
//!
//! Data flows one way:
//!
//! ```text
//!  group key ─► GroupKey ─► DeviceKey ─► signature ──────┐   or a secure element, a TPM: trait Sign
//!  ID scope, registration ID, payload ─► Registration ───┤
//!                                                        ▼
//!                                    Provisioning   the state machine: no I/O, no clock, no key
//!                          Sign │ Activate │ Send │ Wait(d) │ Finished
//!                                         │
//!                                  ┌──────┴────────┐
//!                                 http            mqtt    bytes and topics, no I/O traits
//!                       ┌──────────┼─────────┐     │
//!                   blocking    asynch     https   the MQTT client of your choice
//!                       └─ tls, on Linux
//! ```
//!
//! # The driving contract
//!
//! The transports keep this contract for you. To drive a [`Provisioning`] on another network, keep it
//! yourself:
//!
//! 1. **Create** a [`Provisioning`] from a [`Registration`] and an [`Attestation`], and one buffer
//!    ([sizes](#sizes)).
//! 2. **Start** a run with [`Provisioning::start`]. It takes the monotonic clock's reading, and the wall
//!    clock for the token's expiry. `start` also begins a new run, however the last one ended.
//! 3. **Ask** [`Provisioning::step`] what to do. The answer borrows nothing.
//! 4. On [`Step::Sign`], call [`Provisioning::sign_with`]. For a signer that is not a
//!    [`Sign`](identity::Sign), call [`Provisioning::write_message`], have the message signed, and give
//!    the signature to [`Provisioning::on_signature`]. A run signs once, and again only if the key
//!    changes: the second of two keys, or a TPM's. Over MQTT, close the session now: the new token is the
//!    password of a new session.
//! 5. On [`Step::Activate`], call [`Provisioning::activate_with`]. The challenge is in the buffer that
//!    holds the last answer's body. Only a [TPM](identity::tpm) is asked to do this. As in step 4, there
//!    is a way without [`Sign`](identity::Sign): [`Provisioning::challenge`] and
//!    [`Provisioning::on_activated`].
//! 6. On [`Step::Send`], connect if there is no connection, and call [`Provisioning::on_connected`]
//!    after each new connection. Then write the request with [`http::write_request`] or
//!    [`mqtt::write_publish`], and send it. Give up at [`Provisioning::request_deadline`].
//! 7. Give the complete answer to [`Provisioning::on_answer`]. If there is no answer, or a signature
//!    failed, give the error to [`Provisioning::on_error`]. Then go to 3. A driver that loses track in
//!    between (a dropped future, a modem that was reset) discards the connection and goes to 3 as well:
//!    the same request is due again, and the service accepts it twice.
//! 8. On [`Step::Wait`], do nothing for this long, then go to 3. You may wait longer.
//! 9. On [`Step::Finished`], read the outcome with [`Provisioning::result`], from the buffer that holds
//!    the last answer's body. After a failure, [`Provisioning::details`] has what the service said.
//!
//! You may use the buffer for anything else between two steps, with two exceptions: the last answer
//! stays in the buffer until its result is read, and a challenge until it is activated.
//! [`Provisioning::progress`] says what to report to a user; nobody has to call it.
//!
//! The contract is the same for every attestation:
//!
//! | | connection | 4: signatures | 6: the request | 9: the result |
//! |---|---|---|---|---|
//! | symmetric key over HTTP | TLS | one, or two with two keys | has the token | |
//! | symmetric key over MQTT | TLS, then CONNECT with [`mqtt::write_password`] | the same | has no token: the session has it | |
//! | X.509 | mutual TLS | none | has no token | |
//! | [TPM](identity::tpm) over HTTP | TLS | one after each challenge | the first has no token. The answer is a challenge, and the register request is due again | has a new encrypted key, which the caller gives to the TPM |
//!
//! # After the first boot
//!
//! An assignment is for years. The module [`after`] is for the time until the device is sent to another
//! hub:
//!
//! | | |
//! |---|---|
//! | [`Hub`](after::Hub) | what the hub's client connects with: host, client ID, user name, token, connection string |
//! | [`Record`](after::Record) | the assignment in flash. Bytes that are torn, changed or another device's are refused |
//! | [`Reprovisioning`](after::Reprovisioning) | decides whether to connect to the hub or to ask DPS, when, and with which key |
//! | [`twin`](after::twin) | the device's settings at the hub: the topics, and how to read what arrives |
//!
//! None of them does I/O. A program that does not call them does not contain them. Start with
//! [how to drive it](after::Reprovisioning#how-to-drive-it).
//!
//! # Sizes
//!
//! The caller owns the buffer, the [`Provisioning`] (below 550 bytes), the [`DeviceKey`]
//! (68 bytes), and later the [`Reprovisioning`](after::Reprovisioning) (below 160).
//! [`Sizes`](provisioning::Sizes) says how large the buffers must be, at compile time too:
//!
//! ```
//! use azure_dps::provisioning::Sizes;
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
//! | the body of an answer | [`Sizes::answer`], for the fields that the service is known to send |
//! | the message of [`Step::Sign`] | [`Sizes::sas_token`] |
//! | user name, password and messages of an MQTT session | [`Sizes::mqtt_user_name`], [`Sizes::sas_token`], [`Sizes::mqtt_publish`]; the client's own: [`Sizes::mqtt_answer`] |
//! | user name, token and connection strings of the hub | [`Sizes::hub_user_name`], [`Sizes::hub_token`], [`Sizes::hub_connection_string`], [`Sizes::hub_x509_connection_string`] |
//! | the topic of telemetry | [`Sizes::hub_telemetry_topic`] |
//! | the topics of the twin; the client's, for the twin | [`twin::TOPIC_LEN`](after::twin::TOPIC_LEN), [`twin::answer_len`](after::twin::answer_len) |
//! | a [`Record`](after::Record) | [`Sizes::record`] |
//!
//! 1 344 bytes in all are enough for the devices in the tutorial: buffer, state machine and key. A
//! buffer that is too small is an error that says how much is needed: [`Error::BufferTooSmall`].
//!
//! # Panics
//!
//! The library does not panic, whatever the peer sends. The linker proves this for each entry point
//! (`ci/no-panic`). Five places remain that the linker takes for a way to a panic. The script names
//! each of them, gives the reason why it cannot be reached, and checks that there are no others:
//!
//! - two in httparse, which reads the head of an answer;
//! - two in serde-json-core, in [`Registration::with_serialized`]. The documentation there names the types
//!   for which it panics by design;
//! - one in every `async fn`: a future that is polled after its end.
//!
//! Not proven are `https::run` (minreq, rustls), `tls` (rustls, hyper-util), and `payload_as` and `read_as`
//! into types with floats or types that accept any value (untagged, flattened): `core` reads the floats then.
//!
//! # Features
//!
//! All are off by default. None changes the behaviour of another, or a type of the API.
//!
//! | Feature | What it adds | Needs |
//! |---|---|---|
//! | `embedded-io-v0_7` | `blocking`, a transport over any blocking byte stream | – |
//! | `embedded-io-async-v0_7` | `asynch`, the same for async streams | – |
//! | `minreq` | `https`, a transport with TCP and TLS for Linux gateways that have a key | std |
//! | `rustls` | `tls`, connections for `blocking` and for MQTT clients on Linux: CA file, client certificate, proxy, IPv6 | std |
//! | `serde` | payloads from and to types of your own | – |
//! | `defmt-v1` | `defmt::Format` for all public types | – |
//! | `tpm` | [`Attestation::tpm`]: attestation by a TPM 2.0 | – |
//! | `csr` | [`Registration::with_csr`]: a certificate issued with the assignment | – |
//! | `lookup` | [`Provisioning::lookup`]: the status look-up | – |
//!
//! The last three add branches to the state machine. A firmware that does not enable them is not one byte
//! larger.
//!
//! # TLS
//!
//! DPS speaks **TLS 1.2 only** (its documentation in 2025). A TLS stack that speaks 1.3 only, such as
//! `embedded-tls`, cannot reach it. Source:
//! [TLS support in DPS](https://learn.microsoft.com/azure/iot-dps/tls-support).
//!
//! [DPS]: https://learn.microsoft.com/azure/iot-dps/about-iot-dps
//! [`Step::Sign`]: provisioning::Step::Sign
//! [`Step::Activate`]: provisioning::Step::Activate
//! [`Step::Send`]: provisioning::Step::Send
//! [`Step::Wait`]: provisioning::Step::Wait
//! [`Step::Finished`]: provisioning::Step::Finished
//! [`Sizes::http`]: provisioning::Sizes::http
//! [`Sizes::http_register`]: provisioning::Sizes::http_register
//! [`Sizes::http_poll`]: provisioning::Sizes::http_poll
//! [`Sizes::answer`]: provisioning::Sizes::answer
//! [`Sizes::sas_token`]: provisioning::Sizes::sas_token
//! [`Sizes::mqtt_user_name`]: provisioning::Sizes::mqtt_user_name
//! [`Sizes::mqtt_publish`]: provisioning::Sizes::mqtt_publish
//! [`Sizes::mqtt_answer`]: provisioning::Sizes::mqtt_answer
//! [`Sizes::hub_user_name`]: provisioning::Sizes::hub_user_name
//! [`Sizes::hub_token`]: provisioning::Sizes::hub_token
//! [`Sizes::hub_connection_string`]: provisioning::Sizes::hub_connection_string
//! [`Sizes::hub_x509_connection_string`]: provisioning::Sizes::hub_x509_connection_string
//! [`Sizes::hub_telemetry_topic`]: provisioning::Sizes::hub_telemetry_topic
//! [`Sizes::record`]: provisioning::Sizes::record
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(any(feature = "minreq", feature = "rustls"))]
extern crate std;

// From the ground up: total, text, identity, error, provisioning, http and mqtt, transport, after. Each
// imports from those before it alone (`tests/house.rs`).
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

#[cfg(doctest)]
#[doc = include_str!("../ci/programs/refused.md")]
mod refused {}
