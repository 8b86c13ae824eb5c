//! Polls and look-ups: what a device can ask about its registration.

use super::{
    Answer, Service, ServiceError,
    admission::{authenticate, read_and_authenticate},
    request::DeviceRequest,
};
use crate::{
    config::{Behaviour, behaviour::DisabledAnswer},
    store::{
        device::Device,
        registration_state::{RegistrationState, Status},
    },
};

impl Service {
    /// Returns the state of an operation.
    pub(crate) fn operation_status(
        &self,
        request: &DeviceRequest<'_>,
        operation_id: &str,
    ) -> Result<Answer, ServiceError> {
        {
            let store = self.store();
            let settings = self.settings();
            let behaviour = &settings.behaviour;
            self.admit_operation(behaviour)?;
            authenticate(&settings, &store, request, self.shared.clock)?;
            if let Some(device) = store.devices.get(request.registration_id)
                && !device.admit_poll(self.shared.clock.elapsed(), behaviour.device_polls_per_10s)
            {
                return Err(ServiceError::throttled(behaviour, "too many polls of one device in 10 s"));
            }
        }
        self.operation_answer(request.registration_id, operation_id, true)
    }

    /// Returns the last state of a device, without registering the device.
    pub(crate) fn look_up(&self, request: &DeviceRequest<'_>) -> Result<Answer, ServiceError> {
        self.change(|store| {
            let settings = self.settings();
            self.admit_operation(&settings.behaviour)?;
            let (_, registration) = read_and_authenticate(&settings, store, request, self.shared.clock)?;
            if registration.csr.is_some() || registration.client_certificate_csr.is_some() {
                return Err(ServiceError::bad_request("a look-up must not have a csr"));
            }
            let last = store.devices.get(request.registration_id).and_then(Device::last);
            last.map(Answer::look_up).ok_or_else(|| ServiceError::no_registration(request.registration_id))
        })
    }

    /// Checks the credentials of a request, and nothing else.
    pub(crate) fn authenticate(&self, request: &DeviceRequest<'_>) -> Result<(), ServiceError> {
        let store = self.store();
        authenticate(&self.settings(), &store, request, self.shared.clock).map(drop)
    }

    /// Returns the answer to a register request or a poll.
    pub(super) fn operation_answer(
        &self,
        registration_id: &str,
        operation_id: &str,
        is_poll: bool,
    ) -> Result<Answer, ServiceError> {
        let store = self.store();
        let settings = self.settings();
        let behaviour = &settings.behaviour;
        let (device, operation) = store
            .devices
            .get(registration_id)
            .and_then(|device| Some((device, device.operation(operation_id)?)))
            .ok_or_else(|| ServiceError::no_registration(registration_id))?;
        let polls = operation.polls.get();
        let ready = if is_poll { polls >= behaviour.polls_before_result } else { behaviour.result_at_once };
        // A poll of a registration that was stopped returns the same as a look-up: the state of the registration that
        // replaced it.
        match operation.result.as_deref().or(device.last().filter(|last| last.status != Status::Assigning)) {
            Some(result) if ready => Ok(Answer::operation(operation_id, result)),
            _ => {
                if is_poll {
                    operation.polls.set(polls.saturating_add(1));
                }
                Ok(Answer::assigning(operation_id, registration_id, is_poll, behaviour))
            }
        }
    }
}

/// Returns the state of a device that is disabled.
pub(super) fn disabled(registration_id: &str, created: &str, behaviour: &Behaviour) -> RegistrationState {
    let state = RegistrationState::new(registration_id, Status::Disabled);
    match behaviour.disabled_answer {
        DisabledAnswer::Stored => state.stored(created),
        DisabledAnswer::Operation => state,
    }
}
