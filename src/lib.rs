//! Device-side client for the [Azure IoT Hub Device Provisioning Service][DPS] (DPS).
//!
//! A device leaves the factory with an ID scope, a registration ID and a secret. It asks DPS which IoT
//! hub it belongs to. DPS runs the operator's allocation policy and answers with a hub. The policy may be
//! a webhook, which receives a JSON payload from the device and may send one back.
//!
//! This crate needs no std and no allocator, and has no `unsafe` code. The caller provides time, sockets,
//! TLS and storage. A device with a blocking TLS stream (feature `embedded-io-v0_7`) provisions like this:
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
//!     key: &mut DeviceKey,
//!     unix_time: u64,
//!     connect: &mut C,
//!     clock: impl Fn() -> Duration,
//!     delay: impl FnMut(Duration),
//! ) -> Result<(), blocking::Error<C::Error, C::StreamError>> {
//!     let registration = Registration::new(IdScope::new(ID_SCOPE)?, RegistrationId::new(REGISTRATION_ID)?)
//!         .with_payload(PAYLOAD)?;
//!     let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
//!     let mut buffer = [0; SIZES.http()];
//!     provisioning.start(clock(), unix_time);
//!     blocking::run(&mut provisioning, key, &mut buffer, connect, clock, delay, |_progress| ())?;
//!
//!     let assignment = provisioning.result(&buffer)?;
//!     let _place = (assignment.assigned_hub(), assignment.device_id());
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # The parts
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
//! [`Provisioning`] is the center. A transport drives it:
//!
//! | your device | the transport |
//! |---|---|
//! | a microcontroller with blocking streams | [`blocking`] |
//! | a microcontroller with async streams, such as embassy's | [`asynch`] |
//! | Linux, a device with a key | [`https`], with TCP and TLS included |
//! | Linux, with a CA file, a client certificate, a proxy or IPv6 | [`blocking`] with [`tls::Connector`] |
//! | any, over MQTT | [`mqtt`] and an MQTT 3.1.1 client |
//! | any other network | [`http`] and [the driving contract](Provisioning#the-driving-contract) |
//!
//! DPS speaks **TLS 1.2 only**, as its [documentation][TLS] said in 2025. A TLS stack that speaks 1.3
//! only, such as `embedded-tls`, cannot reach DPS.
//!
//! # More
//!
//! | | |
//! |---|---|
//! | [`provisioning`] | the steps of a run, its time limits, its result |
//! | [`Sizes`](provisioning::Sizes) | how large the buffers must be |
//! | [`error`] | how a run can fail, and who must act |
//! | [`after`] | after the first boot: the stored assignment, the hub, the twin, when to provision again |
//! | [`identity`] | IDs, keys, signers, TPM, certificate requests |
//! | [`json`] | the payload from the webhook, read without an allocator |
//!
//! # Features
//!
//! All are off by default. No feature changes the behavior of another one or a type of the API.
//!
//! | feature | what it adds | needs |
//! |---|---|---|
//! | `embedded-io-v0_7` | [`blocking`] | – |
//! | `embedded-io-async-v0_7` | [`asynch`] | – |
//! | `minreq` | [`https`] | std |
//! | `rustls` | [`tls`] | std |
//! | `serde` | payloads from and to your own types | – |
//! | `defmt-v1` | `defmt::Format` for all public types | – |
//! | `tpm` | [`Attestation::tpm`]: attestation with a TPM 2.0 | – |
//! | `csr` | [`Registration::with_csr`]: a certificate issued with the assignment | – |
//! | `lookup` | [`Provisioning::lookup`]: the status look-up | – |
//!
//! The last three add branches to the state machine. A firmware that does not enable them is not one byte
//! larger.
//!
//! # Panics
//!
//! The library does not panic, whatever the server sends. The linker proves this (`ci/no-panic`).
//! `SECURITY.md` lists the exceptions. They are in code of other crates and in misused futures.
//!
//! [DPS]: https://learn.microsoft.com/azure/iot-dps/about-iot-dps
//! [TLS]: https://learn.microsoft.com/azure/iot-dps/tls-support
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(any(feature = "minreq", feature = "rustls"))]
extern crate std;

// The order of imports: total, text, identity, error, provisioning, http and mqtt, transport, after.
// A module imports only from modules before it (`tests/house.rs`).
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

/// The `User-Agent` of requests.
const USER_AGENT: &str = concat!("azure-dps/", env!("CARGO_PKG_VERSION"));

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../docs/errors.md")]
mod errors {}

#[cfg(doctest)]
#[doc = include_str!("../docs/firmware.md")]
mod firmware {}

#[cfg(doctest)]
#[doc = include_str!("../docs/gateway.md")]
mod gateway {}

#[cfg(doctest)]
#[doc = include_str!("../docs/after-first-boot.md")]
mod after_first_boot {}

#[cfg(doctest)]
#[doc = include_str!("../docs/testing.md")]
mod testing {}

#[cfg(doctest)]
#[doc = include_str!("../ci/programs/refused.md")]
mod refused {}
