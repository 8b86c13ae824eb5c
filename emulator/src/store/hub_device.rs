//! What a hub knows of a device, besides its twin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::{
    certificate::Certificate,
    key::{SymmetricKey, kept, kept_option},
};

/// What the hub does with a device.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum HubStatus {
    /// The device can connect.
    #[default]
    Enabled,
    /// The device was disabled at the hub: it cannot connect, and its twin is kept.
    Disabled,
    /// The device was removed from the hub, or another registration took its device ID there. The next registration
    /// creates the device again.
    Removed,
}

/// What a hub knows of a device, besides its twin. It is empty if the device has no hub.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct HubDevice {
    pub(crate) authentication: Authentication,
    /// The session that the hub keeps after a connection with clean session 0: its subscriptions.
    pub(crate) session: Option<Filters>,
}

/// How a device proves to its hub who it is. DPS writes it with each assignment.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) enum Authentication {
    /// The device was assigned before the emulator kept this.
    #[default]
    Unknown,
    /// The keys of the device: its own, those derived from the keys of its group, or the key for its TPM.
    Keys {
        #[serde(with = "kept")]
        primary: SymmetricKey,
        #[serde(with = "kept_option")]
        secondary: Option<SymmetricKey>,
    },
    /// The certificates of the device.
    Certificates(Vec<Certificate>),
    /// CAs that sign the certificate of the device.
    Authorities(Vec<Certificate>),
}

/// The subscriptions of a session, each with its QoS: 0 or 1.
pub(crate) type Filters = BTreeMap<Filter, u8>;

/// A documented topic filter of the device side. The topics are in `doors/hub_mqtt.rs`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Filter {
    TwinAnswers,
    DesiredChanges,
    CloudToDevice,
    Methods,
    Credentials,
}
