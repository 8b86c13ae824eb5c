//! Who may connect to a hub, and what becomes of twins. The store is set up as DPS sets it up.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rcgen::{CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::{
    Hub,
    admission::{HubConnect, RefusalAnswer, Refused},
    admitted::Admitted,
    error::HubError,
    shared::Shared,
};
use crate::{
    clock::Clock,
    config::{Config, Twin},
    identity::{ca::Ca, certificate::Certificate, key::SymmetricKey},
    store::{
        Store,
        device::DeviceRecord,
        hub_device::{Authentication, HubDevice, HubStatus},
        registration_state::Substatus,
        shared::NotKept,
        twin::DeviceTwin,
    },
    watch::journal::Journal,
};

const TOASTERS: &str = "toasters.example";
const PUMPS: &str = "pumps.example:9883";
const NOW: u64 = 1_800_000_000;
const PRIMARY: &[u8; 32] = b"the primary key of the device...";
const SECONDARY: &[u8; 32] = b"the secondary key of the device.";

fn key(bytes: &[u8]) -> SymmetricKey {
    SymmetricKey::from_base64(&BASE64_STANDARD.encode(bytes)).unwrap()
}

fn keys() -> Authentication {
    Authentication::Keys { primary: key(PRIMARY), secondary: Some(key(SECONDARY)) }
}

/// CAs and device certificates. All keys are made here.
struct Pki {
    ca: Ca,
    issuing: Ca,
    other: Ca,
}

impl Pki {
    fn new() -> Self {
        let ca = || {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, uuid::Uuid::new_v4().to_string());
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            Ca::root(params).unwrap()
        };
        Self { ca: ca(), issuing: ca(), other: ca() }
    }

    fn certificate(ca: &Ca) -> Certificate {
        Certificate::from_pem(ca.pem()).unwrap()
    }

    fn leaf(ca: &Ca, name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        ca.sign(&params, &key).unwrap().der().clone()
    }
}

fn hub_with(issuing_ca: Certificate) -> Hub {
    let config = Config {
        id_scope: "0ne1".to_owned(),
        linked_hubs: [TOASTERS, PUMPS, "empty.example"].map(str::to_owned).to_vec(),
        ..Config::default()
    };
    let clock = Clock::new(1.0);
    let journal = Arc::new(Journal::new(clock, None, false));
    let shared = Shared::open(config, clock, journal, None, Arc::default(), None).unwrap();
    Hub::new(Arc::new(shared), issuing_ca)
}

fn hub() -> Hub {
    hub_with(Pki::certificate(&Pki::new().issuing))
}

/// Puts a device at a hub, as DPS does.
fn assign(hub: &Hub, registration_id: &str, at: &str, device_id: &str, authentication: Authentication, twin: Twin) {
    let change = |store: &mut Store| {
        store.devices.get_or_add(registration_id).unwrap();
        let record = DeviceRecord {
            registration_id: registration_id.to_owned(),
            enrollment_id: "group".to_owned(),
            assigned_hub: at.to_owned(),
            device_id: device_id.to_owned(),
            substatus: Substatus::InitialAssignment,
            hub_status: HubStatus::Enabled,
            twin: twin.into(),
            registrations: 1,
            registered: true,
        };
        store.devices.assign(record, HubDevice { authentication, session: None }).unwrap();
        Ok::<_, NotKept>(())
    };
    hub.shared.store.change(change, |()| ()).unwrap();
}

fn signed(key: &[u8], sr: &str, se: u64, rest: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{sr}\n{se}").as_bytes());
    let sig = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    format!("SharedAccessSignature sr={sr}&sig={}&se={se}{rest}", utf8_percent_encode(&sig, NON_ALPHANUMERIC))
}

/// A token as Microsoft's clients for Node and Python make it.
fn token(hub: &str, device_id: &str) -> String {
    let resource = format!("{hub}/devices/{device_id}");
    signed(PRIMARY, &utf8_percent_encode(&resource, NON_ALPHANUMERIC).to_string(), NOW + 3600, "")
}

