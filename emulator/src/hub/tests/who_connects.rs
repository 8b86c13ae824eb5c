//! Which devices may connect to a hub, and what the log says about the others.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;

use super::{
    NOW, PRIMARY, PUMPS, SECONDARY, TOASTERS, assign, ca, certificate, connect, hub, hub_with, keys, signed, token,
};
use crate::{
    clock::wall_time,
    config::Twin,
    hub::{
        Hub,
        admission::{HubConnect, RefusalAnswer, Refused},
        admitted::Admitted,
        error::HubError,
    },
    identity::{ca::Ca, certificate::Certificate},
    store::hub_device::Authentication,
};

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

/// The resource of a token may be raw or escaped, with escapes in any case, with or without the port. Either key may
/// sign. The signature is over the text as it was sent.
#[test]
fn a_token_of_the_device_is_accepted() {
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

/// The log says what is wrong with a token, and names the device.
#[test]
fn a_token_that_is_not_of_the_device_is_rejected() {
    let hub = hub();
    assign(&hub, "toaster", TOASTERS, "toaster", keys(), Twin::default());
    const KEY_IN_SKN: &str = "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
    let sr = "toasters.example%2Fdevices%2Ftoaster";
    let good = signed(PRIMARY, sr, NOW + 60, "");
    for (password, why) in [
        (String::new(), "there is no password"),
        ("hunter2".to_owned(), "the password is not a token"),
        (good.replace("sr=", "rs="), "the token has an unknown parameter"),
        (good.replace("SharedAccessSignature", "Bearer"), "the password is not a token"),
        (signed(b"another key", sr, NOW + 60, ""), "signed with neither key of the device"),
        (signed(b"", sr, NOW + 60, ""), "signed with neither key of the device"),
        // The signature is over the text as it was sent.
        (good.replace("%2F", "%2f"), "signed with neither key of the device"),
        (good.replace("&se=18", "&se=19"), "signed with neither key of the device"),
        (signed(PRIMARY, sr, NOW - 1, ""), "the token expired 1 s ago"),
        (signed(PRIMARY, "toasters.example", NOW + 60, "&skn=iothubowner"), "tokens of policies are not emulated"),
        (signed(PRIMARY, sr, NOW + 60, &format!("&skn={KEY_IN_SKN}")), "tokens of policies are not emulated"),
        (signed(PRIMARY, "toasters.example", NOW + 60, ""), "the token's sr is \"toasters.example\""),
        (signed(PRIMARY, "toasters.example/devices/other", NOW + 60, ""), "sign \"toasters.example/devices/toaster\""),
        (signed(PRIMARY, "toasters.example/devices/Toaster", NOW + 60, ""), "the token's sr is"),
        (signed(PRIMARY, "toasters.example/devices/toaster/modules/m", NOW + 60, ""), "the token's sr is"),
        (signed(PRIMARY, "pumps.example/devices/toaster", NOW + 60, ""), "the token's sr is"),
        (signed(PRIMARY, "0ne1/registrations/toaster", NOW + 60, "&skn=registration"), "the token is for DPS"),
        (signed(PRIMARY, "0ne1/registrations/toaster", NOW + 60, ""), "the token's sr is"),
    ] {
        let refused = refused(&hub, &connect(TOASTERS, "toaster", &password));
        assert!(refused.why.contains(why) && !refused.why.contains(KEY_IN_SKN), "{why}: {refused:?}");
        assert_eq!(refused.registration_id.as_deref(), Some("toaster"), "{refused:?}");
    }
    let other_port = signed(PRIMARY, "toasters.example:1%2Fdevices%2Ftoaster", NOW + 60, "");
    let refused = refused(&hub, &connect("toasters.example:2", "toaster", &other_port));
    assert!(refused.why.contains("the token's sr is"), "{refused:?}");
}

/// Everything that is checked besides the credentials.
#[test]
fn a_connect_must_name_the_device_and_its_hub() {
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
            "dialed \"pumps.example:9883\" (TLS server name)",
            true,
        ),
        (|connect| HubConnect { hub: "nowhere.example", ..connect }, "DPS assigned it to toasters.example", true),
        (
            |connect| HubConnect { device_id: "toaster", client_id: "toaster", ..connect },
            "the ID of this device there is \"Toaster\"",
            true,
        ),
        (|connect| HubConnect { device_id: "nobody", ..connect }, "the device must register with DPS first", false),
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

/// A device is let in at the hub of its last assignment, unless the operator disabled or removed it there.
#[test]
fn a_device_is_accepted_only_at_its_assigned_hub() {
    let hub = hub();
    let admit = |at: &str, device_id: &str| hub.admit(&connect(at, device_id, &token(at, device_id)));
    let refused = |at: &str, device_id: &str| refused(&hub, &connect(at, device_id, &token(at, device_id))).why;
    assert!(refused(TOASTERS, "toaster").contains("the device must register with DPS first"));
    assign(&hub, "toaster", TOASTERS, "toaster", keys(), Twin::default());
    let session = admit(TOASTERS, "toaster").unwrap();
    let is_valid = || session.is_over(&hub.shared.store.read()).is_none();
    assert!(is_valid());

    hub.set_enabled("TOASTER", false).unwrap();
    assert!(!is_valid() && refused(TOASTERS, "toaster").contains("is disabled at toasters.example"));
    hub.set_enabled("toaster", true).unwrap();
    assert!(is_valid() && admit(TOASTERS, "toaster").is_ok());

    // The device is assigned to another hub.
    assign(&hub, "toaster", PUMPS, "toaster", keys(), Twin::default());
    assert!(!is_valid() && admit(PUMPS, "toaster").is_ok());
    assert!(refused(TOASTERS, "toaster").contains("DPS assigned it to pumps.example:9883"));

    hub.remove_device("toaster").unwrap();
    assert!(refused(PUMPS, "toaster").contains("was removed from pumps.example:9883"));
    for change in [hub.set_enabled("toaster", true), hub.remove_device("toaster")] {
        assert_eq!(change, Err(HubError::NotAtHub));
    }
    assert_eq!(hub.remove_device("nobody"), Err(HubError::NoDevice));

    // The device ID differs from the registration ID, and another registration takes the device ID.
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

/// Returns the certificate of a device.
fn device_certificate(ca: &Ca, name: &str) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    ca.sign(&params, &KeyPair::generate().unwrap()).unwrap().der().clone()
}

/// A certificate is accepted if the enrollment has the certificate or its CA, or if DPS issued it. A token takes
/// precedence.
#[test]
fn a_certificate_of_the_device_is_accepted() {
    let [ca_of_group, issuing, other] = [ca(), ca(), ca()];
    let hub = hub_with(certificate(&issuing));
    let own = device_certificate(&other, "toaster");
    let own_certificate = Certificate::from_text(&BASE64_STANDARD.encode(&own)).unwrap();
    let authority = || Authentication::Authorities(vec![certificate(&ca_of_group)]);
    let own_only = || Authentication::Certificates(vec![own_certificate.clone()]);
    let leaf = |ca: &Ca, name: &str| vec![device_certificate(ca, name)];
    let cases: [(Authentication, Vec<CertificateDer<'static>>, Result<(), &str>); 15] = [
        (own_only(), vec![own.clone()], Ok(())),
        (own_only(), leaf(&other, "toaster"), Err("the certificate is not that of the enrollment")),
        (own_only(), leaf(&issuing, "toaster"), Ok(())),
        (authority(), leaf(&ca_of_group, "toaster"), Ok(())),
        (authority(), leaf(&ca_of_group, "TOASTER"), Ok(())),
        (authority(), leaf(&ca_of_group, "pump"), Err("the certificate's common name is \"pump\"")),
        (authority(), leaf(&other, "toaster"), Err("no CA of the enrollment signed the certificate")),
        (authority(), leaf(&issuing, "toaster"), Ok(())),
        (authority(), leaf(&issuing, "pump"), Err("the certificate's common name is \"pump\"")),
        (Authentication::Authorities(vec![]), leaf(&ca_of_group, "toaster"), Err("the enrollment names no CA")),
        (authority(), vec![], Err("the device sent no client certificate")),
        (authority(), vec![b"nonsense".to_vec().into()], Err("the certificate cannot be read")),
        (keys(), leaf(&issuing, "toaster"), Ok(())),
        (keys(), leaf(&ca_of_group, "toaster"), Err("its enrollment has keys: send a token")),
        (Authentication::Unknown, leaf(&ca_of_group, "toaster"), Err("register with DPS again")),
    ];
    for (number, (authentication, certificates, expected)) in cases.into_iter().enumerate() {
        assign(&hub, "toaster", TOASTERS, "toaster", authentication, Twin::default());
        // Microsoft's clients for Node and Python send no password, and the client for .NET sends an empty one.
        for password in [None, Some("")] {
            let shown = wall_time::unix_seconds();
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
            // Certificates of rcgen are valid until 4096.
            let late = HubConnect { shown_at: 67_093_000_000, ..connect };
            assert!(hub.admit(&late).is_err(), "{number}");
        }
    }
    // If the enrollment has X.509, a token is rejected, even with a valid certificate.
    assign(&hub, "toaster", TOASTERS, "toaster", authority(), Twin::default());
    let (password, certificates) = (token(TOASTERS, "toaster"), leaf(&ca_of_group, "toaster"));
    let with_both = HubConnect { certificates: &certificates, ..connect(TOASTERS, "toaster", &password) };
    assert!(refused(&hub, &with_both).why.contains("leave the password out"));
    assign(&hub, "toaster", TOASTERS, "toaster", Authentication::Unknown, Twin::default());
    assert!(refused(&hub, &with_both).why.contains("register with DPS again"));
}
