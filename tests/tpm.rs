//! TPM attestation in the state machine: the first answer is a challenge, and the next register request is signed. The
//! TPM is scripted here. `examples/tpm` has a real one.

mod support;

use std::{cell::RefCell, rc::Rc, time::Duration};

use azure_dps::identity::tpm::{AuthenticationKey, TpmError, TpmKeys};
use azure_dps::{
    Attestation, Error, Provisioning,
    error::{ErrorCode, Fault, Malformed, TransportError},
    identity::{Sign, SignError},
    provisioning::Answer,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use support::*;

const ENDORSEMENT_KEY: &[u8] = b"\x00\x04EK: not a real one";
const STORAGE_ROOT_KEY: &[u8] = b"\x00\x05SRK?>";

/// A TPM that stores its input, and signs with the first byte of the last key.
#[derive(Default)]
struct FakeTpm {
    activated: Rc<RefCell<Vec<Vec<u8>>>>,
    refuses: bool,
}

impl Sign for FakeTpm {
    fn sign(&mut self, _message: &[u8], signature: &mut [u8; 32]) -> Result<(), SignError> {
        let activated = self.activated.borrow();
        signature.fill(activated.last().ok_or(SignError::new("no key was activated"))?[0]);
        Ok(())
    }

    fn activate(&mut self, key: AuthenticationKey<'_>) -> Result<(), TpmError> {
        if self.refuses {
            return Err(TpmError::new("another TPM's key"));
        }
        let mut buffer = [0; 1024];
        self.activated.borrow_mut().push(key.decode(&mut buffer)?.duplicate.to_vec());
        Ok(())
    }
}

/// Returns six parts with their lengths, as in the C SDK.
fn blob(duplicate: &[u8]) -> Vec<u8> {
    let parts: [&[u8]; 6] = [b"id object", &[7; 256], duplicate, &[8; 256], b"public", b""];
    parts.iter().flat_map(|part| (part.len() as u16).to_be_bytes().into_iter().chain(part.iter().copied())).collect()
}

fn challenge(duplicate: &[u8]) -> String {
    // .NET escapes a plus sign.
    let key = BASE64_STANDARD.encode(blob(duplicate)).replace('+', "\\u002b").replace('/', "\\/");
    format!(r#"{{"message":"Authorization required.","authenticationKey":"{key}","keyName":"registration"}}"#)
}

fn provisioning() -> Provisioning<'static> {
    let keys = TpmKeys { endorsement_key: ENDORSEMENT_KEY, storage_root_key: STORAGE_ROOT_KEY };
    Provisioning::new(registration("mydevice").with_payload(PAYLOAD).unwrap(), Attestation::tpm(keys))
}

/// Starts a run with a TPM. The second value has the keys that the TPM was given.
fn start<'p>(provisioning: &'p mut Provisioning<'static>) -> (Bench<'p, 'static>, Rc<RefCell<Vec<Vec<u8>>>>) {
    let tpm = FakeTpm::default();
    let activated = Rc::clone(&tpm.activated);
    (Bench::start(provisioning).signed_by(tpm), activated)
}

fn assigned() -> String {
    ASSIGNED.replace(TOASTER, "mydevice")
}

#[test]
fn challenge_then_signed_register_then_polls() {
    let mut provisioning = provisioning();
    let (mut bench, activated) = start(&mut provisioning);
    bench
        .run(&[
            answers(401, None, challenge(b"A key")),
            answers(202, Some(3), ASSIGNING),
            answers(200, None, assigned()),
        ])
        .unwrap();
    assert_eq!(bench.requests(), ["register", "register", "status"]);
    // The challenge is not a failure, so there is no wait.
    assert_eq!(bench.waits, [Duration::from_secs(3)]);
    let body = format!(
        r#"{{"registrationId":"mydevice","tpm":{{"endorsementKey":"{}","storageRootKey":"{}"}},"payload":{PAYLOAD}}}"#,
        BASE64_STANDARD.encode(ENDORSEMENT_KEY),
        BASE64_STANDARD.encode(STORAGE_ROOT_KEY)
    );
    let [first, second, poll] = bench.sent.try_into().unwrap();
    assert!(first.ends_with(&body), "{first}");
    assert!(!first.contains("Authorization"));
    assert!(second.ends_with(&body), "{second}");
    let token = second.lines().find(|line| line.starts_with("Authorization: ")).unwrap();
    let signature = BASE64_STANDARD.encode([b'A'; 32]).replace('=', "%3D");
    assert!(token.contains("sr=0ne00002193%2fregistrations%2fmydevice&"));
    assert!(token.contains(&format!("&sig={signature}&")), "{token}");
    assert!(token.ends_with("&skn=registration"));
    assert!(poll.contains(token));
    assert_eq!(*activated.borrow(), [b"A key"]);
}