fn connect<'a>(hub: &'a str, device_id: &'a str, password: &'a str) -> HubConnect<'a> {
    HubConnect {
        hub,
        device_id,
        module_id: None,
        client_id: device_id,
        password: Some(password),
        certificates: &[],
        server_name: None,
        shown_at: NOW,
    }
}

fn refused(hub: &Hub, connect: &HubConnect<'_>) -> Refused {
    match hub.admit(connect) {
        Err(refused) => {
            assert_eq!(refused.answer, RefusalAnswer::NotAuthorized, "{refused:?}");
            assert!(!refused.why.contains("sig=") && !refused.why.contains("%3D"), "{refused:?}");
            refused
        }
        Ok(admitted) => panic!("{connect:?}: {admitted:?}"),
    }
}

/// The resource may be written raw or escaped, in any case of escapes, with or without the port, and either key signs.
/// The signature holds for the text as it was sent.
#[test]
fn a_token_of_the_device_lets_it_in() {
    let hub = hub();
    assign(&hub, "Toaster-7", TOASTERS, "Toaster-7", keys(), Twin::default());
    assign(&hub, "pump", PUMPS, "the pump", keys(), Twin::default());
    for (named, device_id, sr) in [
        (TOASTERS, "Toaster-7", "toasters.example/devices/Toaster-7"),
        (TOASTERS, "Toaster-7", "toasters.example%2Fdevices%2FToaster-7"),
        (TOASTERS, "Toaster-7", "toasters.example%2fdevices%2fToaster%2D7"),
        (TOASTERS, "Toaster-7", "TOASTERS.example%2Fdevices%2FToaster-7"),
        ("Toasters.Example", "Toaster-7", "toasters.example/devices/Toaster-7"),
        ("toasters.example:9883", "Toaster-7", "toasters.example%3A9883%2Fdevices%2FToaster-7"),
        ("toasters.example:9883", "Toaster-7", "toasters.example/devices/Toaster-7"),
        (TOASTERS, "Toaster-7", "toasters.example:8883/devices/Toaster-7"),
        ("pumps.example", "the pump", "pumps.example/devices/the%20pump"),
        ("pumps.example:9883", "the pump", "pumps.example%3a9883%2fdevices%2fthe%20pump"),
    ] {
        for key in [PRIMARY, SECONDARY] {
            for rest in ["", "&skn="] {
                let password = signed(key, sr, NOW + 60, rest);
                let Admitted { hub, token_expiry, .. } = hub.admit(&connect(named, device_id, &password)).unwrap();
                assert_eq!(
                    (&*hub, token_expiry),
                    (if named.starts_with('p') { PUMPS } else { TOASTERS }, Some(NOW + 60))
                );
            }
        }
    }
}

