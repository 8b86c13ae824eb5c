//! The host names that devices dial: the names in the certificate, and the hubs.

mod support;

use std::{io::Write, net::TcpListener, process::Command, sync::Arc};

use azure_dps_emulator::{Builder, Config, Emulator, UnlinkedHub};
use rcgen::CertificateParams;
use rustls::{
    CertificateError, ClientConnection, Error,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::json;
use support::{mqtt::tcp, x509::*, *};
use x509_parser::prelude::{GeneralName, parse_x509_certificate};

fn start(builder: Builder) -> Emulator {
    builder.http("127.0.0.1:0").https("127.0.0.1:0").mqtts("127.0.0.1:0").start().unwrap()
}

fn with_hubs(hubs: &[&str]) -> Config {
    let mut config = Config::contoso();
    config.enrollment_groups[0].allocation.iot_hubs.clear();
    config.linked_hubs = hubs.iter().map(|&hub| hub.to_owned()).collect();
    config
}

/// Dials a listener with this name. Returns the server's certificate, or why the client rejects it.
fn dial(emulator: &Emulator, url: &str, name: &str) -> Result<CertificateDer<'static>, Error> {
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(tls_config(emulator, None)), server).unwrap();
    let mut stream = tcp(url);
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| error.downcast::<Error>().unwrap())?;
    }
    Ok(connection.peer_certificates().unwrap()[0].clone())
}

fn is_refused(dialled: &Result<CertificateDer<'static>, Error>) -> bool {
    matches!(dialled, Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })))
}

fn names_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    let (_, certificate) = parse_x509_certificate(certificate).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(address) => format!("{address:?}"),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn the_certificate_names_loopback_all_linked_hubs_and_gateways() {
    let config = with_hubs(&[TOASTERS_HUB, "Hub-2.Contoso.com:8883", "hub-2.contoso.com", "10.1.2.3:9883", "a..b"]);
    let emulator = start(builder(config).gateway_name("Gateway.Local").gateway_name("10.0.0.7"));
    for url in [emulator.https_url().unwrap(), emulator.mqtts_url().unwrap()] {
        for name in [
            "localhost",
            "hub.localhost",
            "127.0.0.1",
            "::1",
            "global.azure-devices-provisioning.net",
            TOASTERS_HUB,
            "HUB-2.contoso.COM",
            "10.1.2.3",
            "gateway.local",
            "10.0.0.7",
        ] {
            dial(&emulator, url, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for name in [HEATPUMPS_HUB, "other.localhost", "contoso.com", "x.gateway.local", "127.0.0.2"] {
            assert!(is_refused(&dial(&emulator, url, name)), "{name}");
        }
    }
    let names = names_in(&dial(&emulator, emulator.https_url().unwrap(), "localhost").unwrap());
    assert_eq!(names.len(), 10, "each name once: {names:?}");
}

/// If a hub is added after the start, the same CA signs a new certificate.
#[test]
fn a_hub_that_is_linked_later_is_in_the_certificate_at_once() {
    let emulator = start(builder(with_hubs(&[TOASTERS_HUB])));
    let url = emulator.mqtts_url().unwrap();
    assert!(is_refused(&dial(&emulator, url, "later.contoso.com")));
    emulator.update(|config| config.linked_hubs.push("Later.contoso.com:8883".to_owned()));
    for name in ["later.contoso.com", TOASTERS_HUB, "localhost"] {
        let names = names_in(&dial(&emulator, url, name).unwrap());
        assert_eq!(names.last().unwrap(), "later.contoso.com", "{name}");
    }
    assert!(is_refused(&dial(&emulator, url, "never.contoso.com")));
}

#[test]
fn a_hub_that_a_webhook_assigned_is_in_the_certificate() {
    const ELSEWHERE: &str = "elsewhere.contoso.com";
    let (webhook, served) = webhook(1, |_| json!({ "iotHubHostName": ELSEWHERE }));
    let mut config = Config::contoso();
    config.behaviour.unlinked_hub = UnlinkedHub::Assigned;
    let emulator = start(builder(config).webhook(webhook));
    let url = emulator.https_url().unwrap();
    assert!(is_refused(&dial(&emulator, url, ELSEWHERE)));
    assert_eq!(Device::of_group(&emulator, TOASTER).assigned()["assignedHub"], ELSEWHERE);
    dial(&emulator, url, ELSEWHERE).unwrap();
    served.join().unwrap();
}

/// The certificate stays short enough for small TLS stacks.
#[test]
fn a_hub_beyond_the_limit_is_in_the_certificate_when_it_is_dialed() {
    let hubs: Vec<_> = (0..250).map(|each| format!("hub-{each}.contoso.com")).collect();
    let emulator = start(builder(with_hubs(&hubs.iter().map(String::as_str).collect::<Vec<_>>())));
    let url = emulator.https_url().unwrap();
    for hub in hubs.iter().rev().chain(&hubs[..10]) {
        assert!(names_in(&dial(&emulator, url, hub).unwrap()).len() <= 105, "{hub}");
    }
}

#[test]
fn a_certificate_of_the_user_without_a_hub_has_a_warning() {
    let ca = Ca::root("own CA");
    let of = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let pem = ca.sign(&CertificateParams::new(names).unwrap()).pem();
        let (chain, key) = pem.split_at(pem.find("-----BEGIN PRIVATE KEY").unwrap());
        (chain.to_owned(), key.to_owned())
    };
    let config = || with_hubs(&["one.contoso.com:8883", "two.contoso.com", "10.1.2.3"]);
    for (names, lacking) in [
        (&["localhost", "one.contoso.com", "two.contoso.com", "10.1.2.3", "gateway"][..], None),
        (&["*.contoso.com", "10.1.2.3", "gateway"], None),
        (&["one.contoso.com", "gateway"], Some("two.contoso.com, 10.1.2.3:")),
        (&["localhost"], Some("one.contoso.com, two.contoso.com, 10.1.2.3, gateway:")),
    ] {
        let (chain, key) = of(names);
        let emulator = start(builder(config()).certificate(chain.clone(), key.clone()).gateway_name("gateway"));
        let warnings = emulator.warnings();
        assert_eq!(warnings.len(), lacking.iter().len(), "{names:?}: {warnings:?}");
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            std::fs::write(files.path().join(name), text).unwrap();
            files.path().join(name)
        };
        let toml = "id_scope = 's'\nlinked_hubs = ['one.contoso.com:8883', 'two.contoso.com', '10.1.2.3']\n";
        let mut check = Command::new(DPS);
        check.arg("--config").arg(path("dps.toml", toml)).arg("--check").args(["--gateway-name", "gateway"]);
        check.arg("--tls-certificate").arg(path("chain.pem", &chain)).arg("--tls-key").arg(path("key.pem", &key));
        let (code, checked, _) = output(&mut check);
        let told = checked.lines().find(|line| line.starts_with("warning: --tls-certificate: "));
        assert_eq!(code, 0);
        match lacking {
            None => assert_eq!(told, None),
            Some(lacking) => {
                let expected = format!("the certificate of the TLS listeners does not name {lacking}");
                assert!(warnings[0].starts_with(&expected), "{}", warnings[0]);
                assert!(told.unwrap().contains(&expected), "{checked}");
            }
        }
        // The start also reports whether the certificate is valid.
        let mut check = Command::new(DPS);
        check.args(["--check", "--tls-key", "/nowhere.pem", "--tls-certificate"]).arg(path("chain.pem", &chain));
        let (code, checked, _) = output(&mut check);
        assert_eq!(code, 3);
        assert!(checked.starts_with("error: --tls-certificate: /nowhere.pem: No such file"), "{checked}");
    }
}

fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn hosts_prints_a_line_for_each_linked_hub_and_gateway() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(
        file,
        "id_scope = 's'\nlinked_hubs = ['Hub-1.contoso.com:8883', 'hub-1.contoso.com', 'localhost:9883', \
         'hub.localhost', '10.1.2.3']\n"
    )
    .unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let path = path.as_str();
    let contoso = format!("127.0.0.1 {TOASTERS_HUB}\n127.0.0.1 {HEATPUMPS_HUB}\n");
    for (arguments, lines) in [
        (&["--hosts"][..], contoso.as_str()),
        (&["--hosts", "--config", path], "127.0.0.1 hub-1.contoso.com\n127.0.0.1 hub.localhost\n"),
        (
            &["--hosts", "--config", path, "--gateway-name", "Gateway", "--gateway-name", "10.0.0.7"],
            "127.0.0.1 hub-1.contoso.com\n127.0.0.1 hub.localhost\n127.0.0.1 gateway\n",
        ),
    ] {
        let (code, stdout, stderr) = output(Command::new(DPS).args(arguments));
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert_eq!(stdout, format!("# dps-emulator: linked hubs and gateway names\n{lines}"));
    }
    write!(file, "what = 1").unwrap();
    let (code, stdout, stderr) = output(Command::new(DPS).args(["--hosts", "--config", path]));
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(stderr.contains("what: this key is unknown"), "{stderr}");
    assert_eq!(output(Command::new(DPS).args(["--hosts", "--check"])).0, 2);
}

#[test]
fn a_name_or_an_address_that_cannot_be_used_is_refused_before_the_start() {
    let address = "it must be ADDR:PORT, for example 127.0.0.1:8080 or [::1]:8080";
    let name = "is not the name or address of a host, without scheme and port";
    for (flag, value, why) in [
        ("--http", "8080", address),
        ("--https", ":8080", address),
        ("--mqtt", "localhost", address),
        ("--mqtts", "127.0.0.1:80800", address),
        ("--http", "::1:8080", address),
        ("--control", "nowhere", address),
        ("--http", "9999", "for example 127.0.0.1:9999 or [::1]:9999"),
        ("--gateway-name", "gateway:8883", name),
        ("--gateway-name", "https://gateway", name),
        ("--gateway-name", "", name),
    ] {
        let (code, _, stderr) = output(Command::new(DPS).args([flag, value]));
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(why) && stderr.contains(flag), "{stderr}");
    }
    let error = builder(Config::contoso()).gateway_name("a b").start().unwrap_err().to_string();
    assert_eq!(error, format!("a gateway name cannot be used: \"a b\" {name}"));
    // An address that is in use.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--http", "--https", "--mqtt", "--mqtts", "--control"] {
        let (code, _, stderr) = output(Command::new(DPS).args([flag, &address]));
        assert_eq!(code, 1);
        let line = format!("dps-emulator: {flag}: cannot listen on {address}: Address ");
        assert!(stderr.starts_with(&line) && stderr.ends_with("; port 0 takes a free one\n"), "{stderr}");
    }
}
