//! The service's identifiers: <https://learn.microsoft.com/azure/iot-dps/concepts-service>.

use azure_dps::{
    Error, IdScope, Registration, RegistrationId,
    identity::{Identifier, IdentifierProblem, InvalidIdentifier},
    json::JsonProblem,
    provisioning::Endpoint,
};

#[test]
fn registration_ids() {
    let long = "a".repeat(128);
    for id in ["a", "7", "-", "breakroom499-contoso-tstrsd-007", "SN-007", "a:b_c.d-", ".leading", &long] {
        assert_eq!(RegistrationId::new(id).unwrap().as_str(), id);
    }
    let too_long = "a".repeat(129);
    for (id, problem, position) in [
        ("", IdentifierProblem::Empty, 0),
        ("device 1", IdentifierProblem::Character, 6),
        ("device/1", IdentifierProblem::Character, 6),
        ("ger\u{e4}t", IdentifierProblem::Character, 3),
        ("a\"b", IdentifierProblem::Character, 1),
        ("a\r\nHost: b", IdentifierProblem::Character, 1),
        ("device.", IdentifierProblem::LastCharacter, 6),
        ("device_", IdentifierProblem::LastCharacter, 6),
        ("device:", IdentifierProblem::LastCharacter, 6),
        (&too_long, IdentifierProblem::TooLong, 128),
    ] {
        let error = RegistrationId::new(id).unwrap_err();
        assert_eq!((error.identifier, error.problem, error.position), (Identifier::RegistrationId, problem, position));
        assert!(error.to_string().contains("registration ID"), "{error}");
    }
    assert!(RegistrationId::new("Device").unwrap().has_upper_case());
    assert!(!RegistrationId::new("device").unwrap().has_upper_case());
}

#[test]
fn id_scopes() {
    for scope in ["0ne00002193", "0ne0099C5CB", "0cn0000990D"] {
        assert_eq!(IdScope::new(scope).unwrap().as_str(), scope);
    }
    let too_long = "0".repeat(65);
    for (scope, problem, position) in [
        ("", IdentifierProblem::Empty, 0),
        ("0ne/..", IdentifierProblem::Character, 3),
        (&too_long, IdentifierProblem::TooLong, 64),
    ] {
        let InvalidIdentifier { identifier, problem: found, position: at, .. } = IdScope::new(scope).unwrap_err();
        assert_eq!((identifier, found, at), (Identifier::IdScope, problem, position));
    }
}

