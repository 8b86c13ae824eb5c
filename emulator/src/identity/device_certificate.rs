//! Checks the certificate of a device: its name, its validity, and the CA that signed it.

use std::time::Duration;

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::WebPkiClientVerifier,
};
use x509_parser::certificate::X509Certificate;

use super::certificate::{Certificate, Fault, common_name, parse, rfc3339};

/// The certificate of a device with its intermediates. The name and the validity have been checked.
pub(crate) struct DeviceCertificate<'a> {
    certificate: Certificate,
    intermediates: &'a [CertificateDer<'static>],
    now: u64,
}

impl<'a> DeviceCertificate<'a> {
    /// Checks everything that needs no enrollment.
    pub(crate) fn read(
        leaf: &CertificateDer<'static>,
        intermediates: &'a [CertificateDer<'static>],
        registration_id: &str,
        now: u64,
    ) -> Result<Self, Fault> {
        let certificate =
            Certificate::from_der(leaf.clone()).map_err(|fault| format!("the certificate cannot be read: {fault}"))?;
        let parsed = parse(leaf)?;
        let name = common_name(parsed.subject()).ok_or("the certificate's subject has no common name")?;
        if !name.eq_ignore_ascii_case(registration_id) {
            return Err(format!("the certificate's common name is {name:?}, not the registration ID"));
        }
        check_validity(&parsed, now).map_err(|fault| format!("the certificate {fault}"))?;
        Ok(Self { certificate, intermediates, now })
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Returns the first of these CAs that signed the certificate. The error is the fault of the last CA, or `None`
    /// without CAs.
    pub(crate) fn signer<'c>(
        &self,
        cas: impl Iterator<Item = &'c Certificate>,
    ) -> Result<&'c Certificate, Option<Fault>> {
        let mut fault = None;
        for ca in cas {
            match self.check_signed_by(ca) {
                Ok(()) => return Ok(ca),
                Err(other) => fault = Some(other),
            }
        }
        Err(fault)
    }

    /// Checks that a chain leads from the certificate to this CA, and that the CA is valid.
    pub(crate) fn check_signed_by(&self, ca: &Certificate) -> Result<(), Fault> {
        // The verifier does not check the validity of a root.
        check_validity(&parse(&ca.der)?, self.now).map_err(|fault| format!("the CA's certificate {fault}"))?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::clone(&ca.der)).map_err(|error| error.to_string())?;
        WebPkiClientVerifier::builder_with_provider(roots.into(), aws_lc_rs::default_provider().into())
            .build()
            .map_err(|error| error.to_string())?
            .verify_client_cert(
                &self.certificate.der,
                self.intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(self.now)),
            )
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

fn check_validity(certificate: &X509Certificate<'_>, now: u64) -> Result<(), Fault> {
    let validity = certificate.validity();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if now < validity.not_before.timestamp() {
        Err(format!("is not valid before {}", rfc3339(validity.not_before)))
    } else if now > validity.not_after.timestamp() {
        Err(format!("expired at {}", rfc3339(validity.not_after)))
    } else {
        Ok(())
    }
}
