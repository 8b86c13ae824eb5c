//! What is issued for a csr, as TLS clients show it.

use azure_dps::{Error, identity::Csr, provisioning::CertificateChain};
use pem::Pem;

/// PEM of the chain, the device's own certificate first: the one for its key, wherever it stands.
/// None of them is longer than `longest` bytes of DER.
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
