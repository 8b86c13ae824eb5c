//! The configuration without its enrollments, which the store keeps.

use super::{Behaviour, Config, ContosoOptions, EnrollmentGroup, IndividualEnrollment};

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) id_scope: String,
    pub(crate) linked_hubs: Vec<String>,
    pub(crate) webhook_url: Option<String>,
    contoso: ContosoOptions,
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
            behaviour,
        } = config;
        let settings = Self { id_scope, linked_hubs, webhook_url, contoso, behaviour };
        (settings, enrollment_groups, individual_enrollments)
    }

    /// The whole configuration with these enrollments.
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
            behaviour: self.behaviour.clone(),
        }
    }
}
