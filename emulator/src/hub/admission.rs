//! Checks CONNECT at a hub: which devices are let in, and what the log says about the others.
//!
//! A hub rejects every CONNECT with the same code, so only the log can say what was wrong.

use rustls::pki_types::CertificateDer;

use super::{Hub, admitted::Admitted, credentials::Shown};
use crate::{
    config::{Behaviour, settings::Settings},
    identity::ids,
    net::host::without_port,
    store::{
        Store,
        device::{Device, DeviceRecord},
        hub_device::{Authentication, HubStatus},
    },
    watch::text::excerpt,
};

/// The fields and credentials of a CONNECT at a hub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HubConnect<'a> {
    /// The name of the hub in the user name, perhaps with a port.
    pub(crate) hub: &'a str,
    pub(crate) device_id: &'a str,
    /// The module in the user name.
    pub(crate) module_id: Option<&'a str>,
    pub(crate) client_id: &'a str,
    pub(crate) password: Option<&'a str>,
    /// The certificates of the TLS handshake, the device's own first.
    pub(crate) certificates: &'a [CertificateDer<'static>],
    /// The host that the device dialled, from the TLS handshake.
    pub(crate) server_name: Option<&'a str>,
    /// When the device showed this, in seconds since 1970.
    pub(crate) shown_at: u64,
}

/// A device that is not let in.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// What was wrong and how to correct it, for the log only.
    pub(crate) why: String,
    /// The registration ID, if the hub or DPS knows the device.
    pub(crate) registration_id: Option<String>,
    pub(crate) answer: RefusalAnswer,
}

/// The return code for a device that is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RefusalAnswer {
    /// The device cannot connect as it is. CONNACK 5.
    NotAuthorized,
    /// The device can connect later. CONNACK 3.
    Unavailable,
}

impl Refused {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), registration_id: None, answer: RefusalAnswer::NotAuthorized }
    }

    fn of(self, registration_id: &str) -> Self {
        Self { registration_id: Some(registration_id.to_owned()), ..self }
    }
}

/// A device that the hub knows.
struct Known {
    registration_id: String,
    hub: String,
    authentication: Authentication,
}

impl Hub {
    /// Lets a device in, or returns why not.
    pub(crate) fn admit(&self, connect: &HubConnect<'_>) -> Result<Admitted, Refused> {
        let settings = self.shared.settings.read();
        if is_unavailable(&settings.behaviour, connect.hub) {
            let why = format!("{} is unavailable: it is in unavailable_hubs", excerpt(connect.hub));
            return Err(Refused { answer: RefusalAnswer::Unavailable, ..Refused::new(why) });
        }
        let known = find(&self.shared.store.read(), &settings, connect)?;
        // Verify signatures without the lock of the store.
        let Known { registration_id, hub, authentication } = known;
        let shown = Shown {
            hub: connect.hub,
            device_id: connect.device_id,
            registration_id: &registration_id,
            password: connect.password.filter(|password| !password.is_empty()),
            certificates: connect.certificates,
            shown_at: connect.shown_at,
            leeway: u64::from(settings.behaviour.token_leeway),
        };
        match shown.check(&authentication, &self.issuing_ca) {
            Ok(token_expiry) => {
                Ok(Admitted { registration_id, hub, device_id: connect.device_id.to_owned(), token_expiry })
            }
            Err(why) => Err(Refused::new(why).of(&registration_id)),
        }
    }
}

/// Finds the device, and checks everything except its credentials.
fn find(store: &Store, settings: &Settings, connect: &HubConnect<'_>) -> Result<Known, Refused> {
    let HubConnect { hub, device_id, .. } = *connect;
    let Some((key, device)) = store.devices.at_hub(hub, device_id) else {
        let (why, registration_id) = unknown(store, settings, connect);
        return Err(Refused { registration_id, ..Refused::new(why) });
    };
    let record = device.record();
    let registration_id = record.map_or(key, |record| &record.registration_id);
    check(settings, connect, record).map_err(|why| Refused::new(why).of(registration_id))?;
    Ok(Known {
        registration_id: registration_id.to_owned(),
        hub: record.map_or(hub, |record| &record.assigned_hub).to_owned(),
        authentication: device.hub.authentication.clone(),
    })
}

