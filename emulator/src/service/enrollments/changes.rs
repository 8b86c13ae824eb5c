//! Creates, changes, reads and deletes enrollments through the service API.

use super::{
    input::{Input, id_member},
    output::{Keys, Mechanism, Output},
    rules,
    update::{Ended, end_registrations},
};
use crate::{
    config::settings::Settings,
    service::{
        Service,
        answer::json,
        error::ServiceError,
        if_match,
        json_body::{self, bad_member},
        registrations::DeviceRegistrationState,
    },
    store::{
        Store,
        device::Device,
        enrollments::{Entry, EntryRef, Kind},
    },
};

/// The condition for setting an enrollment.
#[derive(Clone, Copy)]
pub(super) enum Condition<'a> {
    /// No enrollment has this ID.
    New,
    /// An enrollment has this ID.
    Known,
    /// An enrollment with this ID has this entity tag, or any tag for `*`.
    Matching(&'a str),
}

impl Service {
    /// Creates an enrollment, or changes it if the client sends `If-Match`.
    pub(crate) fn put_enrollment(
        &self,
        kind: Kind,
        id: &str,
        body: &[u8],
        if_match: Option<&str>,
    ) -> Result<String, ServiceError> {
        let input: Input = json_body::read(body)?;
        if !input.id(kind)?.eq_ignore_ascii_case(id) {
            return Err(bad_member(id_member(kind), "the path has another ID"));
        }
        let condition = if_match.map_or(Condition::New, Condition::Matching);
        let put = |store: &mut Store| {
            let ended = self.put(store, &self.settings(), kind, input, condition)?;
            Ok((document(store, kind, id)?, ended))
        };
        self.shared.store.change(put, |(document, ended)| {
            self.stop(ended);
            document
        })
    }

    /// Sets an enrollment. Returns the registrations that this ended.
    pub(super) fn put(
        &self,
        store: &mut Store,
        settings: &Settings,
        kind: Kind,
        input: Input,
        condition: Condition<'_>,
    ) -> Result<Vec<Ended>, ServiceError> {
        let id = input.id(kind)?.to_owned();
        let stored = store.enrollments.get(kind, &id);
        match (condition, stored) {
            (Condition::New, Some(_)) => return Err(ServiceError::enrollment_exists(&id)),
            (Condition::Known | Condition::Matching(_), None) => return Err(unknown(kind, &id)),
            (Condition::Matching(etag), Some(stored)) => if_match::check(Some(etag), &stored.stamp.etag)?,
            (Condition::New, None) | (Condition::Known, Some(_)) => {}
        }
        let stored = stored.map(|stored| stored.entry);
        let entry = input.entry(kind, stored)?;
        rules::check(&entry, &settings.known())?;
        // Only the configuration file may name a webhook on any host.
        if let Some(url) = webhook_url(entry.as_ref())
            && stored.and_then(webhook_url) != Some(url)
        {
            self.check_webhook(url).map_err(|fault| bad_member("customAllocationDefinition.webhookUrl", fault))?;
        }
        self.set(store, settings, entry)
    }

    /// Sets an enrollment that has been checked.
    fn set(&self, store: &mut Store, settings: &Settings, entry: Entry) -> Result<Vec<Ended>, ServiceError> {
        let only = match &entry {
            Entry::Group(_) => None,
            Entry::Individual(individual) => Some(individual.registration_id.clone()),
        };
        store
            .enrollments
            .put(entry)
            .map_err(|_| ServiceError::throttled(&settings.behaviour, "there is no room for more enrollments"))?;
        Ok(end_registrations(store, &settings.behaviour, only.as_deref()))
    }

    /// Returns an enrollment without its keys.
    pub(crate) fn read_enrollment(&self, kind: Kind, id: &str) -> Result<String, ServiceError> {
        document(&self.store(), kind, id)
    }

    /// Deletes an enrollment. A running registration of the enrollment ends.
    ///
    /// "Deleting an enrollment group doesn't delete the registration records for devices in the group." The hub also
    /// keeps the devices.
    pub(crate) fn delete_enrollment(&self, kind: Kind, id: &str, if_match: Option<&str>) -> Result<(), ServiceError> {
        let delete = |store: &mut Store| self.delete(store, &self.settings(), kind, id, if_match);
        self.shared.store.change(delete, |ended| self.stop(ended))
    }

    /// Deletes an enrollment. Returns the registrations that this ended.
    pub(super) fn delete(
        &self,
        store: &mut Store,
        settings: &Settings,
        kind: Kind,
        id: &str,
        if_match: Option<&str>,
    ) -> Result<Vec<Ended>, ServiceError> {
        let stored = store.enrollments.get(kind, id).ok_or_else(|| unknown(kind, id))?;
        if_match::check(if_match, &stored.stamp.etag)?;
        store.enrollments.remove(kind, id);
        Ok(end_registrations(store, &settings.behaviour, (kind == Kind::Individual).then_some(id)))
    }

    /// Returns the attestation of an enrollment with its keys.
    pub(crate) fn attestation_mechanism(&self, kind: Kind, id: &str) -> Result<String, ServiceError> {
        let store = self.store();
        let stored = store.enrollments.get(kind, id).ok_or_else(|| unknown(kind, id))?;
        Ok(json(&Mechanism::of(stored.entry, Keys::Told)))
    }

    /// Enables or disables an enrollment.
    pub(crate) fn enable_enrollment(&self, kind: Kind, id: &str, enabled: bool) -> Result<(), ServiceError> {
        let enable = |store: &mut Store| {
            let mut entry = store.enrollments.get(kind, id).ok_or_else(|| unknown(kind, id))?.entry.to_entry();
            if *entry.enabled_mut() == enabled {
                return Ok(Vec::new());
            }
            *entry.enabled_mut() = enabled;
            self.set(store, &self.settings(), entry)
        };
        self.shared.store.change(enable, |ended| self.stop(ended))
    }
}

fn unknown(kind: Kind, id: &str) -> ServiceError {
    let what = if kind == Kind::Group { "enrollment group" } else { "individual enrollment" };
    let detail = format!("there is no {what} {id:?}");
    let message = format!("Enrollment not found: {detail}.");
    ServiceError { message, ..ServiceError::no_enrollment(detail) }
}

fn document(store: &Store, kind: Kind, id: &str) -> Result<String, ServiceError> {
    let stored = store.enrollments.get(kind, id).ok_or_else(|| unknown(kind, id))?;
    // An individual enrollment includes the state of its device.
    let device = store.devices.get(id).filter(|device| {
        kind == Kind::Individual && device.enrollment.as_ref().is_some_and(|(came_through, _)| *came_through == kind)
    });
    let state = device.and_then(Device::last);
    Ok(json(&Output::new(stored, state.map(DeviceRegistrationState::from))))
}

fn webhook_url(entry: EntryRef<'_>) -> Option<&str> {
    entry.common().allocation.webhook_url.as_deref()
}
