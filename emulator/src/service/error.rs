//! The errors of the service: a six-digit code, whose first three digits are the HTTP status.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    clock::wall_time,
    config::{Behaviour, behaviour::TpmChallenge},
    store::shared::NotKept,
};

/// An error as the device sees it, and its reason for the log.
#[derive(Clone, Debug)]
pub(crate) struct ServiceError {
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) retry_after: Option<u32>,
    /// The reason, for the log only: the real service does not send it to devices.
    pub(crate) detail: String,
    /// The key that a TPM must sign with, if this is a challenge.
    pub(crate) authentication_key: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(crate) enum ErrorBody<'a> {
    /// `ProvisioningServiceErrorDetails`.
    Details {
        error_code: u32,
        tracking_id: &'a str,
        message: &'a str,
        timestamp_utc: String,
        #[serde(skip_serializing_if = "Map::is_empty")]
        info: Map<String, Value>,
    },
    /// `TpmChallenge` in Microsoft's C# client. It has no specification.
    TpmChallenge {
        message: &'a str,
        authentication_key: &'a str,
        /// Present in the long form, with the value `null`.
        #[serde(skip_serializing_if = "Option::is_none")]
        unencrypted_authentication_key: Option<Value>,
        key_name: &'static str,
    },
}

impl From<NotKept> for ServiceError {
    fn from(NotKept(why): NotKept) -> Self {
        Self::not_kept(why)
    }
}

impl ServiceError {
    fn new(code: u32, message: &str, detail: impl Into<String>) -> Self {
        Self { code, message: message.to_owned(), retry_after: None, detail: detail.into(), authentication_key: None }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(400_000, &format!("Bad request: {detail}."), detail)
    }

    /// The body is not the JSON that it has to be. Only the log says what is wrong.
    pub(crate) fn deserialization(detail: impl Into<String>) -> Self {
        Self::new(400_012, "Deserialization error.", detail)
    }

    pub(crate) fn invalid_registration_id(detail: impl Into<String>) -> Self {
        Self::new(400_004, "Invalid RegistrationId", detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(401_000, "Unauthorized", detail)
    }

    pub(crate) fn tpm_challenge(authentication_key: String) -> Self {
        let authentication_key = Some(authentication_key);
        Self { authentication_key, ..Self::new(401_000, "Authorization required.", "the TPM is challenged") }
    }

    pub(crate) fn invalid_certificate(behaviour: &Behaviour, detail: impl Into<String>) -> Self {
        Self::new(401_002, &behaviour.certificate_refusal, detail)
    }

    /// Unlike other errors, this one sends its reason, because the client has no other way to find it.
    pub(crate) fn service_api_off(why: &str) -> Self {
        Self::new(403_000, &format!("Forbidden: {why}."), "the service API is off")
    }

    pub(crate) fn route_not_found(detail: impl Into<String>) -> Self {
        Self::new(404_000, "Not found", detail)
    }

    pub(crate) fn no_registration(registration_id: &str) -> Self {
        Self::not_found("Registration not found", format!("{registration_id} has no such registration"))
    }

    pub(crate) fn no_enrollment(detail: impl Into<String>) -> Self {
        Self::not_found("Enrollment not found", detail)
    }

    fn not_found(message: &str, detail: impl Into<String>) -> Self {
        Self::new(404_201, message, detail)
    }

    pub(crate) fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(405_000, "Method not allowed", detail)
    }

    pub(crate) fn request_timeout() -> Self {
        Self::new(408_000, "Request timeout", "the body of the request did not arrive")
    }

    pub(crate) fn concurrent_registration() -> Self {
        Self::new(
            409_203,
            "Precondition failed.",
            "the device registered again before its last registration was finished",
        )
    }

    /// A PUT without `If-Match` creates an enrollment and never changes one.
    pub(crate) fn enrollment_exists(id: &str) -> Self {
        let message = "Enrollment already exists. To change it, send If-Match with its etag, or *.";
        Self::new(409_201, message, format!("{id:?} exists already, and there is no If-Match"))
    }

    /// Another client changed the enrollment in between.
    pub(crate) fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(412_000, "Precondition failed", detail)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(413_000, "Request entity too large", format!("the body is longer than {limit} bytes"))
    }

    pub(crate) fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(415_000, "Unsupported media type", detail)
    }

    pub(crate) fn throttled(behaviour: &Behaviour, detail: impl Into<String>) -> Self {
        let retry_after = behaviour.retry_after;
        Self { retry_after, ..Self::new(429_001, "Operations are being throttled for this tenant.", detail) }
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(500_000, "Internal server error", detail)
    }

    /// The change could not be written, so it was not made.
    fn not_kept(detail: String) -> Self {
        Self::internal(detail)
    }

    /// Replaces the code, as the configuration says.
    pub(crate) fn with_code(mut self, code: u32) -> Self {
        self.code = code;
        self
    }

    pub(crate) fn status(&self) -> u16 {
        u16::try_from(self.code / 1000).unwrap_or(500)
    }

    /// Returns the text for the log.
    pub(crate) fn outcome(&self) -> String {
        format!("{} {} ({})", self.code, self.message, self.detail)
    }

    pub(crate) fn body<'a>(&'a self, tracking_id: &'a str, behaviour: &Behaviour) -> ErrorBody<'a> {
        match &self.authentication_key {
            Some(authentication_key) => {
                let (message, unencrypted_authentication_key) = match behaviour.tpm_challenge {
                    TpmChallenge::Short => (&*self.message, None),
                    TpmChallenge::Long => {
                        ("Authorization required, resend request using supplied key", Some(Value::Null))
                    }
                };
                let key_name = "registration";
                ErrorBody::TpmChallenge { message, authentication_key, unencrypted_authentication_key, key_name }
            }
            None => ErrorBody::Details {
                error_code: self.code,
                tracking_id: if behaviour.empty_tracking_ids.contains(&self.code) { "" } else { tracking_id },
                message: &self.message,
                timestamp_utc: wall_time::now(),
                info: Map::new(),
            },
        }
    }
}
