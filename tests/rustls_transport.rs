//! `azure_dps::tls` with the emulator, with proxies, and with servers that misbehave.

#[path = "support/network.rs"]
mod network;
#[path = "support/proxy.rs"]
mod proxy;
mod support;

use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use azure_dps::{
    Attestation, Error, Provisioning,
    blocking::{self, ConnectError},
    error::TransportError,
    identity::{NoKey, Sign},
    provisioning::Endpoint,
    tls::{self, Builder, Connector, Input, Problem},
};
use azure_dps_emulator::{Certificate, Config, Emulator, IndividualEnrollment, X509Attestation};
use network::{PROXY_VARIABLES, unix_time};
use proxy::Proxy;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, pki_types::PrivateKeyDer};
use support::*;

fn builder<'a>() -> Builder<'a> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Connector::builder().without_proxy()
}

fn emulator() -> Emulator {
    let mut config = Config::contoso();
    config.behaviour.result_at_once = true;
    Emulator::builder(config).https("127.0.0.1:0").start().unwrap()
}

/// Runs to the end. Returns the hub, or the error of the run.
fn provision(
    provisioning: &mut Provisioning<'_>,
    signer: &mut impl Sign,
    connector: &Connector,
) -> Result<String, blocking::Error<tls::Error, std::io::Error>> {
    let endpoint = *provisioning.endpoint();
    let started = Instant::now();
    let clock = || started.elapsed();
    let mut connect = |end: Duration| connector.connect(&endpoint, end.saturating_sub(clock()));
    let mut buffer = [0; 4096];
    provisioning.start(clock(), unix_time());
    // All waits are short here.
    blocking::run(provisioning, signer, &mut buffer, &mut connect, clock, thread::sleep, |_| ())?;
    Ok(provisioning.result(&buffer)?.assigned_hub().to_owned())
}

fn by_key(url: &str, connector: &Connector) -> Result<String, blocking::Error<tls::Error, std::io::Error>> {
    let policy = azure_dps::RetryPolicy::new().with_max_retries(0);
    let endpoint = Endpoint::parse(url).unwrap();
    provision(&mut toaster().with_endpoint(endpoint).with_retry_policy(policy), &mut toaster_key(), connector)
}

// ---- Trust and identity ----

#[test]
fn a_key_with_a_ca_as_pem_or_der_with_a_byte_order_mark_or_with_comments() {
    let emulator = emulator();
    let pem = emulator.ca_pem();
    let der = pem::parse(pem).unwrap().into_contents();
    let commented = format!("# the emulator's\r\n\r\n{}\r\nend", pem.replace('\n', "\r\n"));
    let marked = [b"\xef\xbb\xbf", pem.as_bytes()].concat();
    for ca in [pem.as_bytes(), &der, commented.as_bytes(), &marked] {
        let connector = builder().with_ca(ca).build().unwrap();
        assert_eq!(by_key(emulator.https_url().unwrap(), &connector).unwrap(), TOASTERS_HUB);
    }
}

#[test]
fn a_client_certificate_as_pem_or_der() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "sn-007");
    let certificate = params.self_signed(&key).unwrap();
    let mut config = Config::contoso();
    let primary = Certificate::from_pem(&certificate.pem()).unwrap();
    config.individual_enrollments.push(IndividualEnrollment {
        registration_id: "sn-007".into(),
        x509: Some(X509Attestation { primary, secondary: None }),
        ..Default::default()
    });
    config.behaviour.result_at_once = true;
    let emulator = Emulator::builder(config).https("127.0.0.1:0").start().unwrap();
    let endpoint = Endpoint::parse(emulator.https_url().unwrap()).unwrap();
    for (chain, key) in [
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes()),
        (certificate.der().to_vec(), key.serialize_der()),
    ] {
        let builder = builder().with_ca(emulator.ca_pem().as_bytes()).with_client_certificate(&chain, &key);
        let connector = builder.build().unwrap();
        let mut provisioning = Provisioning::new(registration("sn-007"), Attestation::x509()).with_endpoint(endpoint);
        provision(&mut provisioning, &mut NoKey, &connector).unwrap();
    }
    // Without a certificate, the service rejects the device.
    let connector = builder().with_ca(emulator.ca_pem().as_bytes()).build().unwrap();
    let mut provisioning = Provisioning::new(registration("sn-007"), Attestation::x509()).with_endpoint(endpoint);
    let error = provision(&mut provisioning, &mut NoKey, &connector).unwrap_err();
    assert_eq!(error.kind().code().unwrap().value(), 401_002, "{error}");
}

