//! A record of an assignment. Bytes are a record only if the digest matches. A record is read as the answer that was
//! written, without a hub that it does not contain.

#![no_main]

use azure_dps::json::{JsonError, JsonProblem};
use azure_dps::{
    Attestation, Error, IdScope, Provisioning, Registration, RegistrationId,
    after::Record,
    error::{Malformed, RecordError},
    provisioning::Answer,
};
use azure_dps_fuzz::contains;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fuzz_target!(|bytes: &[u8]| {
    let registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    check(bytes, &registration);

    // A valid record of these bytes as a registration state.
    let mut record = b"Dp\x01\x00".to_vec();
    record.extend((bytes.len() as u32).to_le_bytes());
    record.extend(&Sha256::digest("0ne1\0d")[..8]);
    record.extend(bytes);
    let digest = Sha256::digest(&record);
    record.extend(&digest[..16]);
    check(&record, &registration);

    // The record equals an answer with this state.
    let answer = [br#"{"status":"assigned","registrationState":"#, bytes, b"}"].concat();
    let mut provisioning = Provisioning::new(registration, Attestation::x509());
    provisioning.start(Default::default(), 0);
    provisioning.on_answer(Default::default(), Answer::new(200, None, &answer));
    match (Record::read(&record, &registration), provisioning.result(&answer)) {
        (Ok(record), Ok(assignment)) => assert_eq!(record.assignment(), assignment),
        // A look-up's answer has one level less around the state.
        (Ok(_), Err(Error::Malformed(Malformed::Json(JsonError { problem: JsonProblem::Depth, .. })))) => {}
        (Ok(record), Err(error)) => panic!("{error}, and yet {record:?}"),
        // With white space around the state, or with more bytes after it.
        (Err(error), _) => assert!(matches!(error, RecordError::Impossible(_)), "{error}"),
    }
});

fn check(bytes: &[u8], registration: &Registration<'_>) {
    let Ok(record) = Record::read(bytes, registration) else { return };
    let assignment = record.assignment();
    assert!(contains(bytes, assignment.assigned_hub().as_bytes()));
    let mut again = vec![0; bytes.len()];
    // Shorter where there was white space around the state.
    let again = assignment.write_record(registration, record.key(), &mut again).unwrap();
    assert_eq!(Record::read(again, registration), Ok(record));
}
