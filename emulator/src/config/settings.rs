//! The configuration without its enrollments. The store keeps the enrollments.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Behaviour, CaCertificate, Config, ContosoOptions, EnrollmentGroup, IndividualEnrollment, Policy, rules::Known,
};
use crate::identity::certificate::Certificate;

/// The settings that DPS and the hub share. They change only while the store is locked, so that settings and
/// enrollments match.
pub(crate) struct SharedSettings(watch::Sender<Arc<Settings>>);

impl SharedSettings {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(watch::Sender::new(Arc::new(settings)))
    }

    /// Returns the current settings. Later changes do not affect the returned value.
    pub(crate) fn read(&self) -> Arc<Settings> {
        Arc::clone(&self.0.borrow())
    }

    /// Returns a receiver that is notified when the settings change.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Settings>> {
        self.0.subscribe()
    }

    pub(crate) fn set(&self, settings: Settings) {
        self.0.send_replace(Arc::new(settings));
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) id_scope: String,
    pub(crate) linked_hubs: Vec<String>,
    pub(crate) webhook_url: Option<String>,
    contoso: ContosoOptions,
    ca_certificates: Vec<CaCertificate>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) behaviour: Behaviour,
}

impl Settings {
    /// Separates the settings from the enrollments.
    pub(crate) fn split(config: Config) -> (Self, Vec<EnrollmentGroup>, Vec<IndividualEnrollment>) {
        let Config {
            id_scope,
            linked_hubs,
            webhook_url,
            contoso,
            enrollment_groups,
            individual_enrollments,
            ca_certificates,
            policies,
            behaviour,
        } = config;
        let settings = Self { id_scope, linked_hubs, webhook_url, contoso, ca_certificates, policies, behaviour };
        (settings, enrollment_groups, individual_enrollments)
    }

    /// Returns these settings with another behavior.
    pub(crate) fn with(&self, behaviour: Behaviour) -> Self {
        Self { behaviour, ..self.clone() }
    }

    /// Returns the whole configuration with these enrollments.
    pub(crate) fn join(
        &self,
        enrollment_groups: Vec<EnrollmentGroup>,
        individual_enrollments: Vec<IndividualEnrollment>,
    ) -> Config {
        Config {
            id_scope: self.id_scope.clone(),
            linked_hubs: self.linked_hubs.clone(),
            webhook_url: self.webhook_url.clone(),
            contoso: self.contoso.clone(),
            enrollment_groups,
            individual_enrollments,
            ca_certificates: self.ca_certificates.clone(),
            policies: self.policies.clone(),
            behaviour: self.behaviour.clone(),
        }
    }

    /// Returns what a new or changed enrollment can refer to.
    pub(crate) fn known(&self) -> Known<'_> {
        Known { linked_hubs: &self.linked_hubs, ca_certificates: &self.ca_certificates }
    }

    /// Returns the CA with this name.
    pub(crate) fn ca_certificate(&self, name: &str) -> Option<&Certificate> {
        self.ca_certificates.iter().find(|ca| ca.name.eq_ignore_ascii_case(name)).map(|ca| &ca.certificate)
    }
}
