//! A local emulator of the Azure IoT Hub Device Provisioning Service (DPS).
//!
//! [`Emulator`] answers the device API of the service on 127.0.0.1 over HTTP and MQTT, plain and
//! over TLS, verifies the SAS tokens and certificates it is given, challenges TPMs, and allocates devices as the enrollment says:
//! statically, by hash, or by really POSTing an `AllocationRequest` to a custom allocation webhook.
//! [`contoso::Webhook`] is the function of Microsoft's tutorial as such a webhook.
//!
//! It is a library for tests: it takes a free port, keeps a log of what it was asked, can be
//! scripted to misbehave, lets the service's waiting pass faster, and stops when it is dropped.
//!
//! ```
//! use azure_dps_emulator::{Config, Emulator};
//!
//! let emulator = Emulator::builder(Config::contoso()).start()?;
//! assert!(emulator.http_url().unwrap().starts_with("http://127.0.0.1:"));
//! // … point a device at it, then look at what happened:
//! assert!(emulator.requests().is_empty());
//! # Ok::<(), azure_dps_emulator::StartError>(())
//! ```
//!
//! Where to find what: `device_api` is the HTTP surface and `mqtt` that of MQTT, with `websocket`
//! below it, both thin over `registration`, the one core that knows operations and devices; `sas`
//! verifies tokens, `x509` certificates, and `tpm` challenges TPMs; `enrollment` finds the enrollment
//! that they belong to; `allocation` chooses the hub; `webhook` calls the operator's function;
//! `issuance` is the CA that issues certificates to devices; `behaviour` holds every switch.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod allocation;
mod clock;
mod config;
pub mod contoso;
mod device_api;
mod emulator;
mod enrollment;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
#[allow(missing_docs, reason = "no part of the public API")]
pub mod fuzzing;
mod identity;
mod issuance;
mod mqtt;
mod net;
mod registration;
mod script;
mod stamps;
mod watch;
mod webhook;
mod websocket;
mod wire;

pub use config::{
    Allocation, AllocationPolicy, Behaviour, Config, ConfigError, EnrollmentGroup, IndividualEnrollment,
    ReprovisionPolicy, TpmAttestation, Twin, X509Attestation,
    behaviour::{DisabledAnswer, HubRefusalMessage, TpmChallenge, UnlinkedHub},
};
pub use emulator::{Builder, Emulator, StartError};
pub use identity::{certificate::Certificate, error::CredentialError, key::SymmetricKey, tpm::EndorsementKey};
pub use registration::DeviceRecord;
pub use script::{Operation, Script};
#[doc(hidden)]
pub use watch::console;
pub use watch::records::{ConnectionFailure, Event, RequestRecord, WebhookCall};

/// The README's code, tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
