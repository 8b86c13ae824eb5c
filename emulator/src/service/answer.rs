//! The answers of the service, for every protocol.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use super::error::ServiceError;
use crate::{
    config::Behaviour,
    identity::ids,
    store::{
        merge::merge,
        registration_state::{RegistrationState, Status},
    },
    watch::records::RequestRecord,
};

/// An answer, for every protocol.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) retry_after: Option<u32>,
    /// The error code for the header of a rejection.
    pub(crate) error_code: Option<u32>,
    /// The GUID for the header, if the header must repeat the GUID of the body.
    pub(crate) request_id: Option<String>,
    /// The outcome for the log.
    pub(crate) outcome: String,
}

/// `RegistrationOperationStatus`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OperationStatus<'a> {
    operation_id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_state: Option<&'a RegistrationState>,
}

impl Answer {
    /// Returns the state of an operation, with status 200.
    pub(crate) fn operation(operation_id: &str, state: &RegistrationState) -> Self {
        Self::operation_status(200, operation_id, state, true)
    }

    /// Returns the answer while an operation runs: 202 with `Retry-After`. Only the answer to a poll has the
    /// registration state.
    pub(super) fn assigning(operation_id: &str, registration_id: &str, is_poll: bool, behaviour: &Behaviour) -> Self {
        let state = RegistrationState::new(registration_id, Status::Assigning);
        let mut answer = Self::operation_status(202, operation_id, &state, is_poll);
        answer.retry_after = behaviour.retry_after;
        if !behaviour.status_in_202 {
            answer.merge(&serde_json::json!({ "status": null }));
        }
        answer
    }

    fn operation_status(status: u16, operation_id: &str, state: &RegistrationState, with_state: bool) -> Self {
        let body = json(&OperationStatus {
            operation_id,
            status: state.status,
            registration_state: with_state.then_some(state),
        });
        Self { status, body, retry_after: None, error_code: None, request_id: None, outcome: state.to_string() }
    }

    /// Returns the answer to a look-up.
    pub(super) fn look_up(state: &RegistrationState) -> Self {
        Self {
            status: 200,
            body: json(state),
            retry_after: None,
            error_code: None,
            request_id: None,
            outcome: format!("look-up: {state}"),
        }
    }

    /// Returns the answer to a client of the service API.
    pub(crate) fn of_service(status: u16, body: String, outcome: &str) -> Self {
        Self { status, body, retry_after: None, error_code: None, request_id: None, outcome: outcome.to_owned() }
    }

    pub(crate) fn refusal(error: &ServiceError, behaviour: &Behaviour) -> Self {
        let tracking_id = ids::guid();
        Self {
            status: error.status(),
            body: json(&error.body(&tracking_id, behaviour)),
            retry_after: error.retry_after,
            // A challenge has no code.
            error_code: Some(error.code).filter(|_| behaviour.error_code_header && error.authentication_key.is_none()),
            request_id: Some(tracking_id).filter(|_| behaviour.tracking_id_is_request_id),
            outcome: error.outcome(),
        }
    }

    /// Returns the answer that a script sets.
    pub(super) fn scripted(status: u16, headers: &[(String, String)], body: String) -> Self {
        let retry_after = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
            .and_then(|(_, value)| value.parse().ok());
        let outcome = "answered by a script".to_owned();
        Self { status, body, retry_after, error_code: None, request_id: None, outcome }
    }

    /// Merges this JSON into the body (RFC 7396).
    pub(super) fn merge(&mut self, patch: &Value) {
        if let Ok(mut body) = serde_json::from_str(&self.body) {
            merge(&mut body, patch);
            self.body = body.to_string();
        }
    }

    /// Records the answer, and whether the device got it.
    pub(crate) fn record(&self, record: &mut RequestRecord, told: bool) {
        record.at = SystemTime::now();
        record.http_status = told.then_some(self.status);
        record.retry_after = self.retry_after;
        record.response_body.clone_from(&self.body);
        record.outcome.clone_from(&self.outcome);
    }
}

/// Serializing our structures of text, numbers and checked JSON cannot fail.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