#[test]
fn another_ca_is_untrusted_and_ends_the_run() {
    let (emulator, other) = (emulator(), emulator());
    let connector = builder().with_ca(other.ca_pem().as_bytes()).build().unwrap();
    let endpoint = Endpoint::parse(emulator.https_url().unwrap()).unwrap();
    let mut provisioning = toaster().with_endpoint(endpoint);
    let begun = Instant::now();
    let error = provision(&mut provisioning, &mut toaster_key(), &connector).unwrap_err();
    assert_eq!(error.kind(), Error::Untrusted);
    assert!(matches!(&error, blocking::Error::Untrusted(tls::Error::Tls(_))), "{error:?}");
    assert!(error.to_string().contains("invalid peer certificate: "), "{error}");
    assert!(!provisioning.register_was_sent());
    assert!(begun.elapsed() < Duration::from_secs(4), "it was tried again");

    // A server without TLS is a final error.
    let plain = Emulator::builder(Config::contoso()).http("127.0.0.1:0").start().unwrap();
    let url = plain.http_url().unwrap().replace("http:", "https:");
    assert_eq!(by_key(&url, &connector).unwrap_err().kind(), Error::Untrusted);
}

#[test]
fn addresses_instead_of_names() {
    let mut config = Config::contoso();
    config.behaviour.result_at_once = true;
    let emulator = Emulator::builder(config).http("[::1]:0").https("[::1]:0").start().unwrap();
    let connector = builder().with_ca(emulator.ca_pem().as_bytes()).build().unwrap();
    let port = |url: Option<&str>| url.unwrap().rsplit(':').next().unwrap().to_owned();
    let url = format!("https://[::1]:{}", port(emulator.https_url()));
    assert_eq!(by_key(&url, &connector).unwrap(), TOASTERS_HUB);
    // Without TLS, on this machine.
    let url = format!("http://[::1]:{}", port(emulator.http_url()));
    assert_eq!(by_key(&url, &connector).unwrap(), TOASTERS_HUB);
    let emulator = self::emulator();
    let connector = builder().with_ca(emulator.ca_pem().as_bytes()).build().unwrap();
    let url = format!("https://127.0.0.1:{}", port(emulator.https_url()));
    assert_eq!(by_key(&url, &connector).unwrap(), TOASTERS_HUB);
    // No certificate can have such a label (RFC 1035, section 2.3.4), so the error is final.
    let url = format!("https://{}:{}", "a".repeat(70), port(emulator.https_url()));
    let error = by_key(&url, &connector).unwrap_err();
    assert!(matches!(&error, blocking::Error::Untrusted(tls::Error::ServerName(_))), "{error:?}");
}

// ---- Input of the caller ----

const V1: &str = include_str!("vectors/x509-v1/device.pem");
const V1_KEY: &str = include_str!("vectors/x509-v1/key.pem");

