//! Tests of a hub whose store is set up as DPS sets it up.

mod sessions_follow;
mod twins_change;
mod who_connects;

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose};
use sha2::Sha256;

use super::{Hub, admission::HubConnect, shared::Shared};
use crate::{
    clock::Clock,
    config::{Config, Twin},
    identity::{ca::Ca, certificate::Certificate, ids, key::SymmetricKey},
    store::{
        Store,
        device::DeviceRecord,
        hub_device::{Authentication, HubDevice, HubStatus},
        registration_state::Substatus,
        shared::NotKept,
    },
    watch::journal::Journal,
};

const TOASTERS: &str = "toasters.example";
const PUMPS: &str = "pumps.example:9883";
const NOW: u64 = 1_800_000_000;
const PRIMARY: &[u8; 32] = b"the primary key of the device...";
const SECONDARY: &[u8; 32] = b"the secondary key of the device.";

fn key(bytes: &[u8]) -> SymmetricKey {
    SymmetricKey::from_base64(&BASE64_STANDARD.encode(bytes)).unwrap()
}

fn keys() -> Authentication {
    Authentication::Keys { primary: key(PRIMARY), secondary: Some(key(SECONDARY)) }
}

fn hub_with(issuing_ca: Certificate) -> Hub {
    let config = Config {
        id_scope: "0ne1".to_owned(),
        linked_hubs: [TOASTERS, PUMPS, "empty.example"].map(str::to_owned).to_vec(),
        ..Config::default()
    };
    let clock = Clock::new(1.0);
    let journal = Arc::new(Journal::new(clock, None, false));
    let shared = Shared::open(config, clock, journal, None, Arc::default(), None).unwrap();
    Hub::new(Arc::new(shared), issuing_ca)
}

fn hub() -> Hub {
    hub_with(certificate(&ca()))
}

/// Returns a CA with its own name and key.
fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, ids::guid());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ca::root(params).unwrap()
}

fn certificate(ca: &Ca) -> Certificate {
    Certificate::from_pem(ca.pem()).unwrap()
}

/// Puts a device at a hub, as DPS does.
fn assign(hub: &Hub, registration_id: &str, at: &str, device_id: &str, authentication: Authentication, twin: Twin) {
    let change = |store: &mut Store| {
        store.devices.get_or_add(registration_id).unwrap();
        let record = DeviceRecord {
            registration_id: registration_id.to_owned(),
            enrollment_id: "group".to_owned(),
            assigned_hub: at.to_owned(),
            device_id: device_id.to_owned(),
            substatus: Substatus::InitialAssignment,
            hub_status: HubStatus::Enabled,
            twin: twin.into(),
            registrations: 1,
            registered: true,
        };
        store.devices.assign(record, HubDevice { authentication, session: None }).unwrap();
        Ok::<_, NotKept>(())
    };
    hub.shared.store.change(change, |()| ()).unwrap();
}

fn signed(key: &[u8], sr: &str, se: u64, rest: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{sr}\n{se}").as_bytes());
    let sig = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    format!("SharedAccessSignature sr={sr}&sig={}&se={se}{rest}", utf8_percent_encode(&sig, NON_ALPHANUMERIC))
}

/// Returns a token as Microsoft's clients for Node and Python make it.
fn token(hub: &str, device_id: &str) -> String {
    let resource = format!("{hub}/devices/{device_id}");
    signed(PRIMARY, &utf8_percent_encode(&resource, NON_ALPHANUMERIC).to_string(), NOW + 3600, "")
}

fn connect<'a>(hub: &'a str, device_id: &'a str, password: &'a str) -> HubConnect<'a> {
    HubConnect {
        hub,
        device_id,
        module_id: None,
        client_id: device_id,
        password: Some(password),
        certificates: &[],
        server_name: None,
        shown_at: NOW,
    }
}
