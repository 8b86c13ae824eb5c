//! TPM attestation over real sockets, with a software TPM. The emulator encrypts keys for the TPM as the service does.

#[path = "support/network.rs"]
mod network;
mod support;
#[path = "support/tpm.rs"]
mod tpm;

use azure_dps::{
    Error, Provisioning,
    error::{ErrorCode, Fault},
    identity::Sign,
    provisioning::{Endpoint, Substatus},
};
use azure_dps_emulator::{Config, Emulator, EndorsementKey, IndividualEnrollment, TpmAttestation};
use network::*;
use support::*;
use tpm::*;

const ID: &str = "gateway-7";

/// Starts a service in which the TPM is enrolled as `gateway-7`.
fn enrolled() -> Emulator {
    let mut config = Config::contoso();
    config.behaviour.retry_after = Some(1);
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: ID.into(),
        tpm: Some(TpmAttestation {
            endorsement_key: EndorsementKey::from_base64(&endorsement_key(&TPM)).unwrap(),
            storage_root_key: None,
        }),
        ..IndividualEnrollment::default()
    });
    let emulator = Emulator::builder(config).http("127.0.0.1:0").https("127.0.0.1:0").mqtts("127.0.0.1:0");
    emulator.time_scale(1000.0).start().unwrap()
}

fn url(emulator: &Emulator, transport: Transport) -> String {
    match transport {
        Transport::EmbeddedIoTls | Transport::EmbeddedIoAsyncTls => emulator.https_url().unwrap().into(),
        Transport::MqttTls => emulator.mqtts_url().unwrap().replace("mqtts://", "https://"),
        _ => emulator.http_url().unwrap().into(),
    }
}

/// Provisions, imports the key for the hub into the TPM, and returns `true` if the assignment was the first.
fn run(emulator: &Emulator, transport: Transport, machine: &mut Machine) -> Result<bool, Error> {
    let url = url(emulator, transport);
    let registration = registration(ID).with_payload(PAYLOAD).unwrap();
    let endpoint = Endpoint::parse(&url).unwrap();
    let mut provisioning = Provisioning::new(registration, machine.attestation()).with_endpoint(endpoint);
    let mut buffer = [0; 2048];
    let assignment = provision(&mut provisioning, machine, transport, emulator.ca_pem(), &mut buffer)?;
    machine.activate(assignment.tpm_authentication_key().unwrap()).unwrap();
    assert_eq!(assignment.device_id(), ID);
    Ok(assignment.substatus() == Some(Substatus::InitialAssignment))
}

/// A challenge, at least two signed requests, and a different key for the hub.
#[test]
fn a_tpm_is_provisioned() {
    for transport in TRANSPORTS.into_iter().filter(|&transport| transport != Transport::MqttTls) {
        let emulator = enrolled();
        let mut machine = Machine::new(&TPM);
        assert_eq!(run(&emulator, transport, &mut machine), Ok(true), "{transport:?}");
        assert_eq!(machine.activated.len(), 2);
        assert_ne!(machine.activated[0], machine.activated[1]);
        let signed: Vec<_> = emulator.requests().iter().map(|request| request.authorization).collect();
        assert!(!signed[0] && signed.len() > 2 && signed[1..].iter().all(|&signed| signed), "{signed:?}");

        // The next run does not sign with the hub's key.
        assert_eq!(run(&emulator, transport, &mut machine), Ok(false), "{transport:?}");
    }
}

/// Another TPM fails, with its own keys and with the enrolled keys. The enrolled TPM still succeeds.
#[test]
fn another_tpm_is_refused() {
    let emulator = enrolled();
    for transport in [Transport::EmbeddedIo, Transport::EmbeddedIoAsyncTls, Transport::Minreq] {
        let refused = run(&emulator, transport, &mut Machine::new(&OTHER_TPM)).unwrap_err();
        assert_eq!((refused.code(), refused.fault()), (Some(ErrorCode::ENROLLMENT_NOT_FOUND), Fault::Refused));
        let mut impostor = Machine { shown: &TPM, ..Machine::new(&OTHER_TPM) };
        assert!(matches!(run(&emulator, transport, &mut impostor), Err(Error::Tpm(_))));
        assert!(run(&emulator, transport, &mut Machine::new(&TPM)).is_ok(), "{transport:?}");
    }
}

/// The service does not offer TPM attestation over MQTT.
#[test]
fn there_are_no_tpms_over_mqtt() {
    let emulator = enrolled();
    assert_eq!(run(&emulator, Transport::MqttTls, &mut Machine::new(&TPM)), Err(Error::Unsupported));
}

/// The service challenges a look-up like a registration.
#[test]
fn a_look_up_returns_the_hub() {
    let emulator = enrolled();
    let mut machine = Machine::new(&TPM);
    run(&emulator, Transport::EmbeddedIo, &mut machine).unwrap();
    let url = url(&emulator, Transport::EmbeddedIo);
    let mut provisioning =
        Provisioning::lookup(registration(ID), machine.attestation()).with_endpoint(Endpoint::parse(&url).unwrap());
    let mut buffer = [0; 2048];
    let assignment = provision(&mut provisioning, &mut machine, Transport::EmbeddedIo, "", &mut buffer).unwrap();
    assert_eq!(assignment.assigned_hub(), emulator.device(ID).unwrap().assigned_hub);
    assert_eq!(emulator.device(ID).unwrap().registrations, 1);
}