#[test]
fn a_new_run_begins_without_a_token() {
    let mut provisioning = provisioning();
    for _ in 0..2 {
        let (mut bench, activated) = start(&mut provisioning);
        bench.run(&[answers(401, None, challenge(b"key")), answers(200, None, assigned())]).unwrap();
        assert_eq!(activated.borrow().len(), 1);
        assert!(!bench.sent[0].contains("Authorization"));
        assert!(bench.sent[1].contains("Authorization"));
    }
}

#[test]
fn a_register_request_that_got_lost_after_the_challenge_is_signed_again() {
    let mut provisioning = provisioning();
    let (mut bench, _) = start(&mut provisioning);
    bench
        .run(&[
            answers(401, None, challenge(b"key")),
            Peer::Fails(Error::Transport(TransportError::Closed)),
            answers(200, None, assigned()),
        ])
        .unwrap();
    assert!(bench.sent[2].contains("Authorization"));
}

/// The service lost the first challenge, as in a fail-over.
#[test]
fn a_second_challenge_in_a_run_is_answered_and_a_third_is_a_refusal() {
    let mut provisioning = provisioning();
    let (mut bench, activated) = start(&mut provisioning);
    let peers = [answers(401, None, challenge(b"1")), answers(401, None, challenge(b"2"))];
    assert!(bench.run(&[&peers[..], &[answers(200, None, assigned())]].concat()).is_ok());
    assert_eq!(bench.requests(), ["register", "register", "register"]);
    assert_ne!(bench.sent[1], bench.sent[2], "signed with the second key");
    assert_eq!(*activated.borrow(), [b"1", b"2"]);

    let (mut bench, activated) = start(&mut provisioning);
    let error = bench.run(&peers).unwrap_err();
    assert!(matches!(error, Error::Refused(refusal) if refusal.http_status == 401));
    assert_eq!(error.fault(), Fault::Credential);
    assert_eq!(bench.requests(), ["register", "register", "register"]);
    assert_eq!(*activated.borrow(), [b"1", b"2"]);
}

#[test]
fn a_challenge_after_a_lost_operation_is_answered() {
    let mut provisioning = provisioning();
    let (mut bench, activated) = start(&mut provisioning);
    let peers = [
        answers(401, None, challenge(b"1")),
        answers(202, Some(1), ASSIGNING),
        answers(404, None, ""),
        answers(401, None, challenge(b"2")),
        answers(200, None, assigned()),
    ];
    assert!(bench.run(&peers).is_ok());
    assert_eq!(bench.requests(), ["register", "register", "status", "register", "register"]);
    assert_eq!(*activated.borrow(), [b"1", b"2"]);
}

#[test]
fn a_challenge_to_a_poll_is_a_refusal() {
    let mut provisioning = provisioning();
    let (mut bench, activated) = start(&mut provisioning);
    let error = bench.run(&[answers(202, Some(1), ASSIGNING), answers(401, None, challenge(b"key"))]).unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(bench.requests(), ["register", "status"]);
    assert!(activated.borrow().is_empty());
}

#[test]
fn a_plain_401_is_a_refusal() {
    let mut provisioning = provisioning();
    let body = r#"{"errorCode":401000,"trackingId":"","message":"Unauthorized","timestampUtc":""}"#;
    for body in [body, r#"{"authenticationKey":null}"#, r#"{"authenticationKey":7}"#, r#"{"authenticationKey":"#, ""] {
        let (mut bench, activated) = start(&mut provisioning);
        let error = bench.run(&[answers(401, None, body)]).unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{body}: {error}");
        assert!(activated.borrow().is_empty());
    }
}

#[test]
fn no_enrollment_for_this_endorsement_key() {
    let mut provisioning = provisioning();
    let body = r#"{"errorCode":404201,"trackingId":"","message":"Enrollment not found","timestampUtc":""}"#;
    let error = start(&mut provisioning).0.run(&[answers(404, None, body)]).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ENROLLMENT_NOT_FOUND));
}

#[test]
fn a_tpm_that_cannot_open_the_key_ends_the_run() {
    let mut provisioning = provisioning();
    let tpm = FakeTpm { refuses: true, ..FakeTpm::default() };
    let mut bench = Bench::start(&mut provisioning).signed_by(tpm);
    let error = bench.run(&[answers(401, None, challenge(b"key"))]).unwrap_err();
    assert_eq!((error, error.fault()), (Error::Tpm(TpmError::new("another TPM's key")), Fault::Credential));
    assert_eq!(bench.requests(), ["register"]);
}

