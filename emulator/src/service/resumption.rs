//! Registrations that were running when the emulator stopped.

use std::sync::Arc;

use super::{
    Service, enrollment::Enrollment, enrollments::update::end_registrations, failure::Failure,
    issuance::CertificateRequest, registration::Job,
};
use crate::store::{Store, registration_state::RegistrationState, running::Running, shared::NotKept};

impl Service {
    /// Continues registrations that were running when the emulator stopped, with the same operation IDs. They call
    /// the webhook again, and use the present enrollments and settings.
    pub(crate) fn resume(self: &Arc<Self>) {
        let resumed = self.change(|store| {
            let settings = self.settings();
            // These registrations have no tasks yet, so there is nothing to stop.
            end_registrations(store, &settings.behaviour, None);
            let running: Vec<_> = store.devices.iter().filter_map(|(_, device)| device.running().cloned()).collect();
            let mut jobs = Vec::new();
            for running in running {
                match self.job(store, &running) {
                    Ok(job) => jobs.push(job),
                    Err(Failure { code, message }) => {
                        let state = RegistrationState::failed(&running.registration_id, code, message);
                        if let Some(device) = store.devices.get_mut(&running.registration_id) {
                            device.end(state.stored(&running.created));
                        }
                    }
                }
            }
            Ok::<_, NotKept>(jobs)
        });
        match resumed {
            Ok(jobs) => {
                for job in jobs {
                    // No request waits for this task.
                    drop(self.run(Box::new(job)));
                }
            }
            Err(NotKept(why)) => self.shared.journal.note("data", format!("no registration continues: {why}")),
        }
    }

    /// Returns the input of a registration that continues.
    fn job(&self, store: &Store, running: &Arc<Running>) -> Result<Job, Failure> {
        let settings = self.settings();
        let (kind, id) = &running.enrollment;
        let attested = running.attested.clone();
        let stored = store.enrollments.get(*kind, id).ok_or_else(Failure::enrollment_gone)?;
        let enrollment = Enrollment::new(stored, attested, &settings, &running.registration_id);
        let device = store.devices.get(&running.registration_id).ok_or_else(Failure::enrollment_gone)?;
        let has_policy = enrollment.certificate_policy.is_some();
        let csr = running.csr.as_deref();
        let request = CertificateRequest::wanted(csr, &running.registration_id, has_policy, &settings.behaviour)
            .map_err(|refusal| Failure::not_issued(&refusal.detail))?;
        Ok(Job::new(&settings, device, enrollment, request, Arc::clone(running)))
    }
}
