//! The configuration: ID scope, hubs, enrollments and behavior.

pub(crate) mod behaviour;
mod check;
mod contoso;
pub(crate) mod document;
pub(crate) mod enrollments;
mod error;
pub(crate) mod finding;
pub(crate) mod policies;
pub(crate) mod rules;
pub(crate) mod settings;
pub(crate) mod twin_limits;
mod unreadable;
mod warnings;
pub(crate) mod webhook_url;

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

pub use self::{
    behaviour::Behaviour,
    contoso::ContosoOptions,
    enrollments::{
        Allocation, AllocationPolicy, CaCertificate, CaReferences, EnrollmentGroup, IndividualEnrollment,
        ReprovisionPolicy, TpmAttestation, Twin, X509Attestation,
    },
    error::ConfigError,
    finding::Finding,
    policies::{Policy, Right, WELL_KNOWN_SERVICE_KEY},
};
use crate::identity::key::SymmetricKey;

/// The configuration of an emulator.
///
/// Read it from TOML with [`Config::from_toml`], or build it in code. Every field is public, and `..Default::default()`
/// sets the other fields.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The ID scope of the devices. In the path of a request, case matters; in a token, it does not.
    #[serde(default)]
    pub id_scope: String,
    /// Host names of the linked hubs. A name may have a port (`localhost:8443`). Then `assignedHub` has
    /// the port, too.
    #[serde(default)]
    pub linked_hubs: Vec<String>,
    /// The webhook of custom allocation. An enrollment may have another. If absent, the emulator starts
    /// the built-in Contoso webhook.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// Options of the built-in Contoso webhook.
    #[serde(default, deserialize_with = "table")]
    pub contoso: ContosoOptions,
    /// Enrollments for many devices, each with a key derived from the group's.
    #[serde(default)]
    pub enrollment_groups: Vec<EnrollmentGroup>,
    /// Enrollments for one device each. They take precedence over groups.
    #[serde(default)]
    pub individual_enrollments: Vec<IndividualEnrollment>,
    /// The CAs that enrollment groups may name in `ca_references`. The service has the same list of certificates.
    #[serde(default)]
    pub ca_certificates: Vec<CaCertificate>,
    /// Who may call the service API, besides the owner. An entry for `provisioningserviceowner` replaces the owner's
    /// key and rights.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// How the service answers.
    #[serde(default, deserialize_with = "table")]
    pub behaviour: Behaviour,
}

impl Config {
    /// Returns the configuration of Microsoft's tutorial "Use custom allocation policies": its ID scope, group key and
    /// two hubs, and the Contoso webhook.
    #[must_use]
    pub fn contoso() -> Self {
        let hubs = ["contoso-toasters-hub-1098.azure-devices.net", "contoso-heatpumps-hub-1098.azure-devices.net"]
            .map(str::to_owned)
            .to_vec();
        // The 64-byte key that the tutorial prints, in base64. It is not a secret.
        let primary_key = "oiK77Oy7rBw8YB6IS6ukRChAw+Yq6GC61RMrPLSTiOOtdI+XDu0LmLuNm11p+qv2I+adqGUdZHm46zXAQdZoOA==";
        Self {
            id_scope: "0ne00002193".to_owned(),
            linked_hubs: hubs.clone(),
            enrollment_groups: vec![EnrollmentGroup {
                enrollment_group_id: "contoso-custom-allocated-devices".to_owned(),
                primary_key: SymmetricKey::from_base64(primary_key).unwrap_or_default(),
                allocation: Allocation { policy: AllocationPolicy::Custom, iot_hubs: hubs, ..Allocation::default() },
                ..EnrollmentGroup::default()
            }],
            behaviour: Behaviour { polls_before_result: 1, ..Behaviour::default() },
            ..Self::default()
        }
    }
}

/// Accepts a table only. serde also reads a list of values, so `[[behaviour]]` would pass.
fn table<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Table<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Table<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Table(PhantomData))
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("id_scope", &self.id_scope)
            .field("linked_hubs", &self.linked_hubs)
            .field("webhook_url", &self.webhook_url.as_deref().map(webhook_url::masked))
            .field("contoso", &self.contoso)
            .field("enrollment_groups", &self.enrollment_groups)
            .field("individual_enrollments", &self.individual_enrollments)
            .field("ca_certificates", &self.ca_certificates)
            .field("policies", &self.policies)
            .field("behaviour", &self.behaviour)
            .finish()
    }
}
