//! Attestation with certificates: the enrollment has the device's certificate, or a CA of the group signed it.

use super::attested::Attested;
use crate::{
    config::X509Attestation,
    identity::{certificate::Certificate, device_certificate::DeviceCertificate},
};

/// Checks the certificate of a device with an individual enrollment.
pub(super) fn check_device(device: &DeviceCertificate<'_>, enrolled: &X509Attestation) -> Result<Attested, String> {
    if enrolled.certificates().any(|certificate| certificate == device.certificate()) {
        Ok(Attested::X509 { certificate: device.certificate().clone(), signer: None })
    } else {
        Err("the enrollment has another certificate".to_owned())
    }
}

/// Checks the certificate of a device of a group.
pub(super) fn check_member<'a>(
    device: &DeviceCertificate<'_>,
    cas: impl Iterator<Item = &'a Certificate>,
) -> Result<Attested, String> {
    match device.signer(cas) {
        Ok(ca) => Ok(Attested::X509 { certificate: device.certificate().clone(), signer: Some(ca.clone()) }),
        Err(fault) => Err(fault.unwrap_or_else(|| "the CAs of the enrollment are not in ca_certificates".to_owned())),
    }
}
