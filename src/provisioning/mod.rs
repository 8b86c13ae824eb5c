//! What surrounds a run: its steps and reports, its patience, its buffers, and what it leads to.
//!
//! | | |
//! |---|---|
//! | [`Step`], [`Answer`], [`Progress`] | what a driver does, hands in and hears |
//! | [`Endpoint`], [`RetryPolicy`] | where the service is, and how long a run tries |
//! | [`Sizes`] | how large buffers must be |
//! | [`Assignment`], [`Details`] | what the service answered |

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
