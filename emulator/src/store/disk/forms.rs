//! The JSON of entries on disk. `tests.rs` has a row of each kind, which every later version must read.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, de::SliceRead};

use super::super::{
    device::{Device, DeviceRecord, LastKey, Operation},
    enrollments::{Kind, Stamp, Stamped},
    hub_device::HubDevice,
    registration_state::RegistrationState,
    running::Running,
};
use crate::{
    config::{
        Allocation, AllocationPolicy, CaReferences, EnrollmentGroup, IndividualEnrollment, ReprovisionPolicy,
        TpmAttestation, Twin, X509Attestation,
    },
    identity::{
        key::{SymmetricKey, kept, kept_option},
        tpm::Challenge,
    },
};

/// An entry that is stored as JSON.
pub(super) trait Form: Sized {
    /// `true` if a deleted entry leaves a row, so that its ID stays known.
    const LEAVES_A_TRACE: bool;

    fn to_json(&self) -> serde_json::Result<Vec<u8>>;
    fn from_json(json: &[u8]) -> serde_json::Result<Self>;
}

/// Returns a reader of JSON. The nesting of a twin is limited only by the size of its body.
fn reader(json: &[u8]) -> serde_json::Deserializer<SliceRead<'_>> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    reader
}

/// The JSON of a group, with its keys. `EnrollmentGroup` has no `Serialize` of its own, so that keys cannot be
/// written by mistake. The compiler checks that this form has every field.
#[derive(Deserialize, Serialize)]
#[serde(remote = "EnrollmentGroup")]
struct GroupForm {
    enrollment_group_id: String,
    enabled: bool,
    #[serde(with = "kept")]
    primary_key: SymmetricKey,
    #[serde(with = "kept_option")]
    secondary_key: Option<SymmetricKey>,
    x509: Option<X509Attestation>,
    ca_references: Option<CaReferences>,
    certificate_policy: Option<String>,
    #[serde(with = "AllocationForm")]
    allocation: Allocation,
    reprovision_policy: ReprovisionPolicy,
    initial_twin: Twin,
    iot_edge: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "IndividualEnrollment")]
struct IndividualForm {
    registration_id: String,
    device_id: Option<String>,
    enabled: bool,
    #[serde(with = "kept")]
    primary_key: SymmetricKey,
    #[serde(with = "kept_option")]
    secondary_key: Option<SymmetricKey>,
    x509: Option<X509Attestation>,
    tpm: Option<TpmAttestation>,
    certificate_policy: Option<String>,
    #[serde(with = "AllocationForm")]
    allocation: Allocation,
    reprovision_policy: ReprovisionPolicy,
    initial_twin: Twin,
    iot_edge: bool,
    optional_device_information: Map<String, Value>,
}

/// The URL of a webhook contains a function key.
#[derive(Deserialize, Serialize)]
#[serde(remote = "Allocation")]
struct AllocationForm {
    policy: AllocationPolicy,
    iot_hubs: Vec<String>,
    iot_hub_host_name: Option<String>,
    webhook_url: Option<String>,
    api_version: String,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Stamped<EnrollmentGroup>")]
struct StampedGroupForm {
    stamp: Stamp,
    #[serde(with = "GroupForm")]
    entry: EnrollmentGroup,
}

impl Form for Stamped<EnrollmentGroup> {
    const LEAVES_A_TRACE: bool = true;

    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = Vec::new();
        StampedGroupForm::serialize(self, &mut serde_json::Serializer::new(&mut json))?;
        Ok(json)
    }

    fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        StampedGroupForm::deserialize(&mut reader(json))
    }
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Stamped<IndividualEnrollment>")]
struct StampedIndividualForm {
    stamp: Stamp,
    #[serde(with = "IndividualForm")]
    entry: IndividualEnrollment,
}

impl Form for Stamped<IndividualEnrollment> {
    const LEAVES_A_TRACE: bool = true;

    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = Vec::new();
        StampedIndividualForm::serialize(self, &mut serde_json::Serializer::new(&mut json))?;
        Ok(json)
    }

    fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        StampedIndividualForm::deserialize(&mut reader(json))
    }
}

/// A device, without its polls.
#[derive(Deserialize, Serialize)]
struct DeviceForm<'a> {
    challenge: Option<Arc<Challenge>>,
    last_key: Option<Cow<'a, LastKey>>,
    enrollment: Option<Cow<'a, (Kind, String)>>,
    record: Option<Cow<'a, DeviceRecord>>,
    #[serde(default)]
    hub: Cow<'a, HubDevice>,
    /// The state for look-ups, unless it is the result of the last operation.
    last: Option<Arc<RegistrationState>>,
    is_last_the_result: bool,
    operations: VecDeque<OperationForm<'a>>,
    running: Option<Arc<Running>>,
}

#[derive(Deserialize, Serialize)]
struct OperationForm<'a> {
    id: Cow<'a, str>,
    finished: u64,
    result: Option<Arc<RegistrationState>>,
}

impl Form for Device {
    const LEAVES_A_TRACE: bool = false;

    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let result = self.operations.back().and_then(|operation| operation.result.as_ref());
        let is_last_the_result = match (&self.last, result) {
            (Some(last), Some(result)) => Arc::ptr_eq(last, result),
            _ => false,
        };
        let operations = self.operations.iter().map(|Operation { id, polls: _, finished, result }| OperationForm {
            id: Cow::Borrowed(id),
            finished: *finished,
            result: result.clone(),
        });
        serde_json::to_vec(&DeviceForm {
            challenge: self.challenge.clone(),
            last_key: self.last_key.as_ref().map(Cow::Borrowed),
            enrollment: self.enrollment.as_ref().map(Cow::Borrowed),
            record: self.record.as_ref().map(Cow::Borrowed),
            hub: Cow::Borrowed(&self.hub),
            last: self.last.clone().filter(|_| !is_last_the_result),
            is_last_the_result,
            operations: operations.collect(),
            running: self.running.clone(),
        })
    }

    fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let form = DeviceForm::deserialize(&mut reader(json))?;
        let operations: VecDeque<_> = form
            .operations
            .into_iter()
            .map(|OperationForm { id, finished, result }| Operation {
                id: id.into_owned(),
                finished,
                result,
                polls: Default::default(),
            })
            .collect();
        let result = operations.back().and_then(|operation| operation.result.clone());
        let mut device = Self::default();
        device.challenge = form.challenge;
        device.last_key = form.last_key.map(Cow::into_owned);
        device.last = if form.is_last_the_result { result } else { form.last };
        device.enrollment = form.enrollment.map(Cow::into_owned);
        (device.operations, device.running) = (operations, form.running);
        device.hub = form.hub.into_owned();
        device.set_record(form.record.map(Cow::into_owned));
        Ok(device)
    }
}
