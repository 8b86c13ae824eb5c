//! A local emulator of the Azure IoT Hub Device Provisioning Service (DPS).
//!
//! [`Emulator`] answers the device API of DPS on 127.0.0.1, over HTTP and MQTT, with TLS or without. It verifies SAS
//! tokens and certificates, and challenges TPMs. It allocates devices as the enrollment says: statically, by hash, or
//! by calling a custom allocation webhook. [`contoso::Webhook`] is the webhook of Microsoft's tutorial.
//!
//! The emulator has the service API, too: Microsoft's service SDKs manage enrollments and registrations with
//! [`Emulator::service_connection_string`].
//!
//! Tests in Rust use this library:
//! * The emulator listens on a free port, and stops when it is dropped.
//! * [`Emulator::requests`] and [`Emulator::webhook_calls`] return what happened.
//! * [`Emulator::script`] makes the next answers fail.
//! * [`Builder::time_scale`] shortens the delays of the service.
//!
//! ```
//! use azure_dps_emulator::{Config, Emulator};
//!
//! let emulator = Emulator::builder(Config::contoso()).start()?;
//! assert!(emulator.http_url().unwrap().starts_with("http://127.0.0.1:"));
//! // Point a device at this URL, then look at what happened:
//! assert!(emulator.requests().is_empty());
//! # Ok::<(), azure_dps_emulator::StartError>(())
//! ```
//!
//! [`Builder::control`] starts an HTTP API for tests in other languages, and a web page.

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
pub use net::{client::get_status, host::listening_address};
pub use service::script::{Operation, Script};
pub use store::{device::DeviceRecord, hub_device::HubStatus, registration_state::Substatus, twin::DeviceTwin};
#[doc(hidden)]
pub use watch::console;
pub use watch::records::{ConnectionFailure, Event, RequestRecord, WebhookCall};

/// Compiles and runs the code in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