/// What the log says of a token, and to whom the request belongs.
#[test]
fn a_token_that_is_not_the_devices_is_refused() {
    let hub = hub();
    assign(&hub, "toaster", TOASTERS, "toaster", keys(), Twin::default());
    let sr = "toasters.example%2Fdevices%2Ftoaster";
    let good = signed(PRIMARY, sr, NOW + 60, "");
    for (password, why) in [
        (String::new(), "there is no password"),
        ("hunter2".to_owned(), "the password is no token"),
        (good.replace("sr=", "rs="), "the token has an unknown parameter"),
        (good.replace("SharedAccessSignature", "Bearer"), "the password is no token"),
        (signed(b"another key", sr, NOW + 60, ""), "signed with neither key of the device"),
        (signed(b"", sr, NOW + 60, ""), "signed with neither key of the device"),
        // The signature is over the text as it was sent.
        (good.replace("%2F", "%2f"), "signed with neither key of the device"),
        (good.replace("&se=18", "&se=19"), "signed with neither key of the device"),
        (signed(PRIMARY, sr, NOW - 1, ""), "the token expired 1 s ago"),
        (signed(PRIMARY, "toasters.example", NOW + 60, "&skn=iothubowner"), "tokens of policies are not emulated"),
        (signed(PRIMARY, sr, NOW + 60, "&skn=device"), "tokens of policies are not emulated"),
        (signed(PRIMARY, "toasters.example", NOW + 60, ""), "the token's sr is \"toasters.example\""),
        (signed(PRIMARY, "toasters.example/devices/other", NOW + 60, ""), "sign \"toasters.example/devices/toaster\""),
        (signed(PRIMARY, "toasters.example/devices/Toaster", NOW + 60, ""), "the token's sr is"),
        (signed(PRIMARY, "toasters.example/devices/toaster/modules/m", NOW + 60, ""), "the token's sr is"),
        (signed(PRIMARY, "pumps.example/devices/toaster", NOW + 60, ""), "the token's sr is"),
        (signed(PRIMARY, "0ne1/registrations/toaster", NOW + 60, "&skn=registration"), "the token is for DPS"),
        (signed(PRIMARY, "0ne1/registrations/toaster", NOW + 60, ""), "the token's sr is"),
    ] {
        let refused = refused(&hub, &connect(TOASTERS, "toaster", &password));
        assert!(refused.why.contains(why), "{why}: {refused:?}");
        assert_eq!(refused.registration_id.as_deref(), Some("toaster"), "{refused:?}");
    }
    let other_port = signed(PRIMARY, "toasters.example:1%2Fdevices%2Ftoaster", NOW + 60, "");
    let refused = refused(&hub, &connect("toasters.example:2", "toaster", &other_port));
    assert!(refused.why.contains("the token's sr is"), "{refused:?}");
}

/// All that is checked besides the credentials.
#[test]
fn a_connect_has_to_name_the_device_and_its_hub() {
    type Change = for<'a> fn(HubConnect<'a>) -> HubConnect<'a>;
    let hub = hub();
    assign(&hub, "Toaster", TOASTERS, "Toaster", keys(), Twin::default());
    let password = token(TOASTERS, "Toaster");
    let good = connect(TOASTERS, "Toaster", &password);
    hub.admit(&good).unwrap();
    let allowed: [Change; 4] = [
        |connect| HubConnect { server_name: Some("toasters.example"), ..connect },
        // A gateway, and names of this machine.
        |connect| HubConnect { server_name: Some("gw.local"), ..connect },
        |connect| HubConnect { server_name: Some("localhost"), ..connect },
        |connect| HubConnect { certificates: &[], ..connect },
    ];
    for change in allowed {
        hub.admit(&change(good)).unwrap();
    }
    let cases: [(Change, &str, bool); 7] = [
        (|connect| HubConnect { module_id: Some("edge"), ..connect }, "modules are not emulated", true),
        (|connect| HubConnect { client_id: "toaster", ..connect }, "the client ID is \"toaster\"", true),
        (|connect| HubConnect { client_id: "", ..connect }, "the client ID is \"\"", true),
        (
            |connect| HubConnect { server_name: Some("pumps.example"), ..connect },
            "dialled \"pumps.example:9883\" (TLS server name)",
            true,
        ),
        (|connect| HubConnect { hub: "nowhere.example", ..connect }, "DPS assigned it to toasters.example", true),
        (
            |connect| HubConnect { device_id: "toaster", client_id: "toaster", ..connect },
            "the ID of this device there is \"Toaster\"",
            true,
        ),
        (|connect| HubConnect { device_id: "nobody", ..connect }, "it has to register with DPS first", false),
    ];
    for (change, why, is_known) in cases {
        let refused = refused(&hub, &change(good));
        assert!(refused.why.contains(why), "{why}: {refused:?}");
        assert_eq!(refused.registration_id.is_some(), is_known, "{refused:?}");
    }
    let refused = refused(&hub, &HubConnect { hub: "nowhere.example", device_id: "nobody", ..good });
    assert!(
        refused.why.contains("is not a linked hub. Linked hubs: toasters.example, pumps.example:9883"),
        "{refused:?}"
    );
}

