//! Records of an assignment in flash that loses, mixes and flips bits.

mod support;

use std::time::Duration;

use azure_dps::{
    Attestation, Error, IdScope, Provisioning, Registration, RegistrationId,
    after::Record,
    error::{BufferTooSmall, Malformed, RecordError},
    identity::KeyChoice,
    provisioning::{Answer, Substatus},
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

/// Returns a record in the documented layout, built without the library.
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

/// An unreadable record still shows whether it may have had a certificate.
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

/// Another program may write such a record. Found by fuzzing.
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
fn a_record_has_the_whole_assignment() {
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
fn escapes_and_white_space_are_kept_except_in_the_device_id() {
    let body = ASSIGNED
        .replace(&format!(r#""deviceId":"{TOASTER}""#), r#""device\u0049d" : "T\u002b7" ,"other":"a\u002bb""#)
        .replace(r#""registrationState":"#, "\"registrationState\":\n\t");
    let record = record_of(&body, KeyChoice::Primary);
    let fresh = assigned(&registration(TOASTER), &body).unwrap();
    assert_eq!(fresh.device_id(), "T+7");
    // The device ID has no escapes and may be borrowed. White space keeps the length.
    let state = fresh.registration_state().raw().replace(r#""T\u002b7""#, r#""T+7"     "#);
    assert_eq!(record, by_hand(1, 6, SCOPE, TOASTER, &state));
    let kept = read(&record).unwrap().assignment();
    assert_eq!(kept.device_id(), "T+7");
    assert_eq!(kept.field("other").unwrap().raw(), r#""a\u002bb""#);
    assert_eq!(kept.hub(), fresh.hub());
    // A record that was read can be written again.
    let mut again = [0; 1024];
    assert_eq!(kept.write_record(&registration(TOASTER), KeyChoice::Primary, &mut again).unwrap(), record);
    // No program writes a record with an escape there.
    let escaped = by_hand(1, 6, SCOPE, TOASTER, fresh.registration_state().raw());
    assert_eq!(read(&escaped), Err(RecordError::Impossible(Malformed::Invalid("deviceId"))));
}

/// Returns a run that ended with this answer in its buffer. The buffer has `room` more bytes than the answer.
fn run_with(is_look_up: bool, key: KeyChoice, body: &str, room: usize) -> (Provisioning<'static>, Vec<u8>) {
    let new = if is_look_up { Provisioning::lookup } else { Provisioning::new };
    let mut run = new(registration(TOASTER), Attestation::symmetric_key()).with_first_key(key);
    run.start(Duration::ZERO, UNIX_TIME);
    run.sign_with(&mut [toaster_key(), toaster_key()], &mut [0; 256]).unwrap();
    run.on_answer(Duration::ZERO, Answer::new(200, None, body.as_bytes()));
    let mut buffer = body.as_bytes().to_vec();
    buffer.resize(body.len() + room, 0xaa);
    (run, buffer)
}

fn is_exactly(needed: usize, error: Error) -> bool {
    matches!(error, Error::BufferTooSmall(BufferTooSmall { needed: said, exact: true, .. }) if said == needed)
}

/// Returns answers to a registration, with text of different lengths before the state, and answers to a look-up, whose
/// state starts at the beginning of the buffer or after white space.
fn in_every_place(state: &str) -> Vec<(bool, String)> {
    let mut bodies = Vec::new();
    for pad in [0, 1, 15, 16, 17, 100] {
        let pad = " ".repeat(pad);
        bodies.push((false, format!(r#"{{{pad}"registrationState":{state},"status":"assigned"}}"#)));
        bodies.push((false, format!(r#"{{"status":"assigned",{pad}"registrationState":{pad}{state}}}"#)));
        bodies.push((true, format!("{pad}{state}{pad}")));
    }
    bodies
}

/// The bytes equal those in a second buffer, for each position of the state in the answer.
#[test]
fn a_record_replaces_its_answer_in_the_buffer() {
    let escaped = |body: &str| body.replace(&format!(r#""deviceId":"{TOASTER}""#), r#""deviceId":"T\u002B7'\u0073""#);
    let null_first = |body: &str| escaped(body).replace(r#""deviceId""#, r#""deviceId":null,"deviceId""#);
    let spaced = |body: &str| escaped(body).replace(r#""deviceId":"#, "\"deviceId\"\n:\t ");
    let bodies =
        [ASSIGNED.to_owned(), EVERY_FIELD.to_owned(), escaped(ASSIGNED), null_first(ASSIGNED), spaced(ASSIGNED)];
    for (body, key) in bodies.iter().flat_map(|body| [(body, KeyChoice::Primary), (body, KeyChoice::Secondary)]) {
        let expected = record_of(body, key);
        let state = assigned(&registration(TOASTER), body).unwrap().registration_state().raw();
        for (is_look_up, answer) in in_every_place(state) {
            let (run, mut buffer) = run_with(is_look_up, key, &answer, 64);
            let record = run.write_record(&mut buffer).unwrap();
            assert_eq!(record, expected, "{answer}");
            let record = Record::read(&buffer, run.registration()).unwrap();
            assert_eq!(record.key(), key);
            assert_eq!(record.assignment().hub(), assigned(&registration(TOASTER), body).unwrap().hub());
        }
    }
}

/// The exact size is enough. With one byte less the call fails, and the answer is unchanged.
#[test]
fn a_record_in_place_names_the_size_it_needs() {
    let state = assigned(&registration(TOASTER), ASSIGNED).unwrap().registration_state().raw();
    for (is_look_up, answer) in in_every_place(state) {
        let needed = Record::OVERHEAD + state.len();
        let (run, mut buffer) = run_with(is_look_up, KeyChoice::Primary, &answer, 64);
        // A buffer is never shorter than the answer.
        let enough = needed.max(answer.len());
        for size in answer.len()..enough {
            let error = run.write_record(&mut buffer[..size]).unwrap_err();
            assert!(is_exactly(needed, error), "{size}: {error:?}");
            let assignment = run.result(&buffer[..size]).unwrap();
            assert_eq!((assignment.assigned_hub(), assignment.registration_state().raw()), (TOASTERS_HUB, state));
        }
        assert_eq!(run.write_record(&mut buffer[..enough]).unwrap(), record_of(ASSIGNED, KeyChoice::Primary));
    }
}

/// Without an assignment there is no record, and the buffer is unchanged.
#[test]
fn only_an_assignment_has_a_record_in_place() {
    let (run, buffer) = run_with(false, KeyChoice::Primary, ASSIGNED, 64);
    let idle = Provisioning::new(registration(TOASTER), Attestation::symmetric_key());
    let (assigning, _) = run_with(false, KeyChoice::Primary, ASSIGNING, 64);
    let (disabled, _) = run_with(false, KeyChoice::Primary, r#"{"status":"disabled","registrationState":{}}"#, 64);
    let other_hub = ASSIGNED.replace(TOASTERS_HUB, &TOASTERS_HUB.to_uppercase()).into_bytes();
    for (run, mut buffer, expected) in [
        (&idle, buffer.clone(), Error::NotStarted),
        (&assigning, buffer.clone(), Error::NotFinished),
        (&disabled, buffer.clone(), Error::Disabled),
        (&run, other_hub, Error::WrongBuffer),
        (&run, buffer[..100].to_vec(), Error::WrongBuffer),
        (&run, vec![], Error::WrongBuffer),
    ] {
        let before = buffer.clone();
        assert_eq!(run.write_record(&mut buffer), Err(expected));
        assert_eq!(buffer, before);
    }
}

/// A device reads the header first, and then as many bytes as the header names.
#[test]
fn a_header_has_the_length_of_its_record() {
    for body in [ASSIGNED, EVERY_FIELD] {
        let record = record_of(body, KeyChoice::Primary);
        let flash = [&record[..], &[0xff; 100]].concat();
        let len = Record::len(flash.first_chunk().unwrap()).unwrap();
        assert_eq!(len, record.len());
        assert_eq!(read(&flash[..len]), read(&record));
        assert!(matches!(read(&flash[..len - 1]), Err(RecordError::Torn { .. })));
        // Torn at each byte, over erased flash: for any length, the record is not valid.
        for written in 0..Record::HEADER_LEN {
            for erased in [0xff, 0] {
                let mut torn = [erased; Record::HEADER_LEN];
                torn[..written].copy_from_slice(&record[..written]);
                let len = Record::len(&torn);
                assert_eq!(len.is_some(), written >= 2, "{written}");
                assert!(len.is_none_or(|len| len >= Record::OVERHEAD));
                let flash = [&record[..written], &[erased; 4096][written..]].concat();
                let read = read(&flash[..len.unwrap_or(0).min(flash.len())]);
                assert!(matches!(read, Err(RecordError::Torn { .. } | RecordError::Absent)), "{written}: {read:?}");
            }
        }
    }
    let longest = [b'D', b'p', 1, 6, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Record::len(&longest), Some((u32::MAX as usize).saturating_add(Record::OVERHEAD)));
    assert!(matches!(read(&longest), Err(RecordError::Torn { .. })));
}

#[test]
fn a_small_buffer_error_names_the_needed_size() {
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

/// The new record is written over an old record or over erased flash. Power is lost after each byte.
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
fn every_flipped_bit_is_detected() {
    for body in [ASSIGNED, EVERY_FIELD] {
        let record = record_of(body, KeyChoice::Primary);
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // With space for a longer record after it.
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
    // The payload of the registration is not part of the identity.
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

/// A complete record of this device is still checked like an answer.
#[test]
fn a_record_that_no_answer_can_contain_is_rejected() {
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
        assert!(error.to_string().starts_with("the record is complete, but "));
    }
    for state in ["", "{", "[]", "null", "{}x", r#"{"assignedHub""#, " "] {
        let bytes = by_hand(1, 0, SCOPE, TOASTER, state);
        assert!(matches!(read(&bytes), Err(RecordError::Impossible(Malformed::Json(_)))), "{state}");
    }
    // The deepest answer that is allowed. The answer of a look-up has one level less around the state.
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
fn errors_describe_the_flash() {
    for (error, words) in [
        (RecordError::Absent, "no record"),
        (RecordError::Layout { version: 2, flags: 0 }, "layout 2 and flags 0x00"),
        (RecordError::Torn { flags: 0 }, "incomplete or damaged"),
        (RecordError::Foreign, "another registration ID"),
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Returns a JSON string with any escapes that a service may write for printable ASCII.
fn escaped(text: &str, escapes: &[bool]) -> String {
    let escapes = escapes.iter().copied().chain(std::iter::repeat(false));
    text.chars().zip(escapes).map(|(c, is)| if is { format!("\\u{:04X}", u32::from(c)) } else { c.into() }).collect()
}

proptest! {
    /// For any assignment, the record written in place equals the record in a second buffer, and can be read.
    #[test]
    fn any_assignment(
        hub in "[a-z][a-z0-9-]{0,40}[a-z](:[1-9][0-9]{0,3})?",
        device_id in "[A-Za-z0-9.:+%_#*?!(),=@$'-]{1,128}",
        escapes in prop::collection::vec(any::<bool>(), 0..128),
        payload in prop::option::of("[a-zA-Z0-9 ]{0,300}"),
        names in any::<[bool; 2]>(),
        has_certificate in any::<bool>(),
        is_secondary in any::<bool>(),
        which in 0..18_usize,
        room in 0..64_usize,
    ) {
        let id_name = escaped("deviceId", &names);
        let mut state = format!(r#"{{"{id_name}":"{}","assignedHub":"{hub}","status":"assigned""#, escaped(&device_id, &escapes));
        if let Some(payload) = payload {
            state += &format!(r#","payload":{{"deviceId":"{payload}"}}"#);
        }
        if has_certificate {
            state += r#","issuedCertificateChain":["QUJD"]"#;
        }
        state += "}";
        let key = if is_secondary { KeyChoice::Secondary } else { KeyChoice::Primary };
        let (is_look_up, answer) = in_every_place(&state).swap_remove(which);
        let (run, mut buffer) = run_with(is_look_up, key, &answer, room);
        let registration = registration(TOASTER);
        let fresh = buffer.clone();
        let fresh = run.result(&fresh).unwrap();
        prop_assert_eq!((fresh.assigned_hub(), fresh.device_id()), (hub.as_str(), device_id.as_str()));
        let mut second = vec![0; 4096];
        let expected = fresh.write_record(&registration, key, &mut second).unwrap();
        match run.write_record(&mut buffer) {
            Ok(record) => prop_assert_eq!(record, expected),
            Err(error) => {
                prop_assert!(expected.len() > answer.len() + room);
                prop_assert!(is_exactly(expected.len(), error), "{:?}", error);
            }
        }
        prop_assert_eq!(Record::len(expected.first_chunk().unwrap()), Some(expected.len()));
        let read = Record::read(expected, &registration).unwrap();
        let kept = read.assignment();
        prop_assert_eq!((read.key(), kept.hub(), kept.payload()), (key, fresh.hub(), fresh.payload()));
        prop_assert_eq!(kept.issued_certificate_chain().is_some(), has_certificate);
        prop_assert_eq!(expected[3] & 6 == 0, has_certificate);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn any_bytes_after_a_valid_header(flags in 0..2_u8, len in 0..80_u32, bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let record = [&[b'D', b'p', 1, flags][..], &len.to_le_bytes(), &bytes].concat();
        prop_assert_eq!(read(&record), Err(RecordError::Torn { flags }));
    }

    #[test]
    fn any_text_with_a_valid_digest(state in ".{0,200}") {
        prop_assert!(matches!(read(&by_hand(1, 0, SCOPE, TOASTER, &state)), Err(RecordError::Impossible(_))));
    }

    /// Replaces part of a valid state. The reader must not return a hub that the state does not contain.
    #[test]
    fn any_damage_with_a_valid_digest(at in 0..700_usize, len in 0..40_usize, with in r#"[ -~]{0,20}"#) {
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
