//! Converts an issued certificate chain to PEM, as TLS clients expect it.

use azure_dps::{Error, identity::Csr, provisioning::CertificateChain};
use pem::Pem;

/// Returns the chain as PEM. The certificate for the device's key comes first, even if the service sent it elsewhere in
/// the chain. `longest` is the maximum length of a certificate in bytes of DER.
pub fn to_pem(chain: CertificateChain<'_>, csr: &Csr<'_>, longest: usize) -> Result<String, Error> {
    let mut buffer = vec![0; longest];
    let leaf = chain.leaf(csr, &mut buffer)?.to_vec();
    let mut pem = pem::encode(&Pem::new("CERTIFICATE", leaf.as_slice()));
    for certificate in chain {
        let certificate = certificate.decode(&mut buffer)?;
        if certificate != leaf {
            pem += &pem::encode(&Pem::new("CERTIFICATE", certificate));
        }
    }
    Ok(pem)
}