/// A device is let in where DPS put it last, as long as the operator lets it.
#[test]
fn a_device_is_let_in_where_it_is_assigned() {
    let hub = hub();
    let admit = |at: &str, device_id: &str| hub.admit(&connect(at, device_id, &token(at, device_id)));
    let refused = |at: &str, device_id: &str| refused(&hub, &connect(at, device_id, &token(at, device_id))).why;
    assert!(refused(TOASTERS, "toaster").contains("it has to register with DPS first"));
    assign(&hub, "toaster", TOASTERS, "toaster", keys(), Twin::default());
    let session = admit(TOASTERS, "toaster").unwrap();
    let is_valid = || session.is_over(&hub.shared.store.read()).is_none();
    assert!(is_valid());

    hub.set_enabled("TOASTER", false).unwrap();
    assert!(!is_valid() && refused(TOASTERS, "toaster").contains("is disabled at toasters.example"));
    hub.set_enabled("toaster", true).unwrap();
    assert!(is_valid() && admit(TOASTERS, "toaster").is_ok());

    // Moved.
    assign(&hub, "toaster", PUMPS, "toaster", keys(), Twin::default());
    assert!(!is_valid() && admit(PUMPS, "toaster").is_ok());
    assert!(refused(TOASTERS, "toaster").contains("DPS assigned it to pumps.example:9883"));

    hub.remove_device("toaster").unwrap();
    assert!(refused(PUMPS, "toaster").contains("was removed from pumps.example:9883"));
    for change in [hub.set_enabled("toaster", true), hub.remove_device("toaster")] {
        assert_eq!(change, Err(HubError::NotAtHub));
    }
    assert_eq!(hub.remove_device("nobody"), Err(HubError::NoDevice));

    // The device ID is not the registration ID, and another registration takes it.
    assign(&hub, "toaster", TOASTERS, "same", keys(), Twin::default());
    let session = admit(TOASTERS, "same").unwrap();
    assert_eq!(session.registration_id, "toaster");
    assert!(refused(TOASTERS, "toaster").contains("the ID of this device there is \"same\""));
    assign(&hub, "pump", TOASTERS, "same", keys(), Twin::default());
    assert!(session.is_over(&hub.shared.store.read()).is_some());
    assert_eq!(admit(TOASTERS, "same").unwrap().registration_id, "pump");
    assign(&hub, "pump", PUMPS, "same", keys(), Twin::default());
    assert!(refused(TOASTERS, "same").contains("DPS assigned it to pumps.example:9883"));
}

