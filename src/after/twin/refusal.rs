use core::fmt;

use crate::{after::HubOutcome, error::Fault, provisioning::Details, text::json::Text};

/// What a hub says when it refuses a question for the twin, or a report.
///
/// ```
/// use azure_dps::after::{HubOutcome, twin::{self, Message}};
///
/// let body = br#"{"errorCode":429002,"message":"Throttling operation rate"}"#;
/// let Message::Refused(refusal) = twin::read("$iothub/twin/res/429/?$rid=1", body)? else { panic!() };
/// assert_eq!((refusal.request_id, refusal.status, refusal.code()), (1, 429, Some(429_002)));
/// assert!(refusal.message().unwrap() == "Throttling operation rate");
/// assert!(refusal.is_retryable()); // ask again, a minute later
/// assert_eq!(refusal.hub_outcome(), None); // the session goes on
///
/// let Message::Refused(refusal) = twin::read("$iothub/twin/res/404/?$rid=2", b"")? else { panic!() };
/// assert_eq!(refusal.hub_outcome(), Some(HubOutcome::Refused(404)));
/// # Ok::<(), azure_dps::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Refusal<'b> {
    /// The ID of the question, or of the report.
    pub request_id: u32,
    /// The status: that of HTTP.
    pub status: u16,
    pub(super) details: Option<Details<'b>>,
}

impl<'b> Refusal<'b> {
    /// Returns the hub's six-digit code, if the answer has one. The numbers are the hub's, not those of
    /// [`ErrorCode`](crate::error::ErrorCode).
    ///
    /// Source: [IoT Hub error codes](https://learn.microsoft.com/azure/iot-hub/troubleshoot-error-codes).
    #[inline]
    pub fn code(&self) -> Option<u32> {
        self.details?.object().get("errorCode")?.u32()
    }

    /// Returns what the hub says in words, if it does.
    #[inline]
    pub fn message(&self) -> Option<Text<'b>> {
        self.details?.message()
    }

    /// Returns the rest of what the hub says, such as the tracking ID, if the answer has a body.
    pub const fn details(&self) -> Option<Details<'b>> {
        self.details
    }

    /// Returns whose move it is: [`Fault::Busy`] for 408, 429 and 5xx, [`Fault::Credential`] for 401 and
    /// 403, [`Fault::Caller`] for 400 and 413, which are about the report, else [`Fault::Refused`].
    pub const fn fault(&self) -> Fault {
        match self.status {
            408 | 429 | 500.. => Fault::Busy,
            401 | 403 => Fault::Credential,
            400 | 413 => Fault::Caller,
            _ => Fault::Refused,
        }
    }

    /// Returns `true` if the same request may succeed later, in this session. Wait for a minute or so, with
    /// jitter.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.fault(), Fault::Busy)
    }

    /// Returns what to tell [`Reprovisioning`](crate::after::Reprovisioning) after the session was ended:
    /// 401, 403 and 404 say that the hub does not know the device any more. `None` if the session goes on.
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
