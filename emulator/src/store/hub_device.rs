//! The state of a device at its hub, except for its twin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::{
    certificate::Certificate,
    key::{SymmetricKey, kept, kept_option},
};

/// Whether the hub has a device, and lets it connect.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum HubStatus {
    /// The device can connect.
    #[default]
    Enabled,
    /// The device is disabled at the hub: it cannot connect, and the hub keeps its twin.
    Disabled,
    /// The device was removed from the hub, or another registration took its device ID. The next registration creates
    /// the device again.
    Removed,
}

/// The state of a device at its hub, except for its twin. It is empty if the device has no hub.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct HubDevice {
    pub(crate) authentication: Authentication,
    /// The subscriptions that the hub keeps after a connection with clean session 0.
    pub(crate) session: Option<Filters>,
}

/// The credentials that the hub accepts from a device. DPS sets them with each assignment.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) enum Authentication {
    /// An older version of the emulator assigned the device and did not keep this.
    #[default]
    Unknown,
    /// The keys of the device: its own keys, the keys derived from its group's keys, or the key for its TPM.
    Keys {
        #[serde(with = "kept")]
        primary: SymmetricKey,
        #[serde(with = "kept_option")]
        secondary: Option<SymmetricKey>,
    },
    /// The certificates of the device.
    Certificates(Vec<Certificate>),
    /// The CAs that sign the certificate of the device.
    Authorities(Vec<Certificate>),
}

/// The subscriptions of a session with their QoS: 0 or 1.
pub(crate) type Filters = BTreeMap<Filter, u8>;

/// A documented topic filter of the device side. The topics are in `doors/mqtt/hub_topics.rs`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Filter {
    TwinAnswers,
    DesiredChanges,
    CloudToDevice,
    Methods,
    Credentials,
}