#[test]
fn certificates_and_keys_that_cannot_be_used() {
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::default().self_signed(&key).unwrap().pem();
    let (own, key) = (own.as_bytes(), key.serialize_pem());
    let key = key.as_bytes();
    let behind = [own, V1.as_bytes()].concat();
    let cut = &own[..own.len() - 40];
    let broken = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let legacy = b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let (large, larger) = (vec![b'\n'; (1 << 20) + 1], vec![b'\n'; (4 << 20) + 1]);

    let ca = |bytes: &[u8]| builder().with_ca(bytes).build().unwrap_err();
    let client =
        |chain: &[u8], key: &[u8]| builder().with_ca(own).with_client_certificate(chain, key).build().unwrap_err();
    for (error, input, text) in [
        (ca(b""), Input::Ca, "the CA certificates: no certificate in PEM or DER"),
        (ca(b"\x30\x82\x01\x00\x02\x01\x03"), Input::Ca, "openssl pkcs12 -in"),
        (ca(key), Input::Ca, "no certificate"),
        (ca(cut), Input::Ca, "missing section end"),
        (ca(&larger), Input::Ca, "more than 4194304 bytes"),
        (ca(&[own, broken].concat()), Input::Ca, "certificate 2 is not an X.509 certificate"),
        (client(b"", key), Input::Certificate, "the device's certificate: no certificate"),
        (client(&large, key), Input::Certificate, "more than 1048576 bytes"),
        (client(broken, key), Input::Certificate, "certificate 1 is not an X.509 certificate"),
        (client(V1.as_bytes(), V1_KEY.as_bytes()), Input::Certificate, "certificate 1 is X.509 version 1"),
        (client(&behind, key), Input::Certificate, "certificate 2 is X.509 version 1"),
        (client(&behind, key), Input::Certificate, "create one of version 3 with `openssl x509 -req"),
        (client(own, b""), Input::PrivateKey, "no private key: use PEM or DER, not encrypted"),
        (client(own, own), Input::PrivateKey, "no private key"),
        (client(own, legacy), Input::PrivateKey, "the key is encrypted: `openssl pkey -in"),
        (client(own, encrypted), Input::PrivateKey, "the key is encrypted"),
        (client(own, &large), Input::PrivateKey, "more than 65536 bytes"),
    ] {
        assert!(matches!(&error, tls::Error::Input { input: of, .. } if *of == input), "{error:?}");
        assert!(error.to_string().contains(text), "no {text} in {error}");
        // The error never shows a private key.
        assert!(!format!("{error} {error:?}").contains("MIG"), "{error:?}");
    }
    assert!(matches!(client(own, V1_KEY.as_bytes()), tls::Error::KeyMismatch));
    assert!(matches!(client(&behind, key), tls::Error::Input { problem: Problem::OldVersion { number: 2 }, .. }));
    // As a CA it works: TLS does not check the version of a CA.
    builder().with_ca(V1.as_bytes()).build().unwrap();
    let shown = format!("{:?}", builder().with_client_certificate(own, key));
    assert_eq!(shown, "Builder { .. }");
}

// ---- Time ----

fn connect(listener: &TcpListener, connector: &Connector, within: Duration) -> (ConnectError<tls::Error>, Duration) {
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let begun = Instant::now();
    let error = connector.connect(&Endpoint::parse(&url).unwrap(), within).unwrap_err();
    (error, begun.elapsed())
}

const SOON: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(5);
const FOR_EVER: Duration = Duration::MAX;

#[test]
fn a_handshake_that_does_not_end_times_out() {
    let emulator = emulator();
    let ca = emulator.ca_pem().as_bytes();
    let silent = TcpListener::bind("localhost:0").unwrap();
    // The server sends a handshake record of 16 kB byte by byte. Each byte arrives in time.
    let trickling = TcpListener::bind("localhost:0").unwrap();
    let socket = trickling.try_clone().unwrap();
    thread::spawn(move || {
        for mut client in socket.incoming().flatten() {
            thread::spawn(move || {
                client.write_all(&[22, 3, 3, 64, 0]).unwrap();
                while client.write_all(&[2]).is_ok() {
                    thread::sleep(SOON / 10);
                }
            });
        }
    });
    let patient = builder().with_ca(ca).build().unwrap();
    let hasty = builder().with_ca(ca).with_handshake_timeout(SOON).build().unwrap();
    for listener in [&silent, &trickling] {
        for (connector, within) in [(&patient, SOON), (&hasty, FOR_EVER)] {
            let (error, took) = connect(listener, connector, within);
            let ConnectError::Network(tls::Error::Network(error)) = error else { panic!("{error:?}") };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "the other side was silent for too long");
            assert!(took >= SOON && took < LATE, "{took:?}");
        }
    }
    // The time-out is zero.
    let (error, took) = connect(&silent, &patient, Duration::ZERO);
    assert!(matches!(error, ConnectError::Network(_)) && took < LATE, "{error:?}");
}

/// Starts a server that completes the handshake, and then sends a record byte by byte or nothing.
fn after_the_handshake(trickle: bool) -> (TcpListener, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["localhost".into()]).unwrap().signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("localhost:0").unwrap();
    let socket = listener.try_clone().unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        let (mut client, _) = socket.accept().unwrap();
        let mut session = ServerConnection::new(config).unwrap();
        session.complete_io(&mut client).unwrap();
        let mut record = Vec::new();
        if trickle {
            session.writer().write_all(&[b'x'; 4096]).unwrap();
            session.write_tls(&mut record).unwrap();
        }
        for byte in record {
            if client.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(SOON / 10);
        }
        let _ = client.read(&mut [0; 64]);
        thread::sleep(LATE);
    });
    (listener, ca.pem())
}

