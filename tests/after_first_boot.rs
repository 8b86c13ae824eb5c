//! The life of a device with the emulator. The tests count the requests that the service bills.

#[path = "support/network.rs"]
mod network;
mod support;

use std::time::Duration;

use azure_dps::{
    Attestation, DeviceKey, Error, Provisioning, RetryPolicy,
    after::{HubOutcome, Next, Record, Reprovisioning, ReprovisioningPolicy},
    error::TransportError,
    identity::{Csr, KeyChoice},
    provisioning::Endpoint,
};
use azure_dps_emulator::{Config, Emulator, IndividualEnrollment, ReprovisionPolicy, SymmetricKey};
use network::*;
use support::*;

const OLD_HUB: &str = TOASTERS_HUB;
const NEW_HUB: &str = HEAT_PUMPS_HUB;
const OTHER_KEY: &str = "6uejA9PfkQgmYylj8Zerp3kcbeVrGZ172YLa7VSnJzg=";

/// Creates a service with one device, which is assigned to the first hub.
fn service(primary: &str, secondary: Option<&str>) -> Emulator {
    Emulator::builder(service_config(primary, secondary)).http("127.0.0.1:0").start().unwrap()
}

fn service_config(primary: &str, secondary: Option<&str>) -> Config {
    let key = |text| SymmetricKey::from_base64(text).unwrap();
    let mut config =
        Config { id_scope: SCOPE.into(), linked_hubs: vec![OLD_HUB.into(), NEW_HUB.into()], ..Config::default() };
    let mut enrollment = IndividualEnrollment {
        registration_id: TOASTER.into(),
        primary_key: key(primary),
        secondary_key: secondary.map(key),
        reprovision_policy: ReprovisionPolicy::Migrate,
        ..Default::default()
    };
    enrollment.allocation.policy = azure_dps_emulator::AllocationPolicy::Static;
    enrollment.allocation.iot_hubs = vec![OLD_HUB.into()];
    config.individual_enrollments.push(enrollment);
    config.behaviour.retry_after = Some(1);
    config
}

fn count(emulator: &Emulator, method: &str) -> usize {
    emulator.requests().iter().filter(|request| request.method == method).count()
}

struct Device {
    flash: Vec<u8>,
    csr: Option<Vec<u8>>,
    keys: [&'static str; 2],
    now: Duration,
    /// The hosts that the device connected to, for each boot.
    connected: Vec<(String, KeyChoice)>,
}

impl Device {
    fn new(keys: [&'static str; 2]) -> Self {
        Self { flash: vec![0xff; 8192], csr: None, keys, now: Duration::ZERO, connected: Vec::new() }
    }

    /// Runs the device from power-on until a hub accepts it.
    fn boot(&mut self, emulator: &Emulator, hub: impl Fn(&str, KeyChoice) -> HubOutcome) {
        let csr = self.csr.clone();
        let mut registration = registration(TOASTER);
        if let Some(csr) = &csr {
            registration = registration.with_csr(Csr::from_der(csr).unwrap());
        }
        let flash = self.flash.clone();
        let policy = ReprovisioningPolicy::new().with_lookup();
        let mut life = Reprovisioning::new(registration.registration_id(), policy, Record::read(&flash, &registration));
        let mut keys = self.keys.map(|key| DeviceKey::from_base64(key).unwrap());
        loop {
            let next = life.next(self.now);
            let (key, provisioning): (_, fn(_, _) -> _) = match next {
                Next::Wait(wait) => {
                    self.now += wait;
                    continue;
                }
                Next::Hub(key) => {
                    let record = Record::read(&self.flash, &registration).unwrap();
                    let host = record.assignment().hub().host();
                    let answer = hub(host, key);
                    life.on_hub(self.now, answer);
                    if answer == HubOutcome::Accepted {
                        self.connected.push((host.into(), key));
                        return;
                    }
                    continue;
                }
                Next::LookUp(key) => (key, Provisioning::lookup),
                Next::Register(key) => (key, Provisioning::new),
            };
            let endpoint = Endpoint::parse(emulator.http_url().unwrap()).unwrap();
            let mut provisioning =
                provisioning(registration, Attestation::symmetric_key()).with_endpoint(endpoint).with_first_key(key);
            let mut buffer = [0; 8192];
            if provision(&mut provisioning, &mut keys, Transport::EmbeddedIo, "", &mut buffer).is_err() {
                life.on_failed(self.now, &provisioning);
                continue;
            }
            if life.on_assigned(self.now, &provisioning.result(&buffer).unwrap(), provisioning.key()) {
                let record = provisioning.write_record(&mut buffer).unwrap();
                self.flash.fill(0xff);
                self.flash[..record.len()].copy_from_slice(record);
            }
        }
    }
}

#[test]
fn a_thousand_boots_cause_one_registration_and_a_rejection_by_the_hub_a_second() {
    let emulator = service(TOASTER_KEY, None);
    let mut device = Device::new([TOASTER_KEY; 2]);
    for _ in 0..1000 {
        device.boot(&emulator, |_, _| HubOutcome::Accepted);
    }
    assert_eq!((count(&emulator, "PUT"), count(&emulator, "POST")), (1, 0));
    assert!(device.connected.iter().all(|(hub, _)| hub == OLD_HUB));

    // The operator moves the device. Its hub no longer knows it, and the device is not informed.
    emulator.update(|config| config.individual_enrollments[0].allocation.iot_hubs = vec![NEW_HUB.into()]);
    let hubs = |hub: &str, _| if hub == NEW_HUB { HubOutcome::Accepted } else { HubOutcome::Refused(401) };
    device.connected.clear();
    for _ in 0..1000 {
        device.boot(&emulator, hubs);
    }
    assert_eq!((count(&emulator, "PUT"), count(&emulator, "POST")), (2, 1));
    assert!(device.connected.iter().all(|(hub, _)| hub == NEW_HUB));
    assert_eq!(emulator.device(TOASTER).unwrap().registrations, 2);
}

#[test]
fn a_record_that_was_lost_costs_a_look_up_and_no_registration() {
    let emulator = service(TOASTER_KEY, None);
    let mut device = Device::new([TOASTER_KEY; 2]);
    device.boot(&emulator, |_, _| HubOutcome::Accepted);
    // Power is lost while the record is written again.
    device.flash[200..].fill(0xff);
    device.boot(&emulator, |_, _| HubOutcome::Accepted);
    assert_eq!((count(&emulator, "PUT"), count(&emulator, "POST")), (1, 1));
    // The result of the look-up was stored.
    device.boot(&emulator, |_, _| HubOutcome::Accepted);
    assert_eq!((count(&emulator, "PUT"), count(&emulator, "POST")), (1, 1));
    assert_eq!(device.connected, vec![(OLD_HUB.to_owned(), KeyChoice::Primary); 3]);
}

#[test]
fn the_secondary_key_is_used_after_the_primary_was_rolled_over() {
    // The operator replaced the primary key.
    let emulator = service(OTHER_KEY, Some(TOASTER_KEY));
    let mut device = Device::new([GROUP_KEY, TOASTER_KEY]);
    let hub = |_: &str, key| if key == KeyChoice::Secondary { HubOutcome::Accepted } else { HubOutcome::Refused(401) };
    for _ in 0..10 {
        device.boot(&emulator, hub);
    }
    let refused = emulator.requests().iter().filter(|request| request.http_status == Some(401)).count();
    assert_eq!((refused, count(&emulator, "PUT")), (1, 2));
    assert!(device.connected.iter().all(|(_, key)| *key == KeyChoice::Secondary));
}

/// A look-up would return the new hub, but not the certificate that the device needs there.
#[test]
fn a_device_with_an_issued_certificate_keeps_one_when_it_is_moved() {
    let emulator = service(TOASTER_KEY, None);
    emulator.update(|config| config.individual_enrollments[0].certificate_policy = Some("policy".into()));
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, TOASTER);
    let request = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let mut device = Device { csr: Some(request.der().to_vec()), ..Device::new([TOASTER_KEY; 2]) };
    let chain = |device: &Device| {
        let registration = registration(TOASTER);
        let record = Record::read(&device.flash, &registration).unwrap();
        record.assignment().issued_certificate_chain().map(Iterator::count)
    };
    device.boot(&emulator, |_, _| HubOutcome::Accepted);
    assert_eq!(chain(&device), Some(3));

