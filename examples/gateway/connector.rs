//! Sets up the library's TLS with the files of the command line. The errors name these files.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use azure_dps::tls::{self, Connector};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

use crate::input::Input;

/// The limit for a handshake, one read or one write.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

/// Creates a connector that trusts only the certificates in the file `ca`. Without this file, it trusts the roots of
/// this machine. If there is an `identity` (files of the chain and of the private key), the device presents this
/// certificate. A handshake, a read and a write each take at most `at_most`.
pub fn connector(ca: Option<&Path>, identity: Option<(&Path, &Path)>, at_most: Duration) -> Result<Connector, String> {
    let timeout = IO_TIMEOUT.min(at_most);
    let mut builder = Connector::builder().with_handshake_timeout(timeout).with_io_timeout(timeout);
    let roots = match ca {
        Some(file) => Some(Input::CA.read(file)?),
        None => check_ssl_cert_file().map(|()| None)?,
    };
    if let Some(roots) = &roots {
        builder = builder.with_ca(roots);
    }
    let own = match identity {
        Some((chain, key)) => Some((Input::CERTIFICATE.read(chain)?, Input::PRIVATE_KEY.read(key)?)),
        None => None,
    };
    if let Some((chain, key)) = &own {
        builder = builder.with_client_certificate(chain, key);
    }
    let connector = builder.build().map_err(|error| {
        let file = match &error {
            tls::Error::Input { input: tls::Input::Ca, .. } => ca,
            tls::Error::Input { input: tls::Input::Certificate, .. } => identity.map(|(chain, _)| chain),
            tls::Error::Input { input: tls::Input::PrivateKey, .. } | tls::Error::KeyMismatch => {
                identity.map(|(_, key)| key)
            }
            _ => None,
        };
        file.map_or_else(|| error.to_string(), |file| format!("{}: {error}", file.display()))
    })?;
    if let (Some((file, _)), Some((chain, _))) = (identity, &own)
        && let Some(why) = out_of_date(chain)
    {
        eprintln!("warning: the device's certificate in {} {why} according to this machine's clock", file.display());
    }
    Ok(connector)
}

/// Checks the file in `SSL_CERT_FILE`. The libraries read this file without a size limit, and read a byte order mark as
/// part of the first line.
fn check_ssl_cert_file() -> Result<(), String> {
    let Some(file) = env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from) else {
        return Ok(());
    };
    Input::CA.read_file(&file).map_err(|error| format!("SSL_CERT_FILE: {error}"))?;
    match fs::read(&file).is_ok_and(|bytes| bytes.starts_with(b"\xef\xbb\xbf")) {
        true => {
            Err(format!("SSL_CERT_FILE: {} begins with a byte order mark: save the file without it", file.display()))
        }
        false => Ok(()),
    }
}

/// Returns why the first certificate is not valid now.
fn out_of_date(chain: &[u8]) -> Option<String> {
    let der = CertificateDer::from_pem_slice(chain).unwrap_or_else(|_| CertificateDer::from(chain));
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let (validity, now) = (certificate.validity(), ASN1Time::now());
    match () {
        () if validity.not_after < now => Some(format!("expired on {}", validity.not_after)),
        () if validity.not_before > now => Some(format!("is not valid before {}", validity.not_before)),
        () => None,
    }
}
