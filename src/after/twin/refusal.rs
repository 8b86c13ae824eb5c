use core::fmt;

use crate::{after::HubOutcome, error::Fault, provisioning::Details, text::json::Text};

/// The answer of a hub that rejects a request for the twin, or a report.
///
/// ```
/// use azure_dps::after::{HubOutcome, twin::{self, Message}};
///
/// let body = br#"{"errorCode":429002,"message":"Throttling operation rate"}"#;
/// let Message::Refused(refusal) = twin::read("$iothub/twin/res/429/?$rid=1", body)? else { panic!() };
/// assert_eq!((refusal.request_id, refusal.status, refusal.code()), (1, 429, Some(429_002)));
/// assert!(refusal.message().unwrap() == "Throttling operation rate");
/// assert!(refusal.is_retryable()); // send the request again, a minute later
/// assert_eq!(refusal.hub_outcome(), None); // the session continues
///
/// let Message::Refused(refusal) = twin::read("$iothub/twin/res/404/?$rid=2", b"")? else { panic!() };
/// assert_eq!(refusal.hub_outcome(), Some(HubOutcome::Refused(404)));
/// # Ok::<(), azure_dps::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Refusal<'b> {
    /// The ID of the request or the report.
    pub request_id: u32,
    /// The HTTP status.
    pub status: u16,
    pub(super) details: Option<Details<'b>>,
}

impl<'b> Refusal<'b> {
    /// Returns the six-digit error code of the hub, if the answer has one. These codes differ from those of DPS
    /// ([`ErrorCode`](crate::error::ErrorCode)).
    ///
    /// Source: [IoT Hub error codes](https://learn.microsoft.com/azure/iot-hub/troubleshoot-error-codes).
    #[inline]
    pub fn code(&self) -> Option<u32> {
        self.details?.object().get("errorCode")?.u32()
    }

    /// Returns the hub's message, if the answer has one.
    #[inline]
    pub fn message(&self) -> Option<Text<'b>> {
        self.details?.message()
    }

    /// Returns the body of the answer, which has the tracking ID for example. Returns `None` if there is no JSON
    /// body.
    pub const fn details(&self) -> Option<Details<'b>> {
        self.details
    }

    /// Returns who must act.
    ///
    /// | status | fault |
    /// |---|---|
    /// | 408, 429, 5xx | [`Fault::Busy`] |
    /// | 401, 403 | [`Fault::Credential`] |
    /// | 400, 413 | [`Fault::Caller`]: the report is invalid or too large |
    /// | any other | [`Fault::Refused`] |
    pub const fn fault(&self) -> Fault {
        match self.status {
            408 | 429 | 500.. => Fault::Busy,
            401 | 403 => Fault::Credential,
            400 | 413 => Fault::Caller,
            _ => Fault::Refused,
        }
    }

    /// Returns `true` if the same request may succeed later in this session. Wait for about a minute, with
    /// jitter.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.fault(), Fault::Busy)
    }

    /// Returns the outcome for [`Reprovisioning::on_hub`](crate::after::Reprovisioning::on_hub), or `None` if the
    /// session can continue.
    ///
    /// With 401, 403 or 404, the hub does not know the device any more. End the session, then report the outcome.
    pub const fn hub_outcome(&self) -> Option<HubOutcome> {
        match self.status {
            401 | 403 | 404 => Some(HubOutcome::Refused(self.status)),
            _ => None,
        }
    }
}

impl core::error::Error for Refusal<'_> {}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hub refused the request: status {}", self.status)?;
        if let Some(code) = self.code() {
            write!(f, ", code {code}")?;
        }
        if let Some(message) = self.message() {
            write!(f, ", {message}")?;
        }
        f.write_str(match self.fault() {
            Fault::Busy => ": try again later",
            Fault::Credential => ": check the key, the token and the clock",
            Fault::Caller => ": check the reported properties",
            _ if self.status == 404 => ": this hub does not know the device",
            _ => "",
        })
    }
}