#[test]
fn payloads_are_one_json_object() {
    let registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let deep = |depth: usize| r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
    // The payload becomes part of another object.
    let deepest = deep(63);
    for payload in ["{}", " {} ", r#"{"a":1,"b":[true,null]}"#, &deepest] {
        assert_eq!(registration.with_payload(payload).unwrap().payload(), Some(payload));
    }
    let too_deep = deep(64);
    for (payload, problem, position) in [
        ("", JsonProblem::End, 0),
        ("[]", JsonProblem::NotAnObject, 0),
        ("\"text\"", JsonProblem::NotAnObject, 0),
        ("1", JsonProblem::NotAnObject, 0),
        ("{} {}", JsonProblem::Trailing, 3),
        (r#"{"a":1"#, JsonProblem::End, 6),
        (r#"{"a":1,}"#, JsonProblem::Syntax, 7),
        (r#"{'a':1}"#, JsonProblem::Syntax, 1),
        (r#"{"property2":1, .. }"#, JsonProblem::Syntax, 16),
        (&too_deep, JsonProblem::Depth, 63 * 5),
    ] {
        let Err(Error::InvalidPayload(error)) = registration.with_payload(payload) else { panic!("{payload}") };
        assert_eq!((error.problem, error.position), (problem, position), "{payload}");
    }
}

/// The concept document's TPM request and result, as printed there, are not JSON: `..` and
/// barewords.
#[test]
fn the_concept_documents_examples_as_printed_are_refused() {
    for text in [
        r#"{ "payload": { "property1": "value1", "property2": {"propertyA":"valueA", "property2-2":1234}, .. } }"#,
        r#"{ "status": assigned, "substatus": initialAssignment }"#,
    ] {
        let error = azure_dps::json::Object::parse(text).unwrap_err();
        assert_eq!(error.problem, JsonProblem::Syntax);
    }
}

#[cfg(feature = "serde")]
#[test]
fn payloads_from_custom_types() {
    #[derive(serde::Serialize)]
    struct Payload<'a> {
        model: &'a str,
        versions: [u8; 2],
    }
    let registration = Registration::new(IdScope::new("0ne1").unwrap(), RegistrationId::new("d").unwrap());
    let payload = Payload { model: "T\"007\"\n", versions: [12, 5] };
    let mut scratch = [0; 64];
    let registration_with = registration.with_serialized(&payload, &mut scratch).unwrap();
    assert_eq!(registration_with.payload(), Some(r#"{"model":"T\"007\"\n","versions":[12,5]}"#));

    let mut scratch = [0; 8];
    assert!(
        matches!(registration.with_serialized(&payload, &mut scratch), Err(Error::BufferTooSmall(error)) if error.needed == 9 && !error.exact)
    );
    let mut scratch = [0; 8];
    assert!(matches!(registration.with_serialized(&[1, 2], &mut scratch), Err(Error::InvalidPayload(_))));
}

#[test]
fn endpoints() {
    for (text, https, host, port) in [
        ("global.azure-devices-provisioning.cn", true, "global.azure-devices-provisioning.cn", 443),
        ("localhost:8443", true, "localhost", 8443),
        ("https://localhost:8443/", true, "localhost", 8443),
        ("HTTPS://[::1]:1", true, "[::1]", 1),
        ("[::1]", true, "[::1]", 443),
        ("http://127.0.0.1", false, "127.0.0.1", 80),
        ("http://127.1.2.3:8080", false, "127.1.2.3", 8080),
        ("http://LOCALHOST:1", false, "LOCALHOST", 1),
        ("http://[::1]:65535", false, "[::1]", 65535),
    ] {
        let endpoint = Endpoint::parse(text).unwrap();
        assert_eq!((endpoint.is_https(), endpoint.host(), endpoint.port()), (https, host, port), "{text}");
    }
    for text in [
        "",
        "https://",
        ":443",
        "host:",
        "host:0",
        "host:65536",
        "host:80:80",
        "host name",
        "host/path",
        "user@host",
        "::1",
        "[::1",
        "[host]",
        "ftp://localhost",
        "http://example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0x7f000001",
        "http://10.0.0.1",
        "host\r\nX: y",
        "h\u{f6}st",
    ] {
        assert_eq!(Endpoint::parse(text), Err(Error::InvalidEndpoint), "{text}");
    }
}

fn same_as_core(address: &str) {
    let by_core = address.parse::<std::net::Ipv6Addr>().is_ok();
    assert_eq!(Endpoint::parse(&format!("[{address}]")).is_ok(), by_core, "{address}");
}

/// Accepts exactly what the parser of `core` accepts.
#[test]
fn ipv6_addresses() {
    // All short combinations of groups, gaps and dots, and those near the full length.
    let pieces = [":", "::", "1", "00f", "0001", "00001", "g", ".", "1.2.3.4", "1.02.3.4", "256.2.3.4"];
    for len in 0..5_u32 {
        for mut number in 0..pieces.len().pow(len) {
            let short: String = std::iter::repeat_with(|| {
                let piece = pieces[number % pieces.len()];
                number /= pieces.len();
                piece
            })
            .take(len as usize)
            .collect();
            same_as_core(&short);
            for long in ["1:2:3:", "1:2:3:4:", "1:2:3:4:5:", "1:2:3:4:5:6:", "1:2:3:4:5:6:7:", "::4:5:6:7:8"] {
                same_as_core(&[long, &short].concat());
                same_as_core(&[&short, long].concat());
            }
        }
    }
}