    // The operator moves the device, and another program registers it.
    emulator.update(|config| config.individual_enrollments[0].allocation.iot_hubs = vec![NEW_HUB.into()]);
    Device::new([TOASTER_KEY; 2]).boot(&emulator, |_, _| HubOutcome::Accepted);
    let hubs = |hub: &str, _| if hub == NEW_HUB { HubOutcome::Accepted } else { HubOutcome::Refused(401) };
    device.boot(&emulator, hubs);
    assert_eq!(device.connected.last().unwrap().0, NEW_HUB);
    assert_eq!(chain(&device), Some(3));
    assert_eq!((count(&emulator, "PUT"), count(&emulator, "POST")), (3, 0));
}

/// The first boot of a device with a wrong clock or wrong roots, over every transport. Then the same with correct
/// values. The test counts the requests that reached the service.
#[test]
fn a_register_request_counts_only_if_it_was_sent() {
    // minreq trusts only the roots of this machine, so its TLS handshake fails.
    let transports = TRANSPORTS.into_iter().chain([Transport::Minreq]).enumerate();
    for (row, transport) in transports {
        let [service, stranger] = [(); 2].map(|()| {
            let builder = Emulator::builder(service_config(TOASTER_KEY, None))
                .http("127.0.0.1:0")
                .https("127.0.0.1:0")
                .mqtts("127.0.0.1:0");
            builder.start().unwrap()
        });
        let is_plain = transport == Transport::EmbeddedIo || row == TRANSPORTS.len();
        let url = match transport {
            _ if is_plain => service.http_url().unwrap().to_owned(),
            Transport::MqttTls => service.mqtts_url().unwrap().replace("mqtts", "https"),
            _ => service.https_url().unwrap().to_owned(),
        };
        let run = |ca: &str, url: &str| {
            let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::symmetric_key())
                .with_endpoint(Endpoint::parse(url).unwrap())
                .with_retry_policy(RetryPolicy::new().with_max_retries(0));
            let mut buffer = [0; 2048];
            let result = provision(&mut provisioning, &mut toaster_key(), transport, ca, &mut buffer).map(|_| ());
            (result, provisioning.register_was_sent())
        };
        if !is_plain {
            assert_eq!(run(stranger.ca_pem(), &url), (Err(Error::Untrusted), false), "{transport:?}");
            assert_eq!(service.requests().len(), 0);
        }
        if is_plain || transport != Transport::Minreq {
            assert_eq!(run(service.ca_pem(), &url), (Ok(()), true), "{transport:?}");
        }
        if transport != Transport::MqttTls {
            let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let unconnected = Err(Error::Transport(TransportError::Connect));
            assert_eq!(run(service.ca_pem(), &format!("http://{nobody}")), (unconnected, false), "{transport:?}");
        }
    }
}
