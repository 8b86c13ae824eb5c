//! The examples `csr` and `x509` in sequence: the first requests a certificate during provisioning, the second uses it.

#[path = "support/programs.rs"]
mod programs;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use azure_dps_emulator::{
    Certificate, Config, Emulator, EnrollmentGroup, IndividualEnrollment, SymmetricKey, X509Attestation,
};
use programs::{example, output_of};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const DEVICE: &str = "device-1";
const KEY: &str = "JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=";
const HUB: &str = "hub.azure-devices.net";

fn emulator() -> Emulator {
    let mut config = Config { id_scope: "0ne00002193".into(), linked_hubs: vec![HUB.into()], ..Config::default() };
    config.behaviour.retry_after = Some(1);
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: DEVICE.into(),
        primary_key: SymmetricKey::from_base64(KEY).unwrap(),
        certificate_policy: Some("policy".into()),
        ..Default::default()
    });
    Emulator::builder(config).http("127.0.0.1:0").https("127.0.0.1:0").start().unwrap()
}

fn csr(emulator: &Emulator, directory: &Path) -> Output {
    let mut command = Command::new(example("csr"));
    command.args([emulator.http_url().unwrap(), DEVICE]).arg(directory).env("AZURE_DPS_SYMMETRIC_KEY", KEY);
    output_of(&mut command)
}

fn x509(emulator: &Emulator, directory: &Path) -> Output {
    let file = |name| directory.join(name);
    fs::write(file("ca.pem"), emulator.ca_pem()).unwrap();
    let address = emulator.https_url().unwrap().trim_start_matches("https://");
    let mut command = Command::new(example("x509"));
    command.arg(address).args([file("ca.pem"), file("device.pem"), file("device-key.pem")]).arg(DEVICE);
    output_of(&mut command)
}

#[track_caller]
fn assigned(output: &Output) {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text == format!("{HUB} {DEVICE}\n"), "{text}{errors}");
}

#[track_caller]
fn refused(output: &Output, why: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains(why), "{errors}");
}

#[test]
fn the_issued_certificate_is_accepted() {
    let emulator = emulator();
    let directory = tempfile::tempdir().unwrap();
    // An older file that every user can read.
    fs::write(directory.path().join("device-key.pem"), "").unwrap();
    assigned(&csr(&emulator, directory.path()));
    let key = fs::metadata(directory.path().join("device-key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    // A hub that trusts the issuing CA only.
    assert_eq!(connect(directory.path(), emulator.issuing_ca_pem()).unwrap(), b"hello");
    let stranger = Emulator::builder(Config::contoso()).start().unwrap();
    connect(directory.path(), stranger.issuing_ca_pem()).unwrap_err();

    // DPS itself rejects the certificate until the operator has enrolled the CA.
    refused(&x509(&emulator, directory.path()), "401002");
    emulator.update(|config| {
        config.individual_enrollments.clear();
        let primary = Certificate::from_pem(stranger.issuing_ca_pem()).unwrap();
        config.enrollment_groups.push(EnrollmentGroup {
            enrollment_group_id: "issued".into(),
            x509: Some(X509Attestation { primary, secondary: None }),
            ..Default::default()
        });
    });
    refused(&x509(&emulator, directory.path()), "401002");
    emulator.update(|config| {
        let primary = Certificate::from_pem(emulator.issuing_ca_pem()).unwrap();
        config.enrollment_groups[0].x509 = Some(X509Attestation { primary, secondary: None });
    });
    assigned(&x509(&emulator, directory.path()));
}

#[test]
fn nothing_is_issued_without_a_policy() {
    let emulator = emulator();
    let directory = tempfile::tempdir().unwrap();
    emulator.update(|config| config.individual_enrollments[0].certificate_policy = None);
    refused(&csr(&emulator, directory.path()), "400000");
    emulator.update(|config| config.behaviour.ignore_csr_without_policy = true);
    refused(&csr(&emulator, directory.path()), "no certificate was issued");
    assert!(!directory.path().join("device.pem").exists());
}

#[test]
fn an_untrusted_server_is_not_tried_again() {
    let (emulator, other) = (emulator(), emulator());
    let directory = tempfile::tempdir().unwrap();
    assigned(&csr(&emulator, directory.path()));
    let file = |name| directory.path().join(name);
    fs::write(file("ca.pem"), other.ca_pem()).unwrap();
    let address = emulator.https_url().unwrap().trim_start_matches("https://");
    let mut command = Command::new(example("x509"));
    command.arg(address).args([file("ca.pem"), file("device.pem"), file("device-key.pem")]).arg(DEVICE);
    refused(&output_of(&mut command), "invalid peer certificate");
}

/// Connects with the device's files to a server that trusts `ca`.
fn connect(directory: &Path, ca: &str) -> std::io::Result<Vec<u8>> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a hub");
    let server = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca.as_bytes()).map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![server.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hub = thread::spawn(move || {
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, listener.accept().unwrap().0);
        // Errors are ignored. A rejected client reads the reason.
        let _ = stream.write_all(b"hello").and_then(|()| stream.flush());
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });

    let mut trusted = RootCertStore::empty();
    trusted.add(server.der().clone()).unwrap();
    let chain = CertificateDer::pem_file_iter(directory.join("device.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(directory.join("device-key.pem")).unwrap();
    let client = ClientConfig::builder().with_root_certificates(trusted).with_client_auth_cert(chain, key).unwrap();
    let session = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, TcpStream::connect(address)?);
    let mut greeting = Vec::new();
    let read = stream.read_to_end(&mut greeting);
    drop(stream);
    hub.join().unwrap();
    read.map(|_| greeting)
}
