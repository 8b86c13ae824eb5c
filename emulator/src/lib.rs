//! A local emulator of the Azure IoT Hub Device Provisioning Service (DPS).
//!
//! [`Emulator`] answers the device API of the service on 127.0.0.1 over HTTP and MQTT, plain and over TLS, verifies the
//! SAS tokens and certificates it is given, challenges TPMs, and allocates devices as the enrollment says: statically,
//! by hash, or by really POSTing an `AllocationRequest` to a custom allocation webhook. [`contoso::Webhook`] is the
//! function of Microsoft's tutorial as such a webhook.
//!
//! Microsoft's service SDKs manage enrollments and registrations on the same listeners:
//! [`Emulator::service_connection_string`].
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
//! [`Builder::control`] starts an HTTP API for tests in other languages, and a page for people, which show and do the
//! same.
//!
//! `docs/source.md` tells where to find what in the source.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod clock;
mod config;
pub mod contoso;
mod doors;
mod emulator;
#[cfg(fuzzing)]
#[doc(hidden)]
#[allow(missing_docs, reason = "no part of the public API")]
pub mod fuzzing;
mod hub;
mod identity;
mod net;
mod service;
mod store;
mod watch;

#[doc(hidden)]
pub use config::document::Document;
pub use config::{
    Allocation, AllocationPolicy, Behaviour, CaCertificate, CaReferences, Config, ConfigError, EnrollmentGroup,
    Finding, IndividualEnrollment, Policy, ReprovisionPolicy, Right, TpmAttestation, Twin, WELL_KNOWN_SERVICE_KEY,
    X509Attestation,
    behaviour::{DisabledAnswer, HubRefusalMessage, TpmChallenge, UnlinkedHub},
};
pub use emulator::{Builder, Emulator, StartError};
pub use hub::{
    activity::{Telemetry, TelemetryMessage},
    error::HubError,
};
#[doc(hidden)]
pub use identity::server_certificate::gateway_name;
pub use identity::{certificate::Certificate, error::CredentialError, key::SymmetricKey, tpm::EndorsementKey};
#[doc(hidden)]
pub use net::host::listening_address;
pub use service::script::{Operation, Script};
pub use store::{device::DeviceRecord, hub_device::HubStatus, registration_state::Substatus, twin::DeviceTwin};
#[doc(hidden)]
pub use watch::console;
pub use watch::records::{ConnectionFailure, Event, RequestRecord, WebhookCall};

/// The README's code, tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
