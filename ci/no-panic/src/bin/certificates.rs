//! `Csr, CertificateChain`.

#![no_std]
#![no_main]

use azure_dps::{
    Attestation, IdScope, Provisioning, Registration, RegistrationId, http, identity::Csr, provisioning::Answer,
};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let Ok(csr) = Csr::from_der(bytes()) else { return };
    let registration = Registration::new(scope, id).with_csr(csr);
    let mut provisioning = Provisioning::new(registration, Attestation::x509());
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    provisioning.start(time(), 0);
    used(http::write_request(&mut provisioning, time(), room).is_ok());
    provisioning.on_answer(time(), Answer::new(number() as u16, Some(number() as u32), bytes()));
    let Ok(assignment) = provisioning.result(bytes()) else { return };
    let Some(chain) = assignment.issued_certificate_chain() else { return };
    used(chain.leaf(&csr, room).is_ok());
    for certificate in chain {
        used(certificate.base64().is_some());
        used(certificate.decode(room).is_ok());
    }
}