#[test]
fn one_read_has_a_time_limit() {
    for trickle in [false, true] {
        let (listener, ca) = after_the_handshake(trickle);
        let connector = builder().with_ca(ca.as_bytes()).with_io_timeout(SOON).build().unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let mut stream = connector.connect(&Endpoint::parse(&url).unwrap(), LATE).unwrap();
        let begun = Instant::now();
        let error = embedded_io::Read::read(&mut stream, &mut [0; 64]).unwrap_err();
        assert_eq!(embedded_io::Error::kind(&error), embedded_io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= SOON && begun.elapsed() < LATE, "{:?}", begun.elapsed());
    }
}

// ---- Proxies ----

#[test]
fn a_proxy_opens_a_tunnel() {
    let emulator = emulator();
    let url = emulator.https_url().unwrap();
    let ca = emulator.ca_pem().as_bytes();
    let proxy = Proxy::start();
    let with = |except| builder().with_ca(ca).with_proxy(&proxy.url(), except).build().unwrap();
    let address = url.strip_prefix("https://").unwrap();
    let endpoint = Endpoint::parse(url).unwrap();

    let connector = with("example.com,10.0.0.0/8");
    assert_eq!(connector.proxy(&endpoint).as_deref(), Some(format!("{}/", proxy.url()).as_str()));
    assert_eq!(by_key(url, &connector).unwrap(), TOASTERS_HUB);
    assert_eq!(proxy.heads(), [format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n")]);
    // Connects by IP address.
    let port = endpoint.port();
    assert_eq!(by_key(&format!("127.0.0.1:{port}"), &connector).unwrap(), TOASTERS_HUB);
    assert_eq!(proxy.heads().len(), 2);
    // The service must prove its identity through any proxy.
    let stranger = self::emulator();
    let deceived = builder().with_ca(stranger.ca_pem().as_bytes()).with_proxy(&proxy.url(), "").build().unwrap();
    assert_eq!(by_key(url, &deceived).unwrap_err().kind(), Error::Untrusted);
    assert_eq!(proxy.heads().len(), 3);

    // Connects without the proxy.
    for except in ["localhost", "other,  LOCALHOST", ".localhost", "*", "*,other"] {
        let connector = with(except);
        assert_eq!(connector.proxy(&endpoint), None, "{except}");
        assert_eq!(by_key(url, &connector).unwrap(), TOASTERS_HUB);
    }
    assert_eq!(with("127.0.0.0/8").proxy(&Endpoint::parse("127.0.0.1").unwrap()), None);
    assert_eq!(with("azure-devices-provisioning.net").proxy(&Endpoint::GLOBAL), None);
    assert_eq!(proxy.heads().len(), 3);
    // Plain HTTP is on this machine.
    assert_eq!(with("").proxy(&Endpoint::parse("http://localhost").unwrap()), None);
}

#[test]
fn only_the_proxy_gets_its_user_and_password() {
    let emulator = emulator();
    let proxy = Proxy::start();
    let url = proxy.url().replace("http://", "http://Aladdin:open%20sesame@");
    let connector = builder().with_ca(emulator.ca_pem().as_bytes()).with_proxy(&url, "").build().unwrap();
    let endpoint = Endpoint::parse(emulator.https_url().unwrap()).unwrap();
    assert_eq!(by_key(emulator.https_url().unwrap(), &connector).unwrap(), TOASTERS_HUB);
    // RFC 7617, of this user and password.
    assert!(proxy.heads()[0].contains("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
    let shown = format!("{connector:?} {:?}", connector.proxy(&endpoint));
    assert!(!shown.contains("sesame") && !shown.contains("QWxh"), "{shown}");
}

#[test]
fn a_proxy_that_opens_no_tunnel() {
    let emulator = emulator();
    let ca = emulator.ca_pem().as_bytes();
    let url = emulator.https_url().unwrap();
    for (answer, text) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
            "the proxy needs a user and a password (HTTP 407)",
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno go", "the proxy did not open a tunnel: HTTP 403"),
        (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", "HTTP 429"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP 502"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "did not answer CONNECT as an HTTP proxy does"),
        (b"HTTP/1.1 200 OK\r\n", "did not answer CONNECT"),
        (b"", "did not answer CONNECT"),
        (&[b'x'; 10_000], "did not answer CONNECT"),
    ] {
        let proxy = Proxy::answering(answer);
        let connector = builder().with_ca(ca).with_proxy(&proxy.url(), "").build().unwrap();
        let error = by_key(url, &connector).unwrap_err();
        let is_final = text.contains("407") || text.contains("403");
        let kind = if is_final { Error::ProxyRefused } else { Error::Transport(TransportError::Connect) };
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    // The proxy has no listener, or is silent.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let connector = builder().with_ca(ca).with_proxy(&format!("http://{gone}"), "").build().unwrap();
    let error = by_key(url, &connector).unwrap_err();
    assert!(error.to_string().contains(&format!(": the proxy http://{gone}/: ")), "{error}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", silent.local_addr().unwrap());
    let connector = builder().with_ca(ca).with_proxy(&proxy, "").with_handshake_timeout(SOON).build().unwrap();
    let begun = Instant::now();
    by_key(url, &connector).unwrap_err();
    assert!(begun.elapsed() < LATE);
    assert_eq!(emulator.requests().len(), 0);
}

#[test]
fn a_proxy_that_cannot_be_used_is_an_error() {
    let ca = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let with = |url, except| builder().with_ca(ca.as_bytes()).with_proxy(url, except).build();
    for url in ["socks5://proxy:1080", "https://secret@proxy", "ftp://proxy", "http://", "http://a b", "proxy:port", ""]
    {
        let error = with(url, "example.com").unwrap_err();
        assert!(matches!(&error, tls::Error::Proxy { .. }), "{url}: {error:?}");
        assert!(error.to_string().starts_with("with_proxy: ") && !error.to_string().contains("secret"), "{error}");
        // The proxy is not used.
        assert!(with(url, "*").is_ok(), "{url}");
    }
    let connector = with("proxy", "").unwrap();
    assert_eq!(connector.proxy(&Endpoint::GLOBAL).as_deref(), Some("http://proxy/"));
}

// ---- The environment ----

/// Runs a test of this file again, in a process with this environment and no other proxy or roots.
fn in_process(test: &str, variables: &[(&str, &str)]) {
    let mut process = Command::new(env::current_exe().unwrap());
    process
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR");
    for name in PROXY_VARIABLES {
        process.env_remove(name);
    }
    let output = process.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{variables:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const CHILD: &str = "AZURE_DPS_TEST_CHILD";
const EXPECTED: &str = "AZURE_DPS_TEST_EXPECTED";

#[test]
fn the_environment_names_the_proxy() {
    if env::var_os(CHILD).is_some() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        let found = match Connector::builder().with_ca(ca.as_bytes()).build() {
            Ok(connector) => connector.proxy(&Endpoint::GLOBAL).unwrap_or("none".into()),
            Err(error) => error.to_string(),
        };
        let expected = env::var(EXPECTED).unwrap();
        assert!(found.starts_with(&expected), "{found}, not {expected}");
        assert_eq!(
            tls::proxy_variable().is_some(),
            env::vars().any(|(name, value)| {
                ["https_proxy", "all_proxy"].contains(&name.to_lowercase().as_str()) && !value.is_empty()
            })
        );
        return;
    }
    for (variables, expected) in [
        (&[][..], "none"),
        (&[("HTTPS_PROXY", "http://one:1")], "http://one:1/"),
        (&[("https_proxy", "two:2")], "http://two:2/"),
        (&[("ALL_PROXY", "http://user:secret@three:3/path")], "http://three:3/"),
        (&[("all_proxy", "http://four:4")], "http://four:4/"),
        (&[("HTTPS_PROXY", "http://one:1"), ("ALL_PROXY", "http://three:3")], "http://one:1/"),
        (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://three:3")], "http://three:3/"),
        // The variable for plain HTTP. CGI programs cannot trust it, because a request header can set it.
        (&[("HTTP_PROXY", "http://five:5"), ("http_proxy", "http://five:5")], "none"),
        (&[("HTTPS_PROXY", "http://one:1"), ("REQUEST_METHOD", "GET")], "http://one:1/"),
        (&[("HTTPS_PROXY", "http://one:1"), ("NO_PROXY", "azure-devices-provisioning.net")], "none"),
        (&[("HTTPS_PROXY", "http://one:1"), ("no_proxy", ".net, other")], "none"),
        (&[("HTTPS_PROXY", "http://one:1"), ("NO_PROXY", "provisioning.net")], "http://one:1/"),
        (&[("HTTPS_PROXY", "socks5h://one:1"), ("NO_PROXY", "*")], "none"),
        (&[("HTTPS_PROXY", "socks5h://one:1")], "HTTPS_PROXY: the proxy must have a URL with http://"),
        (&[("https_proxy", "https://one:1")], "https_proxy: the proxy must have a URL with http://"),
        (&[("ALL_PROXY", "http://one:port")], "ALL_PROXY: it is not a URL such as http://"),
    ] {
        in_process("the_environment_names_the_proxy", &[variables, &[(EXPECTED, expected)]].concat());
    }
}

#[test]
fn ssl_cert_file_names_the_roots() {
    if env::var_os(CHILD).is_some() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let found = match Connector::builder().build() {
            Ok(connector) => by_key(&env::var("AZURE_DPS_TEST_URL").unwrap(), &connector).unwrap(),
            Err(error) => error.to_string(),
        };
        let expected = env::var(EXPECTED).unwrap();
        assert!(found.starts_with(&expected), "{found}, not {expected}");
        return;
    }
    let emulator = emulator();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &str| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("ca.pem", emulator.ca_pem());
    let empty = file("empty.pem", "nothing\n");
    let long = file("long.pem", "");
    fs::File::create(&long).unwrap().set_len((4 << 20) + 1).unwrap();
    let unreadable = "SSL_CERT_FILE: cannot read the CA certificates: ";
    for (path, expected) in [
        (good.as_str(), TOASTERS_HUB),
        (&empty, "SSL_CERT_FILE: no PEM certificate in"),
        (&long, &format!("{unreadable}{long}: more than 4194304 bytes")),
        ("/no/such/file", &format!("{unreadable}/no/such/file: No such file")),
        ("/dev/zero", &format!("{unreadable}/dev/zero: it is not a regular file")),
        ("/", &format!("{unreadable}/: it is not a regular file")),
    ] {
        let url = emulator.https_url().unwrap();
        let variables = [("SSL_CERT_FILE", path), (EXPECTED, expected), ("AZURE_DPS_TEST_URL", url)];
        in_process("ssl_cert_file_names_the_roots", &variables);
    }
}

#[test]
fn a_program_without_a_tls_provider_gets_an_error() {
    if env::var_os(CHILD).is_some() {
        let error = Connector::builder().build().unwrap_err();
        assert!(matches!(error, tls::Error::NoCryptoProvider), "{error:?}");
        assert!(error.to_string().contains("default_provider().install_default()"), "{error}");
        return;
    }
    in_process("a_program_without_a_tls_provider_gets_an_error", &[]);
}

// ---- Errors ----

#[test]
fn errors_become_connect_errors() {
    use rustls::{AlertDescription::HandshakeFailure, Error as Tls};
    let sorted = |error: std::io::Error| tls::Error::from(error).into_connect_error();
    assert!(matches!(sorted(ErrorKind::ConnectionReset.into()), ConnectError::Network(tls::Error::Network(_))));
    let alert = std::io::Error::other(Tls::AlertReceived(HandshakeFailure));
    assert!(matches!(sorted(alert), ConnectError::Network(tls::Error::Tls(_))));
    let objection = std::io::Error::other(Tls::InvalidCertificate(rustls::CertificateError::Expired));
    assert!(matches!(sorted(objection), ConnectError::Untrusted(tls::Error::Tls(_))));
    // Linux reports a time-out in these ways.
    let error = tls::Error::from(std::io::Error::from(ErrorKind::WouldBlock));
    assert_eq!(error.to_string(), "the other side was silent for too long");
    assert_eq!(tls::describe(&error), error.to_string());
}

/// The streams implement the traits of `std::io`, and are `Send`.
#[test]
fn a_stream_implements_the_traits_of_std() {
    fn any<S: Read + Write + embedded_io::Read + embedded_io::Write + Send>(_: &S) {}
    let emulator = emulator();
    let connector = builder().with_ca(emulator.ca_pem().as_bytes()).build().unwrap();
    let endpoint = Endpoint::parse(emulator.https_url().unwrap()).unwrap();
    let mut stream = connector.connect(&endpoint, LATE).unwrap();
    any(&stream);
    Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    // The configuration is for other clients, too.
    let config = connector.client_config().clone();
    let mut session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    session.complete_io(&mut TcpStream::connect(("localhost", endpoint.port())).unwrap()).unwrap();
}
