use core::time::Duration;

use crate::error::Error;

/// The next step of a driver, from [`Provisioning::step`](crate::Provisioning::step).
///
/// [The driving contract](crate::Provisioning#the-driving-contract) describes each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Step {
    /// Sign: call [`Provisioning::sign_with`], or
    /// [`write_message`](crate::Provisioning::write_message) and
    /// [`on_signature`](crate::Provisioning::on_signature). A run has this step once, and again only if the
    /// key changes.
    ///
    /// [`Provisioning::sign_with`]: crate::Provisioning::sign_with
    Sign,
    /// Pass the challenge to the TPM: call
    /// [`Provisioning::activate_with`](crate::Provisioning::activate_with). Only a run with
    /// `Attestation::tpm` has this step.
    Activate,
    /// Write the request ([`http`](crate::http), [`mqtt`](crate::mqtt)) and send it. Pass the answer to
    /// [`Provisioning::on_answer`](crate::Provisioning::on_answer). If there is no answer, call
    /// [`Provisioning::on_error`](crate::Provisioning::on_error).
    Send,
    /// Wait for this time. You may keep the connection or close it.
    Wait(Duration),
    /// Read the result with [`Provisioning::result`](crate::Provisioning::result).
    Finished,
}

/// An event of a run, for a log or a user. See [`Provisioning::progress`](crate::Provisioning::progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Progress {
    /// The device is connected to the service. A driver that does not call
    /// [`on_connected`](crate::Provisioning::on_connected), such as [`https`](crate::https), does not report
    /// this event.
    Connected,
    /// The run sends a register request now.
    Registering,
    /// The run sends a status look-up now.
    LookingUp,
    /// The service is still assigning the device.
    Assigning,
    /// The service assigned the device to a hub.
    Assigned,
    /// An attempt failed. Another attempt follows.
    Retrying {
        /// The reason of the failure.
        error: Error,
        /// The time until the next attempt. Zero if the run tries the other key.
        wait: Duration,
        /// The number of failed attempts in a row.
        failures: u8,
    },
    /// The run ended without an assignment.
    Failed(Error),
}

/// An answer of the service over HTTP or MQTT, for
/// [`Provisioning::on_answer`](crate::Provisioning::on_answer).
///
/// ```
/// use azure_dps::provisioning::{Answer, Step};
/// use azure_dps::{Attestation, IdScope, Provisioning, Registration, RegistrationId};
/// use core::time::Duration;
///
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Attestation::x509());
/// let now = Duration::ZERO;
/// provisioning.start(now, 0);
/// let body = br#"{"operationId":"4.d0a6","status":"assigning"}"#;
/// provisioning.on_answer(now, Answer::new(202, Some(3), body));
/// assert_eq!(provisioning.step(now), Step::Wait(Duration::from_secs(3)));
/// # Ok::<(), azure_dps::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Answer<'b> {
    /// The HTTP status, or over MQTT the status in the topic.
    pub status: u16,
    /// `Retry-After` in seconds, if the service sent a number.
    pub retry_after: Option<u32>,
    /// The body, a JSON document.
    pub body: &'b [u8],
}

impl<'b> Answer<'b> {
    /// Creates an answer from its parts.
    pub const fn new(status: u16, retry_after: Option<u32>, body: &'b [u8]) -> Self {
        Self { status, retry_after, body }
    }
}
