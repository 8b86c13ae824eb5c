//! Symmetric keys and SAS tokens: published vectors, and invalid input.

use azure_dps::{
    DeviceKey, GroupKey, IdScope, RegistrationId,
    identity::{
        InvalidKey, Sign, SignError,
        sas_token::{self, TokenError},
    },
};

fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

#[test]
fn device_keys_are_derived_as_published() {
    let mut count = 0;
    for row in rows(include_str!("vectors/device-keys.tsv")) {
        let [source, group_key, registration_id, expected] = row[..] else { panic!("{row:?}") };
        let id = RegistrationId::new(registration_id).unwrap();
        let key = GroupKey::from_base64(group_key).unwrap().derive(&id);
        assert_eq!(key.write_base64(&mut [0; 44]).unwrap(), expected, "{source}: {registration_id}");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn tokens_are_signed_as_published() {
    let mut written = 0;
    for row in rows(include_str!("vectors/sas-tokens.tsv")) {
        let [source, key, sr, expiry, expected] = row[..] else { panic!("{row:?}") };
        let mut key = DeviceKey::from_base64(key).unwrap();

        let mut signature = [0; 32];
        key.sign(format!("{sr}\n{expiry}").as_bytes(), &mut signature).unwrap();
        let bytes: Vec<u8> = unescape(expected);
        assert_eq!(base64(&signature), String::from_utf8(bytes).unwrap(), "{source}");

        // Our tokens have the form that the C SDKs write.
        if let [scope, "registrations", id] = sr.split("%2f").collect::<Vec<_>>()[..] {
            let mut buffer = [0; 256];
            let (scope, id) = (IdScope::new(scope).unwrap(), RegistrationId::new(id).unwrap());
            let token = sas_token::write(&mut key, scope, id, expiry.parse().unwrap(), &mut buffer).unwrap();
            assert_eq!(
                token,
                format!("SharedAccessSignature sr={sr}&sig={expected}&se={expiry}&skn=registration"),
                "{source}"
            );
            written += 1;
        }
    }
    assert_eq!(written, 2);
}

#[test]
fn expiries_are_written_in_full() {
    let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap();
    let (scope, id) = (IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    for expiry in [0, 7, 10, 65_535, 65_536, 1_700_000_000, 4_294_967_296, 10_000_000_000, u64::MAX] {
        let mut buffer = [0; 256];
        let token = sas_token::write(&mut key, scope, id, expiry, &mut buffer).unwrap();
        assert!(token.ends_with(&format!("&se={expiry}&skn=registration")), "{token}");
    }
}

#[test]
fn a_small_buffer_error_names_the_size_of_the_token() {
    let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=").unwrap();
    let id = "a:".repeat(64).trim_end_matches(':').to_string();
    let (scope, id) = (IdScope::new("0ne00002193").unwrap(), RegistrationId::new(&id).unwrap());
    for size in 0..700 {
        match sas_token::write(&mut key, scope, id, 1_700_000_000, &mut vec![0; size]) {
            Ok(_) => {}
            Err(TokenError::BufferTooSmall(error)) => {
                assert!(error.exact && error.needed > size);
                let mut buffer = vec![0; error.needed];
                sas_token::write(&mut key, scope, id, 1_700_000_000, &mut buffer).unwrap();
            }
            Err(error) => panic!("{size}: {error}"),
        }
    }
}

#[test]
fn keys_are_16_to_64_bytes_of_base64() {
    let key = |len: usize| base64(&vec![0xa5; len]);
    for (text, expected) in [
        (key(16), Ok(())),
        (key(32), Ok(())),
        (key(63), Ok(())),
        (key(64), Ok(())),
        (key(15), Err(InvalidKey::Length)),
        (key(65), Err(InvalidKey::Length)),
        (key(66), Err(InvalidKey::Length)),
        (key(200), Err(InvalidKey::Length)),
        (String::new(), Err(InvalidKey::Length)),
        ("pa".into(), Err(InvalidKey::NotBase64 { position: 2 })),
        (key(32).replace("=", ""), Err(InvalidKey::NotBase64 { position: 43 })),
        (key(32) + "\n", Err(InvalidKey::NotBase64 { position: 44 })),
        (key(32).replacen("pa", "p ", 1), Err(InvalidKey::NotBase64 { position: 1 })),
        ("<symmetric_Key>".into(), Err(InvalidKey::NotBase64 { position: 0 })),
    ] {
        assert_eq!(DeviceKey::from_base64(&text).map(|_| ()), expected, "{text:?}");
        assert_eq!(GroupKey::from_base64(&text).map(|_| ()), expected, "{text:?}");
    }
}

#[test]
fn keys_are_written_as_read() {
    for len in 16..=64 {
        let text = base64(&(0..len).map(|byte| byte as u8 * 3).collect::<Vec<_>>());
        let key = DeviceKey::from_base64(&text).unwrap();
        let mut buffer = [0; 88];
        assert_eq!(key.write_base64(&mut buffer).unwrap(), text);
        let too_small = key.write_base64(&mut buffer[..text.len() - 1]).unwrap_err();
        assert_eq!((too_small.needed, too_small.exact), (text.len(), true));
    }
}

#[test]
fn nothing_prints_a_key() {
    let text = "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
    assert_eq!(format!("{:?}", DeviceKey::from_base64(text).unwrap()), "DeviceKey(..)");
    assert_eq!(format!("{:?}", GroupKey::from_base64(text).unwrap()), "GroupKey(..)");
    let error = DeviceKey::from_base64("secret!").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[test]
fn the_error_of_a_signer_is_returned() {
    struct Broken;
    impl Sign for Broken {
        fn sign(&mut self, _: &[u8], _: &mut [u8; 32]) -> Result<(), SignError> {
            Err(SignError::new("no answer"))
        }
    }
    let (scope, id) = (IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    assert_eq!(
        sas_token::write(&mut Broken, scope, id, 1, &mut [0; 256]),
        Err(TokenError::Signer(SignError::new("no answer")))
    );
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    std::iter::from_fn(|| match bytes.next()? {
        b'%' => {
            let digits = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).ok()
        }
        byte => Some(byte),
    })
    .collect()
}
