//! The types around a provisioning run: settings, steps, buffer sizes and results.
//!
//! ```
//! use azure_dps::provisioning::{Endpoint, Sizes};
//! use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy};
//! use core::time::Duration;
//!
//! const SIZES: Sizes = Sizes::new("0ne00002193", "breakroom499-contoso-tstrsd-007");
//! let mut buffer = [0; SIZES.http()];
//!
//! let registration = Registration::new(
//!     IdScope::new("0ne00002193")?,
//!     RegistrationId::new("breakroom499-contoso-tstrsd-007")?,
//! );
//! let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key())
//!     .with_endpoint(Endpoint::parse("global.azure-devices-provisioning.cn")?)
//!     .with_retry_policy(RetryPolicy::new().with_timeout(Duration::from_secs(120)));
//! // Next: `provisioning.start`, and a transport with this buffer.
//! # let _ = (&mut buffer, &mut provisioning);
//! # Ok::<(), azure_dps::Error>(())
//! ```
//!
//! | item | use |
//! |---|---|
//! | [`Endpoint`], [`RetryPolicy`] | settings of a run: the address of the service, time-outs and retries |
//! | [`Sizes`] | the sizes of buffers |
//! | [`Step`], [`Answer`] | the next step of a driver, and the answer that the driver passes in |
//! | [`Progress`] | events of a run, for a log or a user |
//! | [`Assignment`], [`Details`] | the result of a run, and the service's message after a failure |
//!
//! [`Provisioning`] itself, which drives a run, documents
//! [the driving contract](Provisioning#the-driving-contract).

pub(crate) mod assignment;
mod attestation;
mod document;
mod endpoint;
mod issued;
mod registration;
mod retry;
mod sizes;
mod state_machine;
mod step;

pub use assignment::{Assignment, CertificateInfo, ConnectionProfile, OwnedAssignment, Substatus, X509};
pub use attestation::Attestation;
pub use document::Details;
pub(crate) use document::{Document, Status};
pub use endpoint::Endpoint;
pub use issued::{CertificateChain, IssuedCertificate};
pub use registration::Registration;
pub(crate) use retry::{Jitter, fnv_1a, millis};
pub use retry::{RETRY_AFTER_MAX, RETRY_AFTER_MIN, RetryPolicy};
pub(crate) use sizes::RECORD_OVERHEAD;
pub use sizes::{MAX_OPERATION_ID, Sizes};
pub(crate) use state_machine::Request;
pub use state_machine::{MAX_BODY, Provisioning};
pub use step::{Answer, Progress, Step};
