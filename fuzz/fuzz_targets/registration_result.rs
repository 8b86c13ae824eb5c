//! A run of any kind that is given any answers at any times, and errors in between: it ends, and
//! no hub, certificate or key appears that no answer contained.

#![no_main]

use std::time::Duration;

use azure_dps::http;
use azure_dps::tpm::{AuthenticationKey, Tpm, TpmError};
use azure_dps::{
    Answer, Credential, Csr, DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, Sign, SignError,
    Step, TransportFault,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Run<'a> {
    attestation: Attestation,
    is_look_up: bool,
    csr: Option<&'a [u8]>,
    events: Vec<Event<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Attestation {
    Key,
    Certificate,
    Tpm,
}

#[derive(Arbitrary, Debug)]
enum Event<'a> {
    Answer {
        status: u16,
        retry_after: Option<u32>,
        seconds: u16,
        body: &'a [u8],
    },
    /// A kind of failure, after some seconds.
    Failure(u8, u16),
    /// The driver lost track, and asks again.
    Lost(u16),
}

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
        key.decode(&mut [0; 256]).map(|_| ()).map_err(|_| TpmError)
    }
}

fuzz_target!(|run: Run<'_>| {
    let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap();
    let mut chip = Chip;
    let credential = match run.attestation {
        Attestation::Key => Credential::sas(&mut key),
        Attestation::Certificate => Credential::x509(),
        Attestation::Tpm => Credential::tpm(&mut chip),
    };
    let mut registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let csr = run.csr.and_then(|der| Csr::from_der(der).ok());
    if let Some(csr) = csr {
        registration = registration.with_csr(csr);
    }
    let mut provisioning = match run.is_look_up {
        true => Provisioning::lookup(registration, credential),
        false => Provisioning::new(registration, credential),
    };
    let mut events = run.events.into_iter();
    let mut last: &[u8] = &[];
    let mut now = Duration::ZERO;
    let mut buffer = vec![0; 1024 + 2 * run.csr.map_or(0, <[u8]>::len)];
    provisioning.start(now, 1_700_000_000);
    for _ in 0..10_000 {
        match provisioning.step(now) {
            Step::Wait(wait) => {
                assert!(wait <= Duration::from_secs(300));
                now += wait;
            }
            Step::Send => {
                let len = http::write_request(&mut provisioning, now, &mut buffer).unwrap();
                let has_token = buffer[..len].windows(15).any(|window| window == b"Authorization: ");
                assert!(!has_token || !matches!(run.attestation, Attestation::Certificate));
                match events.next() {
                    Some(Event::Answer { status, retry_after, seconds, body }) => {
                        now += Duration::from_secs(seconds.into());
                        last = body;
                        provisioning.on_answer(now, Answer::new(status, retry_after, body));
                    }
                    Some(Event::Lost(seconds)) => now += Duration::from_secs(seconds.into()),
                    Some(Event::Failure(kind, seconds)) => {
                        now += Duration::from_secs(seconds.into());
                        let error = match kind % 4 {
                            0 => Error::Transport(TransportFault::Closed),
                            1 => Error::Transport(TransportFault::Connect),
                            2 => Error::Transport(TransportFault::Stalled),
                            _ => Error::Untrusted,
                        };
                        provisioning.on_error(now, error);
                    }
                    None => provisioning.on_error(now, Error::Transport(TransportFault::Closed)),
                }
            }
            Step::Finished => {
                let _ = provisioning.details(last).map(|details| details.message().map(|text| text.to_string()));
                let Ok(assignment) = provisioning.result(last) else { return };
                let contains = |part: &[u8]| last.windows(part.len()).any(|window| window == part);
                assert!(contains(assignment.assigned_hub().as_bytes()));
                let _ = (assignment.owned::<32>(), assignment.substatus(), assignment.enrollment_group_id());
                let mut buffer = [0; 512];
                if let Some(key) = assignment.tpm_authentication_key() {
                    assert!(contains(key.text().raw().as_bytes()));
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
