//! A run with any answers at any times, and errors in between. The run ends, and reports no hub, certificate or key
//! that no answer contained.
//!
//! The first part names the run: `key`, `keys` (two), `certificate` or `tpm`, then `registration` or `look-up`, then
//! the DER of a `csr`. Each other part is an event after some seconds: `200 SECONDS RETRY-AFTER` and a body, `failure
//! SECONDS KIND`, or `lost SECONDS` if the driver lost the request and asks again.

#![no_main]

use std::time::Duration;

use azure_dps::{
    Attestation, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy,
    error::TransportError,
    http,
    identity::{
        Csr, KeyChoice, NoKey, Sign, SignError,
        tpm::{AuthenticationKey, TpmError, TpmKeys},
    },
    provisioning::{Answer, Step},
};
use azure_dps_fuzz::{contains, first_line, parts};
use libfuzzer_sys::fuzz_target;

/// A TPM that activates every key that can be decoded.
struct Chip;

const TPM: TpmKeys<'_> = TpmKeys { endorsement_key: b"\x00\x02EK", storage_root_key: b"\x00\x03SRK" };

impl Sign for Chip {
    fn sign(&mut self, _: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        signature.fill(7);
        Ok(())
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        key.decode(&mut [0; 256]).map(|_| ()).map_err(|_| TpmError::new("the challenge is not base64"))
    }
}

fuzz_target!(|input: &[u8]| {
    let mut parts = parts(input);
    let (run, der) = first_line(parts.next().unwrap_or_default());
    let (attestation, kind) = run.split_once(' ').unwrap_or_default();
    let mut keys = [DeviceKey::new(), DeviceKey::new()];
    keys[0].read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap();
    keys[1].read_base64("mLuX8iKJeTzKlqiDGmQ7zzEDeSxWiBHEsLGmL/BOEmQ=").unwrap();
    let (mut chip, mut no_key) = (Chip, NoKey);
    let (attestation, signer, signatures): (_, &mut dyn Sign, _) = match attestation {
        "certificate" => (Attestation::x509(), &mut no_key, 0),
        // One for each challenge.
        "tpm" => (Attestation::tpm(TPM), &mut chip, 2),
        "keys" => (Attestation::symmetric_key(), &mut keys, 2),
        _ => (Attestation::symmetric_key(), &mut keys[0], 1),
    };
    let mut registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let csr = Csr::from_der(der).ok();
    if let Some(csr) = csr {
        registration = registration.with_csr(csr);
    }
    let mut provisioning = match kind {
        "look-up" => Provisioning::lookup(registration, attestation),
        _ => Provisioning::new(registration, attestation),
    };
    let mut last: &[u8] = &[];
    let mut now = Duration::ZERO;
    let mut buffer = vec![0; 1024 + 2 * der.len()];
    let mut signed = 0;
    provisioning.start(now, 1_700_000_000);
    for _ in 0..10_000 {
        match provisioning.step(now) {
            Step::Wait(wait) => {
                now += wait;
                assert!(now < RetryPolicy::new().timeout(), "a wait never outlasts the run");
            }
            Step::Sign => {
                provisioning.sign_with(signer, &mut buffer).unwrap();
                signed += 1;
                assert!(signed <= signatures, "signed {signed} times");
                assert!(provisioning.key() == KeyChoice::Primary || signed == 2);
            }
            Step::Activate => {
                let challenge = provisioning.challenge(last).unwrap();
                assert!(contains(last, challenge.text().raw().as_bytes()));
                if let Err(error) = provisioning.activate_with(signer, last) {
                    provisioning.on_error(now, error);
                }
            }
            Step::Send => {
                let len = http::write_request(&mut provisioning, now, &mut buffer).unwrap();
                assert_eq!(contains(&buffer[..len], b"Authorization: "), signed > 0);
                let Some((event, body)) = parts.next().map(first_line) else {
                    provisioning.on_error(now, Error::Transport(TransportError::Closed));
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
                            Some("connect") => Error::Transport(TransportError::Connect),
                            Some("stalled") => Error::Transport(TransportError::Stalled),
                            Some("untrusted") => Error::Untrusted,
                            _ => Error::Transport(TransportError::Closed),
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