#[test]
fn a_challenge_without_a_tpm_is_a_refusal() {
    let mut provisioning = toaster();
    let error = Bench::start(&mut provisioning).run(&[answers(401, None, challenge(b"key"))]).unwrap_err();
    assert!(matches!(error, Error::Refused(_)));
}

#[test]
fn a_tpm_over_mqtt_is_unsupported() {
    let mut provisioning = provisioning();
    provisioning.start(Duration::ZERO, UNIX_TIME);
    let mut buffer = [0; 512];
    assert_eq!(azure_dps::mqtt::write_password(&provisioning, &mut buffer), Err(Error::Unsupported));
    assert_eq!(Error::Unsupported.fault(), Fault::Caller);
}

/// The result in the document, with quotes around its barewords, and as printed.
#[test]
fn the_concept_documents_result() {
    let printed = include_str!("vectors/concept-tpm-result.txt");
    let mut provisioning = provisioning();
    let error = start(&mut provisioning).0.run(&[answers(200, None, printed)]).unwrap_err();
    assert!(matches!(error, Error::Malformed(Malformed::Json(_))), "{error}");

    let quoted =
        printed.replace("\"status\": assigned", "\"status\": \"assigned\"").replace(": initial", ": \"initial");
    let quoted = quoted.replace("Assignment,", "Assignment\",");
    assert_eq!(
        start(&mut provisioning).0.run(&[answers(200, None, quoted.as_str())]),
        Ok(("myIotHub".into(), "myDeviceId".into()))
    );
    let assignment = provisioning.result(quoted.as_bytes()).unwrap();
    let key = assignment.tpm_authentication_key().unwrap();
    assert!(key.text() == "xxxx-encrypted-authentication-key-xxxxx");
    // The document prints a placeholder text instead of a key. The text is not a key.
    assert_eq!(key.decode(&mut [0; 64]), Err(TpmError::NotAKey));
    assert_eq!(assignment.payload().unwrap().raw(), r#"{ "property1": "value1" }"#);
}

/// The request in the document is incomplete. As printed, it fails before it is sent.
#[test]
fn the_concept_documents_payload() {
    let printed = r#"{ "property1": "value1", "property2": {"propertyA":"valueA", "property2-2":1234}, .. }"#;
    assert!(matches!(registration("mydevice").with_payload(printed), Err(Error::InvalidPayload(_))));
    let payload = printed.replace(", ..", "");
    assert!(registration("mydevice").with_payload(&payload).is_ok());
}

#[test]
fn keys_are_split_within_their_bounds() {
    fn decode(base64: &str, size: usize) -> Result<Vec<Vec<u8>>, TpmError> {
        let body =
            ASSIGNED.replace(r#""payload":"#, &format!(r#""tpm":{{"authenticationKey":"{base64}"}},"payload":"#));
        let mut provisioning = Provisioning::new(registration(TOASTER), Attestation::x509());
        provisioning.start(Duration::ZERO, 0);
        provisioning.on_answer(Duration::ZERO, Answer::new(200, None, body.as_bytes()));
        let assignment = provisioning.result(body.as_bytes()).unwrap();
        let mut buffer = vec![0; size];
        let key = assignment.tpm_authentication_key().unwrap().decode(&mut buffer)?;
        let parts = [key.id_object, key.encrypted_secret, key.duplicate, key.import_seed, key.public, key.data];
        Ok(parts.map(<[u8]>::to_vec).to_vec())
    }
    let whole = blob(b"wrapped");
    let base64 = BASE64_STANDARD.encode(&whole);
    let parts = decode(&base64, 1024).unwrap();
    assert_eq!(parts[0], b"id object");
    assert_eq!(parts[2], b"wrapped");
    assert_eq!(parts[4], b"public");

    let invalid = Err(TpmError::NotAKey);
    for len in 0..whole.len() {
        assert_eq!(decode(&BASE64_STANDARD.encode(&whole[..len]), 1024), invalid, "{len}");
    }
    for wrong in ["=", "A", "AAA", "AA=A", "AAAA=", "AA==AAAA", "\\u20ac", "A A="] {
        assert_eq!(decode(wrong, 1024), invalid, "{wrong}");
    }
    // The named size is sufficient, and at most four characters too large.
    let Err(TpmError::BufferTooSmall(small)) = decode(&base64, 100) else { panic!() };
    assert!(small.needed - whole.len() < 3);
    assert!(decode(&base64, small.needed).is_ok());
}
