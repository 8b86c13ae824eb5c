//! User name, token and connection string for the hub, with vectors from another implementation.

mod support;

use azure_dps::{
    DeviceKey, Error,
    after::Hub,
    error::BufferTooSmall,
    identity::{InvalidHub, Sign, SignError},
    provisioning::OwnedAssignment,
};
use support::*;

const EXPIRY: u64 = UNIX_TIME + 3600;

fn hub() -> Hub<'static> {
    Hub::new(TOASTERS_HUB, TOASTER).unwrap()
}

/// Returns the token made from its message, for a signer that does not block.
fn signed_elsewhere(hub: &Hub<'_>, key: &mut DeviceKey, expiry: u64) -> String {
    let (mut buffer, mut signature) = ([0; 512], [0; 32]);
    key.sign(hub.write_message(expiry, &mut buffer).unwrap(), &mut signature).unwrap();
    hub.write_signed_token(&signature, expiry, &mut buffer).unwrap().to_owned()
}

/// Returns the tutorial's answer with another device ID, in its JSON form.
fn with_device_id(device_id: &str) -> String {
    ASSIGNED.replace(&format!(r#""deviceId":"{TOASTER}""#), &format!(r#""deviceId":"{device_id}""#))
}

#[test]
fn tokens_equal_those_of_another_implementation() {
    let rows = include_str!("vectors/hub-tokens.tsv").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for row in rows {
        let [key, host, device_id, sr, expiry, signature] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let hub = Hub::new(host, device_id).unwrap();
        let mut key = DeviceKey::from_base64(key).unwrap();
        let expected = format!("SharedAccessSignature sr={sr}&sig={signature}&se={expiry}");
        let expiry = expiry.parse().unwrap();
        assert_eq!(hub.write_token(&mut key, expiry, &mut [0; 512]).unwrap(), expected);
        assert_eq!(signed_elsewhere(&hub, &mut key, expiry), expected);
        // The token is for the hub in the user name.
        let user_name = format!("{}/{device_id}/?api-version=2021-04-12", hub.host());
        assert_eq!(hub.write_user_name(&mut [0; 512]).unwrap(), user_name);
        assert!(sr.starts_with(&format!("{}%2Fdevices%2F", hub.host())));
        count += 1;
    }
    assert_eq!(count, 8);
}

#[test]
fn the_hub_of_an_answer() {
    let assignment = assigned(&registration(TOASTER), ASSIGNED).unwrap();
    assert_eq!(assignment.hub(), hub());
    assert_eq!((assignment.hub().host(), assignment.hub().device_id()), (TOASTERS_HUB, TOASTER));
    let owned: OwnedAssignment = assignment.owned().unwrap();
    assert_eq!(owned.hub(), hub());
}

#[test]
fn a_device_id_may_need_every_kind_of_escape() {
    // The device ID in the answer, decoded, and as part of a URI.
    for (json, device_id, encoded) in [
        ("T-7", "T-7", "T-7"),
        (r"T\u002b7", "T+7", "T%2B7"),
        (r"T\u002B7's(kitchen)!", "T+7's(kitchen)!", "T%2B7%27s%28kitchen%29%21"),
        ("a%2Fb", "a%2Fb", "a%252Fb"),
        (r"\u0025\u0064", "%d", "%25d"),
        ("a:b@c=d?e#f", "a:b@c=d?e#f", "a%3Ab%40c%3Dd%3Fe%23f"),
    ] {
        let body = with_device_id(json);
        let hub = assigned(&registration(TOASTER), &body).unwrap().hub();
        assert_eq!(hub, Hub::new(TOASTERS_HUB, device_id).unwrap());

        let mut buffer = [0; 512];
        assert_eq!(hub.client_id(), device_id);
        let user_name = format!("{TOASTERS_HUB}/{device_id}/?api-version=2021-04-12");
        assert_eq!(hub.write_user_name(&mut buffer).unwrap(), user_name);
        let sr = format!("SharedAccessSignature sr={TOASTERS_HUB}%2Fdevices%2F{encoded}&sig=");
        let token = hub.write_token(&mut toaster_key(), EXPIRY, &mut buffer).unwrap().to_owned();
        assert_eq!(signed_elsewhere(&hub, &mut toaster_key(), EXPIRY), token);
        assert!(token.starts_with(&sr) && token.ends_with("&se=1700003600"), "{token}");
        let connection_string = format!("HostName={TOASTERS_HUB};DeviceId={device_id};SharedAccessKey={TOASTER_KEY}");
        assert_eq!(hub.write_connection_string(&toaster_key(), &mut buffer).unwrap(), connection_string);
    }
}

#[test]
fn the_user_name_has_the_callers_parameters() {
    let mut buffer = [0; 256];
    let expected = format!(
        "{TOASTERS_HUB}/{TOASTER}/?api-version=2025-08-01-preview&DeviceClientType=toaster%2F1.2%20%28rev%26b%29"
    );
    let hub = hub().with_api_version("2025-08-01-preview").with_device_client_type("toaster/1.2 (rev&b)");
    assert_eq!(hub.write_user_name(&mut buffer).unwrap(), expected);
}

#[test]
fn connection_strings() {
    let mut buffer = [0; 256];
    assert_eq!(
        hub().write_connection_string(&toaster_key(), &mut buffer).unwrap(),
        "HostName=contoso-toasters-hub-1098.azure-devices.net;DeviceId=breakroom499-contoso-tstrsd-007;\
         SharedAccessKey=JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs="
    );
    assert_eq!(
        hub().write_x509_connection_string(&mut buffer).unwrap(),
        "HostName=contoso-toasters-hub-1098.azure-devices.net;DeviceId=breakroom499-contoso-tstrsd-007;x509=true"
    );
}

/// Writes each text into buffers of every size. (`tests/sizes.rs` has the largest texts.)
#[test]
fn a_small_buffer_error_names_the_size_it_needs() {
    type Write = fn(&Hub<'_>, &mut [u8]) -> Result<usize, Error>;
    let cases: [(&str, Write); 6] = [
        ("user name", |hub, buffer| Ok(hub.write_user_name(buffer)?.len())),
        ("connection string", |hub, buffer| Ok(hub.write_connection_string(&toaster_key(), buffer)?.len())),
        ("x509", |hub, buffer| Ok(hub.write_x509_connection_string(buffer)?.len())),
        ("token", |hub, buffer| Ok(hub.write_token(&mut toaster_key(), EXPIRY, buffer)?.len())),
        ("message", |hub, buffer| Ok(hub.write_message(EXPIRY, buffer)?.len())),
        // All characters of base64 that a URI escapes.
        ("signed token", |hub, buffer| Ok(hub.write_signed_token(&[0xff; 32], EXPIRY, buffer)?.len())),
    ];
    for (name, write) in cases {
        let mut buffer = [0; 512];
        let Err(Error::BufferTooSmall(BufferTooSmall { needed, exact: true, .. })) = write(&hub(), &mut []) else {
            panic!("{name}")
        };
        for size in 0..needed {
            let Err(Error::BufferTooSmall(error)) = write(&hub(), &mut buffer[..size]) else {
                panic!("{name}: {size}")
            };
            assert!(error.needed <= needed, "{name}: {size}");
        }
        assert!(write(&hub(), &mut buffer[..needed]).is_ok(), "{name}");
    }
}

#[test]
fn stored_values_are_checked() {
    let long = "h".repeat(254);
    for host in ["", "hub.azure-devices.net;x509=true", "hub/..", "hub\n", "häb", "hub:", "hub:0", "hub:8883/", &long]
    {
        assert_eq!(Hub::new(host, TOASTER).unwrap_err(), InvalidHub::Host, "{host}");
    }
    let long = "d".repeat(129);
    for device_id in ["", "a;b", "a/b", "a b", "a\"b", "a\\u002bb", "\\", "ä", "a\n", &long] {
        assert_eq!(Hub::new(TOASTERS_HUB, device_id).unwrap_err(), InvalidHub::DeviceId, "{device_id}");
    }
    // The library does not derive anything from the name of a hub.
    let (host, device_id) = ("h".repeat(253), "d".repeat(128));
    assert!(Hub::new(&host, &device_id).is_ok() && Hub::new("x", "y").is_ok());
    for error in [InvalidHub::Host, InvalidHub::DeviceId] {
        assert!(error.to_string().len() > 40);
    }
}

/// A gateway name is used for the connection, and for clients that take a connection string.
#[test]
fn a_port_is_not_part_of_the_hub_name() {
    let hub = Hub::new("hub.localhost:9883", "dev-1").unwrap();
    assert_eq!((hub.host(), hub.port(), hub.client_id()), ("hub.localhost", Some(9883), "dev-1"));
    let mut buffer = [0; 256];
    assert_eq!(
        hub.write_x509_connection_string(&mut buffer).unwrap(),
        "HostName=hub.localhost:9883;DeviceId=dev-1;x509=true"
    );
    assert_eq!(hub.write_telemetry_topic(&[], &mut buffer).unwrap(), "devices/dev-1/messages/events/");
}

#[test]
fn the_error_of_a_signer_is_returned() {
    struct Broken;
    impl Sign for Broken {
        fn sign(&mut self, _: &[u8], _: &mut [u8; 32]) -> Result<(), SignError> {
            Err(SignError::new("no answer"))
        }
    }
    assert_eq!(hub().write_token(&mut Broken, EXPIRY, &mut [0; 512]), Err(Error::Signer(SignError::new("no answer"))));
}