/// A certificate counts if the enrollment names it or its CA, or if DPS issued it. A token goes before it.
#[test]
fn a_certificate_lets_the_device_in() {
    let pki = Pki::new();
    let hub = hub_with(Pki::certificate(&pki.issuing));
    let own = Pki::leaf(&pki.other, "toaster");
    let own_certificate = Certificate::from_text(&BASE64_STANDARD.encode(&own)).unwrap();
    let authority = || Authentication::Authorities(vec![Pki::certificate(&pki.ca)]);
    let own_only = || Authentication::Certificates(vec![own_certificate.clone()]);
    let leaf = |ca: &Ca, name: &str| vec![Pki::leaf(ca, name)];
    let cases: [(Authentication, Vec<CertificateDer<'static>>, Result<(), &str>); 15] = [
        (own_only(), vec![own.clone()], Ok(())),
        (own_only(), leaf(&pki.other, "toaster"), Err("the certificate is not that of the enrollment")),
        (own_only(), leaf(&pki.issuing, "toaster"), Ok(())),
        (authority(), leaf(&pki.ca, "toaster"), Ok(())),
        (authority(), leaf(&pki.ca, "TOASTER"), Ok(())),
        (authority(), leaf(&pki.ca, "pump"), Err("the certificate's common name is \"pump\"")),
        (authority(), leaf(&pki.other, "toaster"), Err("no CA of the enrollment signed the certificate")),
        (authority(), leaf(&pki.issuing, "toaster"), Ok(())),
        (authority(), leaf(&pki.issuing, "pump"), Err("the certificate's common name is \"pump\"")),
        (Authentication::Authorities(vec![]), leaf(&pki.ca, "toaster"), Err("the enrollment names no CA")),
        (authority(), vec![], Err("the device showed no client certificate")),
        (authority(), vec![b"nonsense".to_vec().into()], Err("the certificate cannot be read")),
        (keys(), leaf(&pki.issuing, "toaster"), Ok(())),
        (keys(), leaf(&pki.ca, "toaster"), Err("its enrollment has keys: send a token")),
        (Authentication::Unknown, leaf(&pki.ca, "toaster"), Err("register with DPS again")),
    ];
    for (number, (authentication, certificates, expected)) in cases.into_iter().enumerate() {
        assign(&hub, "toaster", TOASTERS, "toaster", authentication, Twin::default());
        // Microsoft's clients for Node and Python send no password, the one for .NET an empty one.
        for password in [None, Some("")] {
            let shown = rcgen_now();
            let connect = HubConnect {
                password,
                certificates: &certificates,
                shown_at: shown,
                ..connect(TOASTERS, "toaster", "")
            };
            match (hub.admit(&connect), expected) {
                (Ok(admitted), Ok(())) => assert_eq!(admitted.token_expiry, None),
                (Err(refused), Err(why)) => assert!(refused.why.contains(why), "{number} {why}: {refused:?}"),
                (result, _) => panic!("{number}: {result:?}"),
            }
            // rcgen's certificates are valid until 4096.
            let late = HubConnect { shown_at: 67_093_000_000, ..connect };
            assert!(hub.admit(&late).is_err(), "{number}");
        }
    }
    // A token of a device with X.509 does not count, whatever the certificate is.
    assign(&hub, "toaster", TOASTERS, "toaster", authority(), Twin::default());
    let (password, certificates) = (token(TOASTERS, "toaster"), leaf(&pki.ca, "toaster"));
    let with_both = HubConnect { certificates: &certificates, ..connect(TOASTERS, "toaster", &password) };
    assert!(refused(&hub, &with_both).why.contains("leave the password out"));
    assign(&hub, "toaster", TOASTERS, "toaster", Authentication::Unknown, Twin::default());
    assert!(refused(&hub, &with_both).why.contains("register with DPS again"));
}

/// A time at which the certificates of the test are valid.
fn rcgen_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn twin_of(hub: &Hub) -> DeviceTwin {
    hub.shared.store.read().devices.get("toaster").unwrap().record().unwrap().twin.clone()
}

fn at_toasters(twin: Twin) -> (Hub, Admitted) {
    let hub = hub();
    assign(&hub, "toaster", TOASTERS, "toaster", keys(), twin);
    let session = hub.admit(&connect(TOASTERS, "toaster", &token(TOASTERS, "toaster"))).unwrap();
    (hub, session)
}

/// The device sees desired and reported properties with their versions, and no tags. Each change adds 1 to the version of
/// its part, and `null` deletes.
#[test]
fn a_twin_is_read_and_changed() {
    let (hub, session) =
        at_toasters(Twin { tags: members(&json!({ "floor": 4 })), desired: members(&json!({ "state": "on" })) });
    let document = || -> Value { serde_json::from_str(&hub.twin_document(&session).unwrap()).unwrap() };
    let empty = json!({ "desired": { "state": "on", "$version": 1 }, "reported": { "$version": 1 } });
    assert_eq!(document(), empty);

    for (number, (patch, reported)) in [
        (
            r#"{"fan":{"rpm":100,"on":true},"a":[1,{"b":null}]}"#,
            json!({ "fan": { "rpm": 100, "on": true }, "a": [1, { "b": null }] }),
        ),
        (
            r#" { "fan": { "on": null, "new": { "x": null } } } "#,
            json!({ "fan": { "rpm": 100, "new": {} }, "a": [1, { "b": null }] }),
        ),
        (r#"{"a":null,"unknown":null}"#, json!({ "fan": { "rpm": 100, "new": {} } })),
        (r#"{"fan":7}"#, json!({ "fan": 7 })),
        ("{}", json!({ "fan": 7 })),
    ]
    .into_iter()
    .enumerate()
    {
        let version = number as u64 + 2;
        assert_eq!(hub.report(&session, patch.as_bytes()), Ok(version), "{patch}");
        let mut expected = empty.clone();
        expected["reported"] = reported;
        expected["reported"]["$version"] = json!(version);
        assert_eq!(document(), expected, "{patch}");
    }

    hub.patch_twin_with("toaster", json!({ "tags": { "floor": null, "room": "b" } })).unwrap();
    assert_eq!((twin_of(&hub).tags, twin_of(&hub).desired_version), (members(&json!({ "room": "b" })), 1));
    hub.patch_twin_with("TOASTER", json!({ "desired": { "state": null, "darkness": 3 } })).unwrap();
    assert_eq!(document()["desired"], json!({ "darkness": 3, "$version": 2 }));
    for (id, patch, expected) in [
        ("nobody", json!({}), Some(HubError::NoDevice)),
        ("toaster", json!({ "reported": {} }), None),
        ("toaster", json!({ "desired": 1 }), None),
        ("toaster", json!([]), None),
    ] {
        let error = hub.patch_twin_with(id, patch).unwrap_err();
        assert!(expected.map_or(matches!(error, HubError::Json(_)), |expected| error == expected), "{error}");
    }
    hub.remove_device("toaster").unwrap();
    assert_eq!(hub.patch_twin_with("toaster", json!({ "desired": {} })), Err(HubError::NotAtHub));
    assert_eq!(hub.twin_document(&session), Err(HubError::NotAtHub));
    assert_eq!(hub.report(&session, b"{}"), Err(HubError::NotAtHub));
}

/// What breaks a limit changes nothing, and the device is told with a code in the body, too.
#[test]
fn what_breaks_a_limit_is_refused() {
    let (hub, session) = at_toasters(Twin::default());
    let large =
        |length: usize| (0..length / 1000).map(|number| (format!("{number:04}"), json!("x".repeat(996)))).collect();
    assert_eq!(hub.report(&session, &serde_json::to_vec(&Value::Object(large(32_000))).unwrap()), Ok(2));
    let before = twin_of(&hub);
    for (body, why, code) in [
        ("", "the body is no JSON", 400_006),
        (" ", "the body is no JSON", 400_006),
        ("{", "the body is no JSON", 400_006),
        (r#"{"a":1}x"#, "the body is no JSON", 400_006),
        ("[1]", "no object of reported properties", 400_006),
        ("null", "no object of reported properties", 400_006),
        (&format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "the body is no JSON", 400_006),
        (r#"{"$version":3}"#, "\"$version\" in reported has", 400_004),
        (r#"{"a.b":null}"#, "\"a.b\" in reported has", 400_004),
        (r#"{"a":4503599627370496}"#, "reported.a is 4503599627370496", 400_004),
        (
            r#"{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{"i":{"j":{"k":null}}}}}}}}}}}"#,
            "has more than 10 levels",
            400_004,
        ),
        (&json!({ "a": "x".repeat(4097) }).to_string(), "reported.a has 4097 bytes of text", 400_004),
        (&json!({ "a": "x".repeat(800) }).to_string(), "reported would have 32801 bytes; the limit is 32768", 400_004),
    ] {
        let error = hub.report(&session, body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
        let answer: Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!((error.status(), &answer["errorCode"]), (400, &json!(code)), "{error}");
        assert_eq!(answer["message"], error.to_string());
        assert_eq!(twin_of(&hub), before, "{why}");
    }
    for (patch, why) in [
        (json!({ "tags": large(9000) }), "tags would have 9000 bytes; the limit is 8192"),
        (json!({ "desired": large(33_000) }), "desired would have 33000 bytes; the limit is 32768"),
        (json!({ "tags": {}, "desired": { "a": { "$b": null } } }), "\"$b\" in desired.a"),
    ] {
        let error = hub.patch_twin_with("toaster", patch).unwrap_err();
        assert!(matches!(&error, HubError::Limit(text) if text.contains(why)), "{why}: {error}");
        assert_eq!(twin_of(&hub), before, "{why}");
    }
}
