use core::time::Duration;

use crate::error::Error;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Step {
    /// Sign, with [`Provisioning::sign_with`], or with
    /// [`write_message`](crate::Provisioning::write_message) and
    /// [`on_signature`](crate::Provisioning::on_signature). A run asks for this once, and again only
    /// if the key changes.
    ///
    /// [`Provisioning::sign_with`]: crate::Provisioning::sign_with
    Sign,
    /// Give the service's challenge to the TPM, with
    /// [`Provisioning::activate_with`](crate::Provisioning::activate_with). Only for
    /// `Attestation::tpm`.
    Activate,
    /// Send the request that a codec writes. Give its answer to
    /// [`Provisioning::on_answer`](crate::Provisioning::on_answer). If there is none, call
    /// [`Provisioning::on_error`](crate::Provisioning::on_error).
    Send,
    /// Do nothing for this long. The connection may be kept or closed.
    Wait(Duration),
    /// Read the result with [`Provisioning::result`](crate::Provisioning::result).
    Finished,
}

/// How far a run has come, in the C SDK's order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub enum Progress {
    /// There is a connection to the service. Drivers without connections do not report this.
    Connected,
    /// A register request is about to be sent.
    Registering,
    /// A look-up of the registration's status is about to be sent.
    LookingUp,
    /// The service answered that it is still assigning.
    Assigning,
    /// The service answered that the device is assigned.
    Assigned,
    /// An attempt failed, and another one follows.
    Retrying {
        /// Why the attempt failed.
        error: Error,
        /// How long the run waits before the next attempt. Zero if it tries the other key.
        wait: Duration,
        /// How many attempts in a row have failed.
        failures: u8,
    },
    /// The run is over without an assignment.
    Failed(Error),
}

/// An answer of the service, over HTTP or MQTT.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Answer<'b> {
    /// The HTTP status; over MQTT the status in the topic.
    pub status: u16,
    /// `Retry-After` in seconds, if the service sent a number.
    pub retry_after: Option<u32>,
    /// The JSON document.
    pub body: &'b [u8],
}

impl<'b> Answer<'b> {
    /// Creates an answer from its parts.
    pub const fn new(status: u16, retry_after: Option<u32>, body: &'b [u8]) -> Self {
        Self { status, retry_after, body }
    }
}
