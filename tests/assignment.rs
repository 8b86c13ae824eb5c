//! Every documented field of a registration result, and a copy that outlives the buffer.

mod support;

use azure_dps::{
    Assignment, Provisioning,
    after::Record,
    identity::KeyChoice,
    provisioning::{Answer, ConnectionProfile, OwnedAssignment, Substatus},
};
use support::*;

/// Reads one final answer to the toaster.
fn read<'b>(provisioning: &'b mut Provisioning<'_>, body: &'b str) -> Assignment<'b> {
    provisioning.start(Default::default(), UNIX_TIME);
    provisioning.on_answer(Default::default(), Answer::new(200, None, body.as_bytes()));
    provisioning.result(body.as_bytes()).unwrap()
}

#[test]
fn the_tutorials_result() {
    let mut provisioning = toaster();
    let assignment = read(&mut provisioning, ASSIGNED);
    assert_eq!(assignment.assigned_hub(), TOASTERS_HUB);
    assert!(assignment.device_id() == TOASTER);
    assert!(assignment.registration_id().unwrap() == TOASTER);
    assert_eq!(assignment.substatus(), Some(Substatus::InitialAssignment));
    assert!(assignment.created().unwrap() == "2022-08-03T20:34:41.178Z");
    assert!(assignment.last_updated().unwrap() == "2022-08-03T20:34:41.398Z");
    assert!(assignment.etag().unwrap() == "IjAwMDBhYjAwLTAwMDAtMDcwMC0wMDAwLTYyZWFhZDFlMDAwMCI=");
    assert!(assignment.tpm_authentication_key().is_none());
    assert!(assignment.x509().is_none());
    assert!(assignment.enrollment_group_id().is_none());
    assert!(assignment.issued_certificate_chain().is_none());
    assert!(assignment.field("status").unwrap().text().unwrap() == "assigned");
    assert!(assignment.registration_state().raw().starts_with(r#"{"registrationId":"#));
    assert!(assignment.registration_state().raw().ends_with("}}}"));
}

#[test]
fn every_documented_field() {
    let mut provisioning = toaster();
    let text = include_str!("vectors/registration-state-every-field.json");
    let assignment = read(&mut provisioning, text);
    assert!(assignment.tpm_authentication_key().unwrap().text() == "ADQAIHJ+Xg==");
    assert!(assignment.enrollment_group_id().unwrap() == "contoso-custom-allocated-devices");
    let x509 = assignment.x509().unwrap();
    assert!(x509.enrollment_group_id().unwrap() == "x509-group");
    let certificate = x509.certificate_info().unwrap();
    for (field, expected) in [
        (certificate.subject_name(), "CN=breakroom499-contoso-tstrsd-007"),
        (certificate.sha1_thumbprint(), "0000000000000000000000000000000000"),
        (certificate.sha256_thumbprint(), "validSHA256"),
        (certificate.issuer_name(), "CN=group intermediate"),
        (certificate.not_before(), "2017-11-14T12:34:18Z"),
        (certificate.not_after(), "2017-11-20T12:34:18Z"),
        (certificate.serial_number(), "000000000000000000"),
        (x509.signing_certificate_info().unwrap().subject_name(), "CN=group intermediate"),
        (assignment.issued_client_certificate(), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        (assignment.device_hostname(), "toaster.local"),
        (assignment.device_ip_address(), "10.0.0.7"),
    ] {
        assert_eq!(field.unwrap().to_string(), expected);
    }
    assert_eq!(assignment.connection_profile(), ConnectionProfile::Classic);
    assert_eq!(certificate.version(), Some(3));
    let chain: Vec<_> =
        assignment.issued_certificate_chain().unwrap().map(|each| each.base64().unwrap().raw()).collect();
    assert_eq!(chain, ["TEVBRg==", "SUNB", "Uk9PVA=="]);
    assert!(assignment.trust_bundle().unwrap().get("id").unwrap().text().unwrap() == "default");
    let settings = assignment.device_certificate_issuance_settings().unwrap();
    assert!(settings.get("certificateType").unwrap().text().unwrap() == "serverCertificate");
    assert!(assignment.field("somethingNew").unwrap().bool().unwrap());
    assert!(assignment.field("errorMessage").is_none());
}

/// An unknown value is never taken for a classic hub. The answer, its copy and its record keep the value as sent.
#[test]
fn connection_profiles() {
    for (json, expected) in [
        ("null", "Classic"),
        (r#""classic""#, "Classic"),
        (r#""Classic""#, "Classic"),
        (r#""mqttV5""#, "MqttV5"),
        (r#""MqttV5""#, "MqttV5"),
        (r#""mqtt\u00565""#, "MqttV5"),
        (r#""gen\u0033""#, r#"Other(Text("gen\u0033"))"#),
        (r#""""#, r#"Other(Text(""))"#),
        ("5", r#"Other(Text("5"))"#),
        (r#"{"a":"b"}"#, r#"Other(Text("{"a":"b"}"))"#),
    ] {
        let text = ASSIGNED.replace(r#""substatus""#, &format!(r#""connectionProfile":{json},"substatus""#));
        assert_ne!(text, ASSIGNED);
        let mut provisioning = toaster();
        let assignment = read(&mut provisioning, &text);
        let mut record = [0; 1024];
        let record = assignment.write_record(&registration(TOASTER), KeyChoice::Primary, &mut record).unwrap();
        let record = Record::read(record, &registration(TOASTER)).unwrap();
        let owned: OwnedAssignment = assignment.owned().unwrap();
        for profile in
            [assignment.connection_profile(), owned.connection_profile(), record.assignment().connection_profile()]
        {
            assert_eq!(format!("{profile:?}"), expected, "{json}");
        }
    }
    let mut provisioning = toaster();
    assert_eq!(read(&mut provisioning, ASSIGNED).connection_profile(), ConnectionProfile::Classic);

    // An unknown value that is too long for the copy still counts as unknown.
    for (len, fits) in [(OwnedAssignment::<0>::MAX_PROFILE, true), (OwnedAssignment::<0>::MAX_PROFILE + 1, false)] {
        let name = "x".repeat(len);
        let text = ASSIGNED.replace(r#""substatus""#, &format!(r#""connectionProfile":"{name}","substatus""#));
        let mut provisioning = toaster();
        let owned: Result<OwnedAssignment, _> = read(&mut provisioning, &text).owned();
        match owned {
            Ok(owned) => assert!(
                fits && matches!(owned.connection_profile(), ConnectionProfile::Other(text) if text == name.as_str())
            ),
            Err(error) => assert!(!fits && error.needed == len + 2),
        }
    }
}

#[test]
fn substatuses() {
    for (text, expected) in [
        ("deviceDataMigrated", Substatus::DeviceDataMigrated),
        ("DeviceDataReset", Substatus::DeviceDataReset),
        ("reprovisionedToInitialAssignment", Substatus::ReprovisionedToInitialAssignment),
    ] {
        let body = ASSIGNED.replace("initialAssignment", text);
        assert_eq!(read(&mut toaster(), &body).substatus(), Some(expected));
    }
    let body = ASSIGNED.replace("initialAssignment", "somethingNew");
    assert!(matches!(read(&mut toaster(), &body).substatus(), Some(Substatus::Other(text)) if text == "somethingNew"));
}

#[test]
fn a_device_id_of_the_operators_choice() {
    let body = ASSIGNED.replace(&format!(r#""deviceId":"{TOASTER}""#), r#""deviceId":"T\u002b7's(kitchen)!""#);
    let mut provisioning = toaster();
    let assignment = read(&mut provisioning, &body);
    assert!(assignment.device_id() == "T+7's(kitchen)!");
    assert_eq!(assignment.owned::<256>().unwrap().device_id(), "T+7's(kitchen)!");
}

#[test]
fn an_owned_copy_outlives_the_buffer() {
    let owned: OwnedAssignment = {
        let body = ASSIGNED.to_string();
        read(&mut toaster(), &body).owned().unwrap()
    };
    assert_eq!((owned.assigned_hub(), owned.device_id()), (TOASTERS_HUB, TOASTER));
    let payload = r#"{"property1":"value1","property2":{"propertyA":"valueA","property2-2":1234}}"#;
    assert_eq!(owned.payload(), Some(payload));

    let mut provisioning = toaster();
    let assignment = read(&mut provisioning, ASSIGNED);
    let error = assignment.owned::<70>().unwrap_err();
    assert_eq!((error.needed, error.exact), (payload.len(), true));
    assert!(assignment.owned::<76>().is_ok());
    let body = ASSIGNED.replace(TOASTERS_HUB, &"h".repeat(135));
    assert_eq!(read(&mut toaster(), &body).owned::<256>().unwrap_err().needed, 135);
}

#[test]
fn the_payload_as_a_custom_type() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Payload<'a> {
        property1: &'a str,
        #[serde(borrow)]
        property2: Inner<'a>,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Inner<'a> {
        #[serde(rename = "propertyA")]
        property_a: &'a str,
        #[serde(rename = "property2-2")]
        property2_2: u16,
    }
    let expected = Payload { property1: "value1", property2: Inner { property_a: "valueA", property2_2: 1234 } };
    assert_eq!(read(&mut toaster(), ASSIGNED).payload_as(&mut []).unwrap(), Some(expected));

    // A value of the wrong type is an error. So is borrowed text that has escapes.
    for (from, to) in [("1234", "70000"), ("\"valueA\"", "7"), ("value1", r"va\u006cue1"), ("property1", "another")] {
        let body = ASSIGNED.replace(from, to);
        assert!(read(&mut toaster(), &body).payload_as::<Payload<'_>>(&mut [0; 64]).is_err(), "{to}");
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Owned {
        property1: heapless_text::Text,
    }
    let body = ASSIGNED.replace("value1", r"va\u006cue\n1");
    let owned = read(&mut toaster(), &body).payload_as::<Owned>(&mut [0; 64]).unwrap().unwrap();
    assert_eq!(owned.property1.0, "value\n1");

    let without = ASSIGNED.replace(r#","payload":"#, r#","other":"#);
    assert_eq!(read(&mut toaster(), &without).payload_as::<Payload<'_>>(&mut []).unwrap(), None);
    assert!(read(&mut toaster(), &without).payload().is_none());
}

/// An owned text, such as firmware gets from `heapless`.
mod heapless_text {
    #[derive(Debug, PartialEq)]
    pub struct Text(pub String);

    impl<'de> serde::Deserialize<'de> for Text {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl serde::de::Visitor<'_> for Visitor {
                type Value = Text;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a string")
                }
                fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                    Ok(Text(text.into()))
                }
            }
            deserializer.deserialize_str(Visitor)
        }
    }
}
