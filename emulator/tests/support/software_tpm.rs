//! A software TPM for attestation: an endorsement key, a storage root key, and the checks of a TPM before it imports
//! a key.
//!
//! It implements the specification independently, and shares no code with the emulator.
#![allow(dead_code, reason = "each test file uses its own part")]

use aws_lc_rs::{
    cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey},
    digest::{SHA256, digest},
    encoding::AsDer,
    hmac::{self, HMAC_SHA256},
    rsa::{KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    signature::KeyPair as _,
};

/// PolicySecret(TPM_RH_ENDORSEMENT), as in the TCG's template for endorsement keys.
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// The command that the TPM refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No command: the content cannot be passed to a TPM.
    Malformed,
    ActivateCredential,
    Import,
}

pub struct SoftwareTpm {
    endorsement_key: Key,
    storage_root_key: Key,
}

impl SoftwareTpm {
    pub fn new() -> Self {
        Self { endorsement_key: Key::new(0x0003_00b2, &ENDORSEMENT_POLICY), storage_root_key: Self::srk() }
    }

    /// Returns the same TPM after TPM2_Clear: it has another storage root key.
    pub fn cleared(self) -> Self {
        Self { storage_root_key: Self::srk(), ..self }
    }

    fn srk() -> Key {
        Key::new(0x0003_0472, &[])
    }

    /// Returns the marshalled TPM2B_PUBLIC.
    pub fn endorsement_key(&self) -> &[u8] {
        &self.endorsement_key.public
    }

    /// Returns the marshalled TPM2B_PUBLIC.
    pub fn storage_root_key(&self) -> &[u8] {
        &self.storage_root_key.public
    }

    /// Returns the key for the next signatures. A real TPM never returns it.
    pub fn activate(&self, blob: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.open(blob).map(|(key, _)| key)
    }

    /// Returns the key and the purpose that the service gives it.
    pub fn open(&self, blob: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let mut parts = Reader(blob);
        let mut part = || parts.sized().ok_or(Refusal::Malformed);
        let [id_object, secret, private, seed, public, data] = [part()?, part()?, part()?, part()?, part()?, part()?];
        parts.end().ok_or(Refusal::Malformed)?;

        let inner_key = self.activate_credential(id_object, secret).ok_or(Refusal::ActivateCredential)?;
        let key = self.import(&inner_key, public, private, seed).ok_or(Refusal::Import)?;
        Ok((key, decrypt(&inner_key, data).ok_or(Refusal::Malformed)?))
    }

    fn activate_credential(&self, id_object: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
        let storage_root_key = name(&self.storage_root_key.public[2..]);
        let seed = self.endorsement_key.decrypt(secret, b"IDENTITY\0")?;
        let credential = open_outer(&seed, id_object, &storage_root_key)?;
        let mut reader = Reader(&credential);
        let inner_key = reader.sized()?;
        reader.end()?;
        Some(inner_key.to_vec())
    }

    fn import(&self, inner_key: &[u8], public: &[u8], private: &[u8], seed: &[u8]) -> Option<Vec<u8>> {
        let name = name(public);
        let seed = self.storage_root_key.decrypt(seed, b"DUPLICATE\0")?;
        let duplicate = decrypt(inner_key, &open_outer(&seed, private, &name)?)?;

        let mut inner = Reader(&duplicate);
        let integrity = inner.sized()?;
        if integrity != digest(&SHA256, &[inner.0, &*name].concat()).as_ref() {
            return None;
        }
        let mut sensitive = Reader(inner.sized()?);
        inner.end()?;
        let (kind, authorization) = (sensitive.take(2)?, sensitive.sized()?);
        let (obfuscation, key) = (sensitive.sized()?, sensitive.sized()?);
        sensitive.end()?;

        // TPM_ALG_KEYEDHASH, named by SHA-256. userWithAuth, noDA and sign: the key may leave the TPM and sign any
        // data. No policy. HMAC with SHA-256.
        let unique = digest(&SHA256, &[obfuscation, key].concat());
        let expected = [&[0, 8, 0, 0x0b, 0, 4, 4, 0x40, 0, 0, 0, 5, 0, 0x0b], &*sized(unique.as_ref())].concat();
        let fits = public == expected && kind == [0, 8] && authorization.is_empty() && key.len() <= 64;
        fits.then(|| key.to_vec())
    }
}

/// An RSA-2048 key with its TPM name.
struct Key {
    public: Vec<u8>,
    private: OaepPrivateDecryptingKey,
}

impl Key {
    fn new(attributes: u32, policy: &[u8]) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let modulus = pair.public_key().modulus();
        let area = [
            // TPM_ALG_RSA, TPM_ALG_SHA256
            [0, 1, 0, 0x0b].as_slice(),
            &attributes.to_be_bytes(),
            &sized(policy),
            // TPM_ALG_AES, 128, TPM_ALG_CFB; TPM_ALG_NULL; 2048, the default exponent
            &[0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0],
            &sized(modulus.big_endian_without_leading_zero()),
        ]
        .concat();
        let private = PrivateDecryptingKey::from_pkcs8(pair.as_der().unwrap().as_ref()).unwrap();
        Self { public: sized(&area), private: OaepPrivateDecryptingKey::new(private).unwrap() }
    }

    fn decrypt(&self, secret: &[u8], label: &[u8]) -> Option<Vec<u8>> {
        let mut seed = vec![0; self.private.min_output_size()];
        let seed = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut seed, Some(label)).ok()?;
        Some(seed.to_vec())
    }
}

/// Checks and removes the outer protection by `seed` of the object with this name.
fn open_outer(seed: &[u8], protected: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(protected);
    let integrity = reader.sized()?;
    let key = hmac::Key::new(HMAC_SHA256, &kdfa(seed, "INTEGRITY", &[], 256));
    hmac::verify(&key, &[reader.0, name].concat(), integrity).ok()?;
    decrypt(&kdfa(seed, "STORAGE", name, 128), reader.0)
}

/// KDFa. One block is enough here.
fn kdfa(seed: &[u8], label: &str, context: &[u8], bits: u32) -> Vec<u8> {
    let message = [&[0, 0, 0, 1], label.as_bytes(), &[0], context, &bits.to_be_bytes()].concat();
    let block = hmac::sign(&hmac::Key::new(HMAC_SHA256, seed), &message);
    block.as_ref()[..bits as usize / 8].to_vec()
}

/// AES-128-CFB with an initialization vector of zeros.
fn decrypt(key: &[u8], encrypted: &[u8]) -> Option<Vec<u8>> {
    let key = DecryptingKey::cfb128(UnboundCipherKey::new(&AES_128, key).ok()?).ok()?;
    let mut plain = encrypted.to_vec();
    key.decrypt(&mut plain, DecryptionContext::Iv128([0; 16].into())).ok()?;
    Some(plain)
}

fn name(area: &[u8]) -> Vec<u8> {
    [&[0, 0x0b], digest(&SHA256, area).as_ref()].concat()
}

fn sized(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.take(2)?;
        self.take(u16::from_be_bytes([length[0], length[1]]).into())
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
