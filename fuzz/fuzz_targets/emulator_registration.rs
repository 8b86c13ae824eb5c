//! Requests to the emulator after TLS and framing, with tokens, certificates and TPM keys. Each answer is a documented
//! one, and the library reads it correctly. Only a device that proved its identity gets a hub.
//!
//! A part is a request. Its first line has `register`, `status` or `look-up`, the registration ID, and the proof:
//! `token`, `certificates` or the content of `Authorization`. The other lines are the body. A part `certificates` sets
//! the chain for all later requests.

#![no_main]

use std::sync::LazyLock;

use azure_dps::{Attestation, IdScope, Provisioning, RegistrationId, provisioning::Answer};
use azure_dps_emulator::Operation;
use azure_dps_emulator::fuzzing::{Request, Service};
use azure_dps_fuzz::{
    Emulator, ID_SCOPE, NOW, check_answer, contains, first_line, parts, percent_decoded, said, signature, token,
};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::new);

const MEMBER: &[u8] = include_bytes!("../certificates/member.der");
const LONE: &[u8] = include_bytes!("../certificates/lone.der");

fuzz_target!(|input: &[u8]| {
    EMULATOR.run(input.len() & 1 != 0, async |service| converse(service, input).await);
});

async fn converse(service: &Service, input: &[u8]) {
    let mut chain = Vec::new();
    let mut operation_id = String::new();
    let mut let_in = Vec::new();
    for part in parts(input) {
        let (line, body) = first_line(part);
        if line == "certificates" {
            chain = certificates(body);
            continue;
        }
        let mut words = line.splitn(3, ' ');
        let operation = match words.next() {
            Some("register") => Operation::Register,
            Some("status") => Operation::Status,
            _ => Operation::Lookup,
        };
        let registration_id = words.next().unwrap_or_default();
        let token = token(registration_id);
        let (authorization, shown) = match words.next() {
            Some("token") => (token.as_deref(), &[][..]),
            Some("certificates") => (None, &chain[..]),
            other => (other, &[][..]),
        };
        let request = Request {
            operation,
            operation_id: &operation_id,
            id_scope: ID_SCOPE,
            registration_id,
            authorization,
            certificates: shown,
            shown_at: NOW,
            body,
        };
        let (status, body) = service.answer(&request).await;
        let json = check_answer(status, body.as_bytes());
        if matches!(status, 200 | 202) && said(&json) != Some("failed") {
            let is_token = token
                .as_deref()
                .zip(authorization)
                .is_some_and(|(token, shown)| contains(&percent_decoded(shown.as_bytes()), &signature(token)));
            let is_certificate =
                authorization.is_none() && shown.first().is_some_and(|leaf| **leaf == *MEMBER || **leaf == *LONE);
            assert!(is_token || is_certificate, "{line}: {json}");
            let_in.push(registration_id.to_ascii_lowercase());
        }
        if status == 200 && said(&json) == Some("assigned") {
            check_assignment(registration_id, operation == Operation::Lookup, body.as_bytes());
        }
        if let Some(id) = json["operationId"].as_str() {
            id.clone_into(&mut operation_id);
        }
        // Registrations continue after their answers.
        tokio::task::yield_now().await;
    }
    let devices = service.forget();
    assert!(devices.iter().all(|device| let_in.contains(&device.registration_id.to_ascii_lowercase())), "{devices:?}");
}

/// DER says how long it is.
fn certificates(mut der: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut chain = Vec::new();
    while let [0x30, 0x82, high, low, ..] = der {
        let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        let Some((certificate, rest)) = der.split_at_checked(length) else { break };
        chain.push(certificate.to_vec().into());
        der = rest;
    }
    // The emulator must detect invalid bytes.
    if !der.is_empty() {
        chain.push(der.to_vec().into());
    }
    chain
}

/// The library reads the assignment correctly.
fn check_assignment(registration_id: &str, is_look_up: bool, body: &[u8]) {
    let Ok(id) = RegistrationId::new(registration_id) else { return };
    let registration = azure_dps::Registration::new(IdScope::new(ID_SCOPE).unwrap(), id);
    let mut provisioning = match is_look_up {
        true => Provisioning::lookup(registration, Attestation::x509()),
        false => Provisioning::new(registration, Attestation::x509()),
    };
    provisioning.start(Default::default(), NOW);
    provisioning.on_answer(Default::default(), Answer::new(200, None, body));
    match provisioning.result(body) {
        Ok(assignment) => assert!(assignment.assigned_hub().starts_with("hub-")),
        Err(error) => panic!("{error}: {}", String::from_utf8_lossy(body)),
    }
}
