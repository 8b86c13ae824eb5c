//! Provisions with a client certificate, over mutual TLS. Beside an emulator whose enrollment
//! knows the certificate or its CA (`dps-emulator --config … --https 127.0.0.1:0 --ca-out ca.pem`):
//! `cargo run --example x509 -- localhost:PORT ca.pem device.pem device-key.pem REGISTRATION_ID`

use std::{
    env, io,
    net::TcpStream,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    Credential, Endpoint, IdScope, Provisioning, Registration, RegistrationId,
    embedded_io::{self, ConnectError},
};
use embedded_io_adapters::std::FromStd;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<_> = env::args().collect();
    let [_, address, ca, certificate, key, id] = &args[..] else {
        return Err("usage: x509 HOST:PORT CA.pem CERTIFICATE.pem KEY.pem REGISTRATION_ID".into());
    };
    // The registration ID is the certificate's common name. Nothing is signed here: TLS does it.
    let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new(id)?);
    let mut provisioning = Provisioning::new(registration, Credential::x509()).with_endpoint(Endpoint::parse(address)?);

    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca)? {
        roots.add(root?)?;
    }
    // The device's own certificate first, and then those between it and what was enrolled.
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<std::result::Result<_, _>>()?;
    let tls = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let tls = Arc::new(tls);

    let (host, port) = (provisioning.endpoint().host().to_owned(), provisioning.endpoint().port());
    let connect = |_| {
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let mut tcp = TcpStream::connect((host.as_str(), port))?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut session = ClientConnection::new(Arc::clone(&tls), name).map_err(io::Error::other)?;
        // A server that is not trusted is found out here, and not retried.
        match session.complete_io(&mut tcp) {
            Ok(_) => Ok(FromStd::new(StreamOwned::new(session, tcp))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(ConnectError::Untrusted(error)),
            Err(error) => Err(error.into()),
        }
    };
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let started = Instant::now();
    let mut buffer = [0; 4096];
    let clock = || started.elapsed();
    let assignment =
        embedded_io::provision(&mut provisioning, unix_time, &mut buffer, connect, clock, std::thread::sleep)?;
    println!("{} {}", assignment.assigned_hub(), assignment.device_id());
    Ok(())
}