/// Checks a CONNECT of a device that is at the hub.
fn check(settings: &Settings, connect: &HubConnect<'_>, record: Option<&DeviceRecord>) -> Result<(), String> {
    let HubConnect { hub, device_id, client_id, .. } = *connect;
    if let Some(module_id) = connect.module_id {
        return Err(format!(
            "the user name names the module {:?}: modules are not emulated. Connect as the device, with the user name \
             {hub}/{device_id}/?api-version=2021-04-12",
            excerpt(module_id)
        ));
    }
    if client_id != device_id {
        return Err(format!(
            "the client ID is {:?}, but the device ID in the user name is {device_id:?}: both must be the same",
            excerpt(client_id)
        ));
    }
    if let Some(other) = connect.server_name.and_then(|dialled| other_hub(settings, dialled, hub)) {
        return Err(format!(
            "the device dialed {other:?} (TLS server name), but its user name names {hub:?}: use assignedHub of DPS's \
             answer for both"
        ));
    }
    match record.map(|record| record.hub_status) {
        Some(HubStatus::Disabled) => {
            Err(format!("{device_id} is disabled at {hub}: enable it there. An enabled enrollment is not enough"))
        }
        _ => Ok(()),
    }
}

/// Returns `true` if the configuration makes the hub unavailable.
pub(super) fn is_unavailable(behaviour: &Behaviour, hub: &str) -> bool {
    behaviour.unavailable_hubs.iter().any(|unavailable| ids::is_same_hub(unavailable, hub))
}

/// Returns the linked hub that a device dialled, if it is not the hub of the user name. Names of gateways and
/// `localhost` are not hubs.
fn other_hub<'a>(settings: &'a Settings, dialled: &str, named: &str) -> Option<&'a str> {
    let is_dialled = |hub: &&String| without_port(hub).eq_ignore_ascii_case(dialled);
    let other = settings.linked_hubs.iter().find(is_dialled)?;
    (!without_port(named).eq_ignore_ascii_case(dialled)).then_some(other)
}

/// Returns why a device is not at the hub of its user name, and its registration ID if it is known.
fn unknown(store: &Store, settings: &Settings, connect: &HubConnect<'_>) -> (String, Option<String>) {
    let HubConnect { hub, device_id, .. } = *connect;
    let (shown_hub, shown_id) = (excerpt(hub), excerpt(device_id));
    let devices = &store.devices;
    // Look for the ID at another hub first, then for a removed device at this hub.
    let named: Vec<_> = devices.named(device_id).filter_map(|(_, device)| device.record()).collect();
    let elsewhere = named.iter().find(|record| record.hub_status != HubStatus::Removed);
    if let Some(record) = elsewhere {
        let why = format!(
            "{shown_id} is not at {shown_hub}: DPS assigned it to {}. Connect there, or ask DPS again",
            record.assigned_hub
        );
        return (why, Some(record.registration_id.clone()));
    }
    if let Some(record) = named.iter().find(|record| ids::is_same_hub(&record.assigned_hub, hub)) {
        let why = format!(
            "{shown_id} was removed from {shown_hub}, or another registration took its device ID: register with DPS \
             again, which creates the device"
        );
        return (why, Some(record.registration_id.clone()));
    }
    // Find the device by its registration ID, which has no case.
    let same = devices.get(device_id).and_then(Device::at_hub);
    if let Some(record) = same.filter(|record| ids::is_same_hub(&record.assigned_hub, hub)) {
        let why = format!(
            "{shown_hub} has no device {shown_id:?}: the ID of this device there is {:?}. Device IDs are \
             case-sensitive: use deviceId of DPS's answer",
            record.device_id
        );
        return (why, Some(record.registration_id.clone()));
    }
    if !settings.linked_hubs.iter().any(|linked| ids::is_same_hub(linked, hub)) {
        let linked = match &*settings.linked_hubs {
            [] => "none".to_owned(),
            hubs => excerpt(&hubs.join(", ")),
        };
        return (format!("{shown_hub:?} is not a linked hub. Linked hubs: {linked}"), None);
    }
    (format!("{shown_hub} has no device {shown_id:?}: the device must register with DPS first"), None)
}
