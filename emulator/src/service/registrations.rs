//! Reads and deletes registrations through the service API.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Service, ServiceError,
    answer::json,
    if_match,
    query::Filter,
    request::{Page, QueryPage},
};
use crate::store::{
    Store,
    device::Device,
    enrollments::Kind,
    registration_state::{RegistrationState, Status, Substatus},
};

/// `DeviceRegistrationState`, in the order of its specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceRegistrationState<'a> {
    registration_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_date_time_utc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_hub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    substatus: Option<Substatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated_date_time_utc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

const MEMBERS: [&str; 11] = [
    "registrationId",
    "createdDateTimeUtc",
    "assignedHub",
    "deviceId",
    "status",
    "substatus",
    "errorCode",
    "errorMessage",
    "lastUpdatedDateTimeUtc",
    "etag",
    "payload",
];

impl<'a> From<&'a RegistrationState> for DeviceRegistrationState<'a> {
    fn from(state: &'a RegistrationState) -> Self {
        Self {
            registration_id: &state.registration_id,
            created_date_time_utc: state.created_date_time_utc.as_deref(),
            assigned_hub: state.assigned_hub.as_deref(),
            device_id: state.device_id.as_deref(),
            status: state.status,
            substatus: state.substatus,
            error_code: state.error_code,
            error_message: state.error_message.as_deref(),
            last_updated_date_time_utc: state.last_updated_date_time_utc.as_deref(),
            etag: state.etag.as_deref(),
            payload: state.payload.as_deref(),
        }
    }
}

impl Service {
    /// Returns the registration of a device.
    pub(crate) fn read_registration(&self, id: &str) -> Result<String, ServiceError> {
        let store = self.store();
        let state = store.devices.get(id).and_then(Device::last).ok_or_else(|| ServiceError::no_registration(id))?;
        Ok(json(&DeviceRegistrationState::from(state)))
    }

    /// Deletes the registration of a device. If the registration is running, it ends without an assignment.
    ///
    /// The hub keeps the device: "Deregister the device from your IoT hub" is a separate step.
    pub(crate) fn delete_registration(&self, id: &str, if_match: Option<&str>) -> Result<(), ServiceError> {
        let delete = |store: &mut Store| {
            let state =
                store.devices.get(id).and_then(Device::last).ok_or_else(|| ServiceError::no_registration(id))?;
            if_match::check(if_match, state.etag.as_deref().unwrap_or_default())?;
            Ok(store.devices.forget_registration(id))
        };
        self.shared.store.change(delete, |running| self.jobs.stop(running, "its registration was deleted"))
    }

    /// Returns the registrations of the devices of an enrollment. The body may be empty.
    pub(crate) fn query_registrations(&self, id: &str, body: &[u8], page: &Page) -> Result<QueryPage, ServiceError> {
        let filter = Filter::read(body, &MEMBERS)?;
        let store = self.store();
        let kind = match (store.enrollments.group(id), store.enrollments.individual(id)) {
            (Some(_), _) => Kind::Group,
            (None, Some(_)) => Kind::Individual,
            (None, None) => return Err(ServiceError::no_enrollment(format!("there is no enrollment {id:?}"))),
        };
        let registrations = store.devices.iter().filter_map(|(key, device)| {
            let (of_kind, of_id) = device.enrollment.as_ref()?;
            let state = device.last().filter(|_| *of_kind == kind && of_id.eq_ignore_ascii_case(id))?;
            Some((key, DeviceRegistrationState::from(state)))
        });
        let (registrations, continuation) =
            page.pick(registrations, |state| filter.matches(&state).then_some(state))?;
        Ok(QueryPage { body: json(&registrations), continuation })
    }
}
