//! Records of an assignment in flash that forgets, mixes and flips.

mod support;

use azure_dps::{
    IdScope, Registration, RegistrationId,
    after::Record,
    error::{BufferTooSmall, Malformed, RecordError},
    identity::KeyChoice,
    provisioning::Substatus,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use support::*;

const EVERY_FIELD: &str = include_str!("vectors/registration-state-every-field.json");

fn record_of(body: &str, key: KeyChoice) -> Vec<u8> {
    let registration = registration(TOASTER);
    let mut buffer = [0; 4096];
    assigned(&registration, body).unwrap().write_record(&registration, key, &mut buffer).unwrap().to_vec()
}

fn read(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    Record::read(bytes, &registration(TOASTER))
}

/// The layout as it is documented, written by hand.
fn by_hand(version: u8, flags: u8, scope: &str, id: &str, state: &str) -> Vec<u8> {
    let mut bytes = vec![b'D', b'p', version, flags];
    bytes.extend((state.len() as u32).to_le_bytes());
    bytes.extend(&Sha256::digest(format!("{scope}\0{id}"))[..8]);
    bytes.extend(state.bytes());
    let digest = Sha256::digest(&bytes);
    bytes.extend(&digest[..16]);
    bytes
}

#[test]
fn the_layout_is_the_documented_one() {
    let assignment = assigned(&registration(TOASTER), ASSIGNED).unwrap();
    let state = assignment.registration_state().raw();
    for (key, flags) in [(KeyChoice::Primary, 6), (KeyChoice::Secondary, 7)] {
        let record = record_of(ASSIGNED, key);
        assert_eq!(record, by_hand(1, flags, SCOPE, TOASTER, state));
        assert_eq!(record.len(), Record::OVERHEAD + state.len());
        assert_eq!(read(&record).unwrap().key(), key);
    }
}

/// So that a record which cannot be read says whether it may have had a certificate.
#[test]
fn a_record_of_an_issued_certificate_is_marked() {
    let issued = ASSIGNED.replace(r#""assignedHub""#, r#""issuedCertificateChain":["QUJD"],"assignedHub""#);
    let preview = ASSIGNED.replace(r#""assignedHub""#, r#""issuedClientCertificate":"PEM","assignedHub""#);
    let none = ASSIGNED.replace(r#""assignedHub""#, r#""issuedCertificateChain":null,"assignedHub""#);
    for (body, flags) in [(ASSIGNED, 6), (&none, 6), (&issued, 0), (&preview, 0), (EVERY_FIELD, 0)] {
        for (key, bit) in [(KeyChoice::Primary, 0), (KeyChoice::Secondary, 1)] {
            let mut record = record_of(body, key);
            assert_eq!(record[3], flags | bit, "{body}");
            record.pop();
            assert_eq!(read(&record), Err(RecordError::Torn { flags: flags | bit }));
        }
    }
    for len in 2..8 {
        assert_eq!(read(&record_of(&issued, KeyChoice::Primary)[..len]), Err(RecordError::Torn { flags: 0 }));
    }
}

/// Another writer may leave it there. Found by fuzzing, whose target had taken it for impossible.
#[test]
fn white_space_around_the_state_is_read_and_not_written() {
    let registration = registration(TOASTER);
    let plain = record_of(ASSIGNED, KeyChoice::Primary);
    let state = assigned(&registration, ASSIGNED).unwrap().registration_state().raw();
    let spaced = by_hand(1, 0, SCOPE, TOASTER, &format!("\r\n {state}\t"));
    let record = read(&spaced).unwrap();
    assert_eq!(Ok(record), read(&plain));
    let mut again = vec![0; spaced.len()];
    assert_eq!(record.assignment().write_record(&registration, record.key(), &mut again), Ok(&*plain));
}

#[test]
fn nothing_is_lost() {
    for body in [ASSIGNED, EVERY_FIELD] {
        let fresh = assigned(&registration(TOASTER), body).unwrap();
        let record = record_of(body, KeyChoice::Primary);
        let kept = read(&record).unwrap().assignment();
        assert_eq!(kept, fresh);
        assert_eq!(kept.hub(), fresh.hub());
    }
    let record = record_of(EVERY_FIELD, KeyChoice::Primary);
    let kept = read(&record).unwrap().assignment();
    assert_eq!(kept.substatus(), Some(Substatus::InitialAssignment));
    assert!(kept.tpm_authentication_key().unwrap().text() == "ADQAIHJ+Xg==");
    assert_eq!(kept.issued_certificate_chain().unwrap().count(), 3);
    assert_eq!(kept.payload().unwrap().raw(), "{}");
}

#[test]
fn escapes_and_white_space_are_kept() {
    let body = ASSIGNED
        .replace(&format!(r#""deviceId":"{TOASTER}""#), r#""device\u0049d" : "T\u002b7" "#)
        .replace(r#""registrationState":"#, "\"registrationState\":\n\t");
    let record = record_of(&body, KeyChoice::Primary);
    let kept = read(&record).unwrap().assignment();
    assert!(kept.device_id() == "T+7");
    assert_eq!(kept, assigned(&registration(TOASTER), &body).unwrap());
    // It can be written again from what was read.
    let mut again = [0; 1024];
    assert_eq!(kept.write_record(&registration(TOASTER), KeyChoice::Primary, &mut again).unwrap(), record);
}

#[test]
fn a_buffer_that_is_too_small_says_what_would_do() {
    let registration = registration(TOASTER);
    let assignment = assigned(&registration, ASSIGNED).unwrap();
    let record = record_of(ASSIGNED, KeyChoice::Primary);
    for size in 0..record.len() {
        let error = assignment.write_record(&registration, KeyChoice::Primary, &mut vec![0; size]).unwrap_err();
        assert!(matches!(error, BufferTooSmall { needed, exact: true, .. } if needed == record.len()), "{size}");
    }
    let mut buffer = vec![0; record.len()];
    assert_eq!(assignment.write_record(&registration, KeyChoice::Primary, &mut buffer).unwrap(), record);
}

#[test]
fn anything_may_follow_a_record() {
    let record = record_of(ASSIGNED, KeyChoice::Secondary);
    for behind in [&[0xff; 4096][..], &[0; 3], b"}", &record] {
        let flash = [&record, behind].concat();
        assert_eq!(read(&flash), read(&record));
    }
}

#[test]
fn no_record_at_all() {
    for bytes in [&[][..], &[0xff; 4096], &[0; 4096], b"D", b"{\"assignedHub\":\"hub\"}", b"pD"] {
        assert_eq!(read(bytes), Err(RecordError::Absent));
    }
}

/// The old record, or erased flash, and the new one over it: power is lost behind each byte.
#[test]
fn power_may_be_lost_at_every_byte() {
    let other_hub = ASSIGNED.replace(TOASTERS_HUB, "b.example");
    let longer_hub = ASSIGNED.replace(TOASTERS_HUB, &format!("x{TOASTERS_HUB}"));
    let same_length = ASSIGNED.replace(TOASTERS_HUB, &TOASTERS_HUB.to_ascii_uppercase());
    let mut records: Vec<_> = [ASSIGNED, EVERY_FIELD, &other_hub, &longer_hub, &same_length]
        .map(|body| record_of(body, KeyChoice::Primary))
        .into();
    records.push(record_of(ASSIGNED, KeyChoice::Secondary));
    let mut refused = 0;
    for new in &records {
        for old in records.iter().filter(|old| *old != new).map(Vec::as_slice).chain([&[][..]]) {
            for erased in [0xff, 0] {
                for written in 0..=new.len() {
                    let mut flash = vec![erased; 2048];
                    flash[..old.len()].copy_from_slice(old);
                    flash[..written].copy_from_slice(&new[..written]);
                    let expected =
                        [new, old].into_iter().find(|record| flash.starts_with(record) && !record.is_empty());
                    match (read(&flash), expected) {
                        (Ok(record), Some(expected)) => assert_eq!(record, read(expected).unwrap()),
                        (Err(RecordError::Torn { .. } | RecordError::Absent), None) => refused += 1,
                        (read, _) => panic!("{written} bytes of {} over {}: {read:?}", new.len(), old.len()),
                    }
                }
            }
        }
    }
    assert!(refused > 30_000, "{refused}");
}

#[test]
fn every_flipped_bit_is_seen() {
    for body in [ASSIGNED, EVERY_FIELD] {
        let record = record_of(body, KeyChoice::Primary);
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // With room for a longer one behind it.
            flipped.resize(4096, 0xff);
            let expected = if bit < 16 { RecordError::Absent } else { RecordError::Torn { flags: flipped[3] } };
            assert_eq!(read(&flipped), Err(expected), "bit {bit}");
        }
    }
}

#[test]
fn the_record_of_another_device_is_refused() {
    let record = record_of(ASSIGNED, KeyChoice::Primary);
    for (scope, id) in [(SCOPE, HEAT_PUMP), ("0ne00002194", TOASTER), (SCOPE, "breakroom499-contoso-tstrsd-00")] {
        let other = Registration::new(IdScope::new(scope).unwrap(), RegistrationId::new(id).unwrap());
        assert_eq!(Record::read(&record, &other), Err(RecordError::Foreign), "{scope} {id}");
    }
    // The payload that the device registered with is not part of who it is.
    let registration = registration(TOASTER).with_payload(PAYLOAD).unwrap();
    assert!(Record::read(&record, &registration).is_ok());
}

#[test]
fn other_layouts_are_refused() {
    let state = assigned(&registration(TOASTER), ASSIGNED).unwrap().registration_state().raw();
    for (version, flags) in [(0, 0), (2, 0), (255, 1), (1, 8), (1, 0x80), (1, 0xff)] {
        let record = by_hand(version, flags, SCOPE, TOASTER, state);
        assert_eq!(read(&record), Err(RecordError::Layout { version, flags }));
    }
}

/// Whole and the device's own, and still checked as an answer is.
#[test]
fn what_no_answer_can_say_is_refused() {
    let state = assigned(&registration(TOASTER), ASSIGNED).unwrap().registration_state().raw();
    let hub = format!(r#""assignedHub":"{TOASTERS_HUB}""#);
    let device_id = format!(r#""deviceId":"{TOASTER}""#);
    for (state, expected) in [
        (state.replace(&hub, r#""assignedHub":"""#), Malformed::Invalid("assignedHub")),
        (state.replace(&hub, r#""assignedHub":"hub;x509=true""#), Malformed::Invalid("assignedHub")),
        (state.replace(&hub, r#""assignedHub":7"#), Malformed::Invalid("assignedHub")),
        (state.replace(&hub, r#""assignedHub":null"#), Malformed::Missing("assignedHub")),
        (state.replace(&hub, &format!("{hub},{hub}")), Malformed::Duplicate("assignedHub")),
        (state.replace(&device_id, r#""deviceId":"a b""#), Malformed::Invalid("deviceId")),
        (state.replace(&device_id, r#""other":"a""#), Malformed::Missing("deviceId")),
        (state.replace(TOASTER, "a-b"), Malformed::Contradiction("registrationId")),
        (
            state.replace(r#""status":"assigned""#, r#""status":"failed""#),
            Malformed::Contradiction("registrationState.status"),
        ),
    ] {
        let error = read(&by_hand(1, 0, SCOPE, TOASTER, &state)).map(|record| record.key()).unwrap_err();
        assert_eq!(error, RecordError::Impossible(expected), "{state}");
        assert!(error.to_string().starts_with("the record is whole, but "));
    }
    for state in ["", "{", "[]", "null", "{}x", r#"{"assignedHub""#, " "] {
        let bytes = by_hand(1, 0, SCOPE, TOASTER, state);
        assert!(matches!(read(&bytes), Err(RecordError::Impossible(Malformed::Json(_)))), "{state}");
    }
    // As deep as an answer may be, of which a look-up's has one level less around the state.
    for (depth, is_read, is_answer) in [(62, true, true), (63, true, false), (64, false, false)] {
        let payload = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let state = state.replace(r#""payload":"#, &format!(r#""payload":{payload},"other":"#));
        assert_eq!(read(&by_hand(1, 0, SCOPE, TOASTER, &state)).is_ok(), is_read, "{depth}");
        let answer = format!(r#"{{"status":"assigned","registrationState":{state}}}"#);
        assert_eq!(assigned(&registration(TOASTER), &answer).is_ok(), is_answer, "{depth}");
    }
    // The inner status may be missing, as in an answer.
    let without = state.replace(r#""status":"assigned","#, "");
    assert!(read(&by_hand(1, 0, SCOPE, TOASTER, &without)).is_ok());
}

#[test]
fn errors_say_what_is_there() {
    for (error, words) in [
        (RecordError::Absent, "no record"),
        (RecordError::Layout { version: 2, flags: 0 }, "layout 2 and flags 0x00"),
        (RecordError::Torn { flags: 0 }, "not written to its end"),
        (RecordError::Foreign, "another registration ID"),
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn any_bytes_after_a_right_start(flags in 0..2_u8, len in 0..80_u32, bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let record = [&[b'D', b'p', 1, flags][..], &len.to_le_bytes(), &bytes].concat();
        prop_assert_eq!(read(&record), Err(RecordError::Torn { flags }));
    }

    #[test]
    fn any_text_that_is_whole(state in ".{0,200}") {
        prop_assert!(matches!(read(&by_hand(1, 0, SCOPE, TOASTER, &state)), Err(RecordError::Impossible(_))));
    }

    /// A right state with a piece of it replaced: no hub that it does not contain.
    #[test]
    fn any_damage_that_is_whole(at in 0..700_usize, len in 0..40_usize, with in r#"[ -~]{0,20}"#) {
        let registration = registration(TOASTER);
        let mut state = assigned(&registration, ASSIGNED).unwrap().registration_state().raw().to_string();
        let at = at % state.len();
        state.replace_range(at..(at + len).min(state.len()), &with);
        let bytes = by_hand(1, 0, SCOPE, TOASTER, &state);
        if let Ok(record) = read(&bytes) {
            let assignment = record.assignment();
            prop_assert!(state.contains(assignment.assigned_hub()));
            let answer = format!(r#"{{"status":"assigned","registrationState":{state}}}"#);
            prop_assert_eq!(assigned(&registration, &answer), Ok(assignment));
        }
    }
}
