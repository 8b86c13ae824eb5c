//! Encrypts keys for one TPM: credentials for TPM2_ActivateCredential and wrapped keys for TPM2_Import.

use aws_lc_rs::{
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    digest,
    error::Unspecified,
    hmac,
    iv::FixedLength,
    kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac},
    rand,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::keys::{SHA256, StorageKey, name_of};

// TPM_ALG_ID
const HMAC: u16 = 0x0005;
const KEYED_HASH: u16 = 0x0008;

/// userWithAuth, noDA, sign: the key of the device may only sign.
const IDENTITY_ATTRIBUTES: u32 = 0x0004_0440;

/// Returns an authentication key for a device: `key`, encrypted for the TPM with these two keys, and the public area
/// of the key.
///
/// The first two parts, TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, are for TPM2_ActivateCredential. The next three
/// parts are for TPM2_Import: TPM2B_PRIVATE, TPM2B_ENCRYPTED_SECRET and TPM2B_PUBLIC. Each part begins with its
/// length.
///
/// # Errors
///
/// Returns an error if one of the keys cannot encrypt.
pub(super) fn authentication_key(
    endorsement_key: &StorageKey,
    storage_root_key: &StorageKey,
    key: &[u8],
    resource: &str,
) -> Result<String, Unspecified> {
    let obfuscation: [u8; 32] = random()?;
    let unique = digest::digest(&digest::SHA256, &[&obfuscation, key].concat());
    let public = identity_key(unique.as_ref())?;
    let name = name_of(&public);

    // TPMT_SENSITIVE, without authorization.
    let kind = KEYED_HASH.to_be_bytes();
    let sensitive = sized(&[kind.as_slice(), &sized(&[])?, &sized(&obfuscation)?, &sized(key)?].concat())?;
    let integrity = digest::digest(&digest::SHA256, &[&sensitive, &*name].concat());
    let mut duplicate = [sized(integrity.as_ref())?, sensitive].concat();
    let inner_key: [u8; 16] = random()?;
    encrypt(&inner_key, &mut duplicate)?;
    let (private, import_seed) = protect(storage_root_key, b"DUPLICATE\0", &name, duplicate)?;

    // Only a TPM with this storage root key decrypts the inner key. So both keys must be in the same TPM.
    let (id_object, secret) = protect(endorsement_key, b"IDENTITY\0", &storage_root_key.name, sized(&inner_key)?)?;

    let mut resource = resource.as_bytes().to_vec();
    encrypt(&inner_key, &mut resource)?;
    let parts = [id_object, secret, private, import_seed, public, resource];
    let blob = parts.iter().map(|part| sized(part)).collect::<Result<Vec<_>, _>>()?;
    Ok(BASE64_STANDARD.encode(blob.concat()))
}

/// Returns TPMT_PUBLIC of a key for HMAC-SHA256.
fn identity_key(unique: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let [kind, hash, scheme] = [KEYED_HASH, SHA256, HMAC].map(u16::to_be_bytes);
    let attributes = IDENTITY_ATTRIBUTES.to_be_bytes();
    Ok([kind.as_slice(), &hash, &attributes, &sized(&[])?, &scheme, &hash, &sized(unique)?].concat())
}

/// Encrypts a content that a TPM decrypts only for one object, and only if the content is unchanged. Also returns the
/// seed of its keys, encrypted for `recipient`.
fn protect(
    recipient: &StorageKey,
    purpose: &[u8],
    name: &[u8],
    mut content: Vec<u8>,
) -> Result<(Vec<u8>, Vec<u8>), Unspecified> {
    let seed: [u8; 32] = random()?;
    encrypt(&derive(&seed, b"STORAGE\0", name)?, &mut content)?;
    let integrity_key = hmac::Key::new(hmac::HMAC_SHA256, &derive::<32>(&seed, b"INTEGRITY\0", &[])?);
    let integrity = hmac::sign(&integrity_key, &[&content, name].concat());
    Ok(([sized(integrity.as_ref())?, content].concat(), recipient.encrypt(&seed, purpose)?))
}

/// KDFa with SHA-256 (TPM 2.0 Library, Part 1).
fn derive<const LENGTH: usize>(seed: &[u8], label: &[u8], context: &[u8]) -> Result<[u8; LENGTH], Unspecified> {
    let algorithm = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256).ok_or(Unspecified)?;
    let bits = u32::try_from(LENGTH * 8).map_err(|_| Unspecified)?;
    let mut key = [0; LENGTH];
    kbkdf_ctr_hmac(algorithm, seed, &[label, context, &bits.to_be_bytes()].concat(), &mut key)?;
    Ok(key)
}

/// Encrypts with AES-128 in CFB mode, as TPMs do. The initialization vector is zero, because each key is used only
/// once.
fn encrypt(key: &[u8; 16], content: &mut [u8]) -> Result<(), Unspecified> {
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(&AES_128, key)?)?;
    key.less_safe_encrypt(content, EncryptionContext::Iv128(FixedLength::from([0; 16])))?;
    Ok(())
}

fn sized(content: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let length = u16::try_from(content.len()).map_err(|_| Unspecified)?;
    Ok([&length.to_be_bytes(), content].concat())
}

pub(super) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Unspecified> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes)?;
    Ok(bytes)
}
