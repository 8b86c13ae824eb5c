//! What DPS does. `doors` call [`Service`], and `store` keeps the data.

mod admission;
mod allocation;
mod answer;
pub(crate) mod api_version;
mod assignment;
mod attestation;
pub(crate) mod authorities;
mod device_registration;
mod enrollment;
mod enrollment_json;
mod enrollments;
mod error;
mod failure;
mod hub_identity;
mod if_match;
pub(crate) mod inspection;
pub(crate) mod issuance;
mod jobs;
mod json_body;
mod operations;
mod paging;
pub(crate) mod policies;
mod query;
mod registration;
mod registrations;
pub(crate) mod replay;
pub(crate) mod request;
mod reset;
mod resumption;
pub(crate) mod script;
pub(crate) mod trust;
pub(crate) mod views;
pub(crate) mod webhook;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;

pub(crate) use self::{answer::Answer, error::ServiceError};
use self::{
    issuance::IssuingCa,
    jobs::Jobs,
    script::{Action, Operation, Script, Scripts},
    trust::Trust,
    webhook::calls::Webhooks,
};
use crate::{
    clock::{self, Clock, window::Window},
    config::{Behaviour, Config, settings::Settings},
    hub::shared::Shared,
    store::{
        Store,
        device::DeviceRecord,
        shared::{NotKept, Reading},
    },
    watch::journal::Journal,
};

/// "Max message 96 KB".
pub(crate) const MAX_BODY: usize = 96 * 1024;

/// The most calls of webhooks that the control API repeats at the same time.
const REPLAYS: usize = 16;

/// The service: its settings, its state and its webhooks.
pub(crate) struct Service {
    shared: Arc<Shared>,
    jobs: Jobs,
    registrations: Mutex<Window>,
    operations: Mutex<Window>,
    scripts: Mutex<Scripts>,
    webhooks: Webhooks,
    /// The webhook that is called if neither enrollment nor configuration has a URL.
    contoso_url: Option<String>,
    issuing_ca: IssuingCa,
    trust: Trust,
    /// The configuration that [`Service::reset`] restores.
    initial: Config,
    replays: Semaphore,
}

/// A panic elsewhere, such as in a closure of a test, must not stop the service.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub(crate) fn new(
        shared: Arc<Shared>,
        initial: Config,
        contoso_url: Option<String>,
        issuing_ca: IssuingCa,
        trust: Trust,
    ) -> Self {
        let webhooks = Webhooks::new(shared.clock, Arc::clone(&shared.journal)).with_built_in(contoso_url.clone());
        Self {
            shared,
            jobs: Jobs::default(),
            registrations: Mutex::default(),
            operations: Mutex::default(),
            scripts: Mutex::default(),
            webhooks,
            contoso_url,
            issuing_ca,
            trust,
            initial,
            replays: Semaphore::new(REPLAYS),
        }
    }

    /// Returns the store for reading.
    fn store(&self) -> Reading<'_> {
        self.shared.store.read()
    }

    /// Changes the store and writes it to disk: see [`SharedStore::change`].
    fn change<T, E: From<NotKept>>(&self, change: impl FnOnce(&mut Store) -> Result<T, E>) -> Result<T, E> {
        self.shared.store.change(change, |changed| changed)
    }

    /// Returns the present settings. Later changes do not affect the returned value.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.shared.settings.read()
    }

    pub(crate) fn clock(&self) -> Clock {
        self.shared.clock
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Returns how long a client may take for each step.
    pub(crate) fn patience(&self) -> Duration {
        clock::wait(self.settings().behaviour.client_timeout)
    }

    pub(crate) fn device(&self, registration_id: &str) -> Option<DeviceRecord> {
        self.store().devices.get(registration_id)?.record().cloned()
    }

    pub(crate) fn push_script(&self, script: Script) {
        lock(&self.scripts).push(script);
    }

    /// Adds a script unless the queue is full.
    pub(crate) fn try_push_script(&self, script: Script) -> Result<(), script::Full> {
        lock(&self.scripts).try_push(script)
    }

    /// Returns the waiting scripts, in their order.
    pub(crate) fn scripts(&self) -> Vec<Script> {
        lock(&self.scripts).waiting().cloned().collect()
    }

    pub(crate) fn clear_scripts(&self) {
        lock(&self.scripts).clear();
    }

    pub(crate) fn take_script(&self, operation: Operation, registration_id: &str) -> Option<Script> {
        let drop_every = self.settings().behaviour.drop_every;
        lock(&self.scripts).take(operation, registration_id, drop_every)
    }

    /// Answers a request with the result of `ask`, unless a script changes the answer. The caller applies the
    /// script's faults to the connection.
    pub(crate) async fn perform(
        &self,
        script: Option<Script>,
        ask: impl Future<Output = Result<Answer, ServiceError>>,
    ) -> (Answer, Action) {
        if let Some(script) = &script {
            self.shared.clock.sleep(script.delay).await;
        }
        let action = script.map_or(Action::Nothing, |script| script.action);
        let mut answer = match &action {
            Action::Respond { status, headers, body } => Answer::scripted(*status, headers, body.clone()),
            Action::Raw(bytes) => Answer::scripted(200, &[], String::from_utf8_lossy(bytes).into_owned()),
            _ => ask.await.unwrap_or_else(|error| Answer::refusal(&error, &self.settings().behaviour)),
        };
        match &action {
            Action::Merge(patch) => answer.merge(patch),
            Action::Cut(bytes) => answer.outcome = format!("{}, cut after {bytes} bytes by a script", answer.outcome),
            Action::OmitRetryAfter => answer.retry_after = None,
            Action::Nothing | Action::Respond { .. } | Action::Raw(_) | Action::PermuteTopic => {}
        }
        (answer, action)
    }

    /// Counts a registration against the quota.
    fn admit_registration(&self, behaviour: &Behaviour) -> Result<(), ServiceError> {
        let limit = behaviour.registrations_per_minute;
        self.admit(&self.registrations, limit, behaviour, "too many registrations in a minute")
    }

    /// Counts a poll or a look-up against the quota.
    fn admit_operation(&self, behaviour: &Behaviour) -> Result<(), ServiceError> {
        let limit = behaviour.operations_per_minute;
        self.admit(&self.operations, limit, behaviour, "too many operations in a minute")
    }

    fn admit(
        &self,
        window: &Mutex<Window>,
        limit: Option<u32>,
        behaviour: &Behaviour,
        why: &str,
    ) -> Result<(), ServiceError> {
        if lock(window).admit(self.shared.clock.elapsed(), Duration::from_secs(60), limit) {
            Ok(())
        } else {
            Err(ServiceError::throttled(behaviour, why))
        }
    }

    /// Forgets everything except the settings and enrollments. Returns the devices that had a hub.
    #[cfg(fuzzing)]
    pub(crate) fn forget(&self) -> Vec<DeviceRecord> {
        let forget = |store: &mut Store| {
            let records = store.devices.iter().filter_map(|(_, device)| device.record().cloned()).collect();
            store.devices.reset();
            Ok::<_, NotKept>(records)
        };
        let forgotten = self.shared.store.change(forget, |records| {
            self.forget_all_but_the_store();
            records
        });
        forgotten.unwrap_or_default()
    }
}
