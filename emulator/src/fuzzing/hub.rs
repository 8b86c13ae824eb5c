//! Two hubs and one device. The caller polls the connections.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    clock::Clock,
    config::{Config, twin_limits::Part},
    doors::mqtt::Mqtt,
    hub::{Hub, shared::Shared},
    identity::key::SymmetricKey,
    net::protocol::{Peer, Protocol},
    service::{Service, issuance::IssuingCa, trust::Trust, webhook::allowed::AllowedHosts},
    store::{
        Store,
        device::DeviceRecord,
        hub_device::{Authentication, HubDevice, HubStatus},
        registration_state::Substatus,
        shared::NotKept,
        twin::DeviceTwin,
    },
    watch::journal::Journal,
};

/// The registration ID of the device, and its ID at its hub.
pub const DEVICE: &str = "d";
/// The hubs. The device starts at the first one.
pub const HUBS: [&str; 2] = ["hub-1", "hub-2"];

/// The hubs.
pub struct Hubs {
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    door: Mqtt,
    key: SymmetricKey,
}

/// An action of an operator.
pub enum Operator {
    /// Changes the desired properties with this JSON, if it is an object.
    Patch(Vec<u8>),
    Disable,
    Enable,
    Remove,
    /// DPS assigns the device to the other hub, or creates a removed device again.
    Move,
    /// Makes all hubs unavailable, or available again.
    Unavailable(bool),
    Disconnect,
}

/// The state of the device at the hubs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    pub is_connected: bool,
    pub is_enabled: bool,
    pub desired_version: u64,
    pub reported_version: u64,
    pub messages: u64,
    /// `true` if a session is kept.
    pub has_session: bool,
}

impl Hubs {
    /// Creates the hubs.
    ///
    /// # Errors
    ///
    /// Returns an error if no CA can be created.
    pub fn new(device_key: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let config =
            Config { id_scope: "0ne1".to_owned(), linked_hubs: HUBS.map(str::to_owned).to_vec(), ..Config::default() };
        let issuing_ca = IssuingCa::generate()?;
        let trust = Trust { owner_key: None, is_local: true, webhook_hosts: AllowedHosts::default() };
        let clock = Clock::new(1.0);
        let journal = Arc::new(Journal::new(clock, None, false));
        let shared = Shared::open(config.clone(), clock, journal, None, Arc::default(), None);
        let shared = Arc::new(shared.map_err(|error| error.to_string())?);
        let hub = Arc::new(Hub::new(Arc::clone(&shared), issuing_ca.certificate()?));
        let service = Arc::new(Service::new(Arc::clone(&shared), config, None, issuing_ca, trust));
        let door = Mqtt { service, hub: Arc::clone(&hub), listener: "mqtt" };
        let hubs = Self { shared, hub, door, key: SymmetricKey::from_base64(device_key)? };
        hubs.reset();
        Ok(hubs)
    }

    /// Serves one connection until it ends.
    pub async fn mqtt(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let _ = self.door.speak(stream, Peer::default()).await;
    }

    pub fn operate(&self, operator: Operator) {
        let status = |status| {
            let _ = self.hub.set_enabled(DEVICE, status);
        };
        match operator {
            Operator::Patch(patch) => {
                if let Ok(Value::Object(desired)) = serde_json::from_slice(&patch) {
                    let _ = self.hub.patch_twin(DEVICE, None, Some(desired));
                }
            }
            Operator::Disable => status(false),
            Operator::Enable => status(true),
            Operator::Remove => {
                let _ = self.hub.remove_device(DEVICE);
            }
            Operator::Move => self.assign_elsewhere(),
            Operator::Unavailable(unavailable) => {
                let mut behaviour = self.shared.settings.read().behaviour.clone();
                behaviour.unavailable_hubs = if unavailable { HUBS.map(str::to_owned).to_vec() } else { Vec::new() };
                self.shared.settings.set(self.shared.settings.read().with(behaviour));
            }
            Operator::Disconnect => {
                self.hub.disconnect(DEVICE, "the operator disconnected it");
            }
        }
    }

    pub fn state(&self) -> State {
        let seen = self.hub.activity().seen(DEVICE);
        let store = self.shared.store.read();
        let device = store.devices.get(DEVICE);
        let record = device.and_then(|device| device.at_hub());
        let version = |version: fn(&DeviceTwin) -> u64| record.map_or(0, |record| version(&record.twin));
        State {
            is_connected: seen.is_connected,
            is_enabled: record.is_some_and(|record| record.hub_status == HubStatus::Enabled),
            desired_version: version(|twin| twin.desired_version),
            reported_version: version(|twin| twin.reported_version),
            messages: seen.messages,
            has_session: device.is_some_and(|device| device.hub.session.is_some()),
        }
    }

    /// Checks that the twin keeps the limits of a hub.
    ///
    /// # Errors
    ///
    /// Returns the limit that is exceeded.
    pub fn check_twin(&self) -> Result<(), String> {
        let store = self.shared.store.read();
        let Some(record) = store.devices.get(DEVICE).and_then(|device| device.at_hub()) else { return Ok(()) };
        Part::Tags.check(&record.twin.tags)?;
        Part::Desired.check(&record.twin.desired)?;
        Part::Reported.check(&record.twin.reported)
    }

    /// Restores the initial state. There must be no connection.
    pub fn reset(&self) {
        let twin = DeviceTwin {
            tags: Map::from_iter([("building".to_owned(), 43.into())]),
            desired: Map::from_iter([("state".to_owned(), "on".into())]),
            ..DeviceTwin::default()
        };
        self.assign(HUBS[0], twin);
        self.shared.activity.reset();
        self.shared.journal.reset();
        if !self.shared.settings.read().behaviour.unavailable_hubs.is_empty() {
            self.operate(Operator::Unavailable(false));
        }
    }

    fn assign_elsewhere(&self) {
        let current = self.shared.store.read().devices.get(DEVICE).and_then(|device| device.record().cloned());
        let Some(current) = current else { return };
        let hub = if current.assigned_hub == HUBS[0] { HUBS[1] } else { HUBS[0] };
        self.assign(hub, current.twin);
    }

    /// Puts the device at a hub, as DPS does.
    fn assign(&self, hub: &str, twin: DeviceTwin) {
        let record = DeviceRecord {
            registration_id: DEVICE.to_owned(),
            enrollment_id: DEVICE.to_owned(),
            assigned_hub: hub.to_owned(),
            device_id: DEVICE.to_owned(),
            substatus: Substatus::InitialAssignment,
            hub_status: HubStatus::Enabled,
            twin,
            registrations: 1,
            registered: true,
        };
        let authentication = Authentication::Keys { primary: self.key.clone(), secondary: None };
        let change = |store: &mut Store| {
            let _ = store.devices.get_or_add(DEVICE);
            let _ = store.devices.assign(record, HubDevice { authentication, session: None });
            Ok::<_, NotKept>(())
        };
        let _ = self.shared.store.change(change, |()| ());
    }
}
