//! A run of any kind that is given any answers at any times, and errors in between: it ends, and
//! no hub, certificate or key appears that no answer contained.
//!
//! The first part is what runs: `key`, `certificate` or `tpm`; `registration` or `look-up`; in the lines
//! below the DER of a `csr`. Each other part is what happens then, and after how many seconds:
//! `200 SECONDS RETRY-AFTER` and in the lines below a body, `failure SECONDS KIND`, or `lost SECONDS`, when
//! the driver lost track and asks again.

#![no_main]

use std::time::Duration;

use azure_dps::http;
use azure_dps::identity::tpm::{AuthenticationKey, Tpm, TpmError};
use azure_dps::{Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy, error::TransportFault, identity::{Csr, Sign, SignError}, provisioning::{Answer, Step}};
use azure_dps_fuzz::{contains, first_line, parts};
use libfuzzer_sys::fuzz_target;

/// A TPM that takes what is no more than malformed.
struct Chip;

impl Sign for Chip {
    fn sign(&mut self, _: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        signature.fill(7);
        Ok(())
    }
}

impl Tpm for Chip {
    fn endorsement_key(&self) -> &[u8] {
        b"\x00\x02EK"
    }

    fn storage_root_key(&self) -> &[u8] {
        b"\x00\x03SRK"
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        key.decode(&mut [0; 256]).map(|_| ()).map_err(|_| TpmError::new("the challenge is no base64"))
    }
}

fuzz_target!(|input: &[u8]| {
    let mut parts = parts(input);
    let (run, der) = first_line(parts.next().unwrap_or_default());
    let (attestation, kind) = run.split_once(' ').unwrap_or_default();
    let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap();
    let mut chip = Chip;
    let credential = match attestation {
        "certificate" => Attestation::x509(),
        "tpm" => Credential::tpm(&mut chip),
        _ => Credential::sas(&mut key),
    };
    let mut registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let csr = Csr::from_der(der).ok();
    if let Some(csr) = csr {
        registration = registration.with_csr(csr);
    }
    let mut provisioning = match kind {
        "look-up" => Provisioning::lookup(registration, credential),
        _ => Provisioning::new(registration, credential),
    };
    let mut last: &[u8] = &[];
    let mut now = Duration::ZERO;
    let mut buffer = vec![0; 1024 + 2 * der.len()];
    provisioning.start(now, 1_700_000_000);
    for _ in 0..10_000 {
        match provisioning.step(now) {
            Step::Wait(wait) => {
                now += wait;
                assert!(now < RetryPolicy::new().timeout, "a wait never outlasts the run");
            }
            Step::Send => {
                let len = http::write_request(&mut provisioning, now, &mut buffer).unwrap();
                assert!(!contains(&buffer[..len], b"Authorization: ") || attestation != "certificate");
                let Some((event, body)) = parts.next().map(first_line) else {
                    provisioning.on_error(now, Error::Transport(TransportFault::Closed));
                    continue;
                };
                let mut words = event.split(' ');
                let event = words.next().unwrap_or_default();
                let seconds = words.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0_u16);
                now += Duration::from_secs(seconds.into());
                let last_word = words.next();
                match event {
                    "lost" => {}
                    "failure" => provisioning.on_error(
                        now,
                        match last_word {
                            Some("connect") => Error::Transport(TransportFault::Connect),
                            Some("stalled") => Error::Transport(TransportFault::Stalled),
                            Some("untrusted") => Error::Untrusted,
                            _ => Error::Transport(TransportFault::Closed),
                        },
                    ),
                    status => {
                        last = body;
                        let retry_after = last_word.and_then(|seconds| seconds.parse().ok());
                        provisioning.on_answer(now, Answer::new(status.parse().unwrap_or(200), retry_after, body));
                    }
                }
            }
            Step::Finished => {
                let _ = provisioning.details(last).map(|details| details.message().map(|text| text.to_string()));
                let Ok(assignment) = provisioning.result(last) else { return };
                assert!(contains(last, assignment.assigned_hub().as_bytes()));
                let _ = (assignment.owned::<32>(), assignment.substatus(), assignment.enrollment_group_id());
                let mut buffer = [0; 512];
                if let Some(key) = assignment.tpm_authentication_key() {
                    assert!(contains(last, key.text().raw().as_bytes()));
                    let _ = key.decode(&mut buffer);
                }
                if let (Some(chain), Some(csr)) = (assignment.issued_certificate_chain(), csr)
                    && let Ok(leaf) = chain.leaf(&csr, &mut buffer)
                {
                    let mut each = [0; 512];
                    assert!(
                        chain.into_iter().any(|certificate| certificate.decode(&mut each).is_ok_and(|der| der == leaf))
                    );
                }
                return;
            }
        }
    }
    panic!("the run does not end");
});
