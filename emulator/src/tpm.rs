//! What the service does for TPM attestation: it reads a TPM's public keys, and encrypts keys so
//! that only the TPM which has both of them can use what it is sent.
//!
//! Names and formats are those of the TPM 2.0 Library specification; numbers are big-endian. A
//! `TPM2B_…` is a length of two bytes and so much content.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    digest,
    error::Unspecified,
    hmac,
    iv::FixedLength,
    kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac},
    rand,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
    signature::RsaPublicKeyComponents,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::config::ConfigError;

// TPM_ALG_ID
const RSA: u16 = 0x0001;
const HMAC: u16 = 0x0005;
const AES: u16 = 0x0006;
const KEYED_HASH: u16 = 0x0008;
const SHA256: u16 = 0x000b;
const NULL: u16 = 0x0010;
const CFB: u16 = 0x0043;

/// fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt: a key that was made in its TPM,
/// never leaves it, and opens nothing but what was made for a TPM.
const STORAGE_ATTRIBUTES: u32 = 0x0003_0032;

/// userWithAuth, noDA, sign: what a device gets may sign, and do nothing else.
const IDENTITY_ATTRIBUTES: u32 = 0x0004_0440;

/// The public part of a TPM's endorsement key, by which an enrollment knows the TPM.
#[derive(Clone, PartialEq)]
pub struct EndorsementKey(StorageKey);

impl EndorsementKey {
    /// Reads the key as TPM tools and the portal show it: base64 of the marshalled TPM2B_PUBLIC.
    ///
    /// # Errors
    ///
    /// When the text is not that of an RSA key of 2048 bits by the TCG's template.
    pub fn from_base64(text: &str) -> Result<Self, ConfigError> {
        StorageKey::from_base64(text)
            .map(Self)
            .map_err(|fault| ConfigError(format!("an endorsement key cannot be used: {fault}")))
    }
}

impl FromStr for EndorsementKey {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::from_base64(text)
    }
}

impl fmt::Debug for EndorsementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndorsementKey").field(&self.0.to_base64()).finish()
    }
}

impl<'de> Deserialize<'de> for EndorsementKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The two keys that a device shows of its TPM.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TpmKeys {
    pub(crate) endorsement_key: StorageKey,
    pub(crate) storage_root_key: StorageKey,
}

impl TpmKeys {
    /// Whether it is the TPM that was enrolled.
    pub(crate) fn are_of(&self, endorsement_key: &EndorsementKey) -> bool {
        self.endorsement_key == endorsement_key.0
    }

    /// A new key, encrypted for this TPM: see [`authentication_key`].
    pub(crate) fn new_key(&self, resource: &str) -> Result<(IdentityKey, String), Unspecified> {
        let key = IdentityKey(random()?.into());
        let text = authentication_key(&self.endorsement_key, &self.storage_root_key, key.bytes(), resource)?;
        Ok((key, text))
    }
}

/// A key that the service makes for a TPM.
pub(crate) struct IdentityKey(Zeroizing<[u8; 32]>);

impl IdentityKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(****)")
    }
}

/// What a TPM was asked last: to sign with a key that only it can decrypt.
#[derive(Debug)]
pub(crate) struct Challenge {
    pub(crate) keys: TpmKeys,
    pub(crate) key: IdentityKey,
}

/// The public area of a TPM's endorsement key or storage root key.
#[derive(Clone)]
pub(crate) struct StorageKey {
    /// The marshalled TPM2B_PUBLIC.
    public: Vec<u8>,
    name: Vec<u8>,
    rsa: PublicEncryptingKey,
}

impl StorageKey {
    /// Reads base64 of a marshalled TPM2B_PUBLIC.
    pub(crate) fn from_base64(text: &str) -> Result<Self, KeyFault> {
        Self::parse(BASE64_STANDARD.decode(text).map_err(|_| KeyFault::NotBase64)?)
    }

    fn parse(public: Vec<u8>) -> Result<Self, KeyFault> {
        let mut outer = Reader(&public);
        let area = outer.sized()?;
        outer.end()?;

        let mut reader = Reader(area);
        if reader.u16()? != RSA {
            return Err(KeyFault::NotRsa2048);
        }
        // Everything that is made for a key is made with the hash of its name.
        if reader.u16()? != SHA256 {
            return Err(KeyFault::NotSha256);
        }
        if reader.u32()? & STORAGE_ATTRIBUTES != STORAGE_ATTRIBUTES {
            return Err(KeyFault::NotStorage);
        }
        let _authorization_policy = reader.sized()?;
        let symmetric = (reader.u16()?, reader.u16()?, reader.u16()?);
        let scheme = reader.u16()?;
        if (symmetric, scheme) != ((AES, 128, CFB), NULL) {
            return Err(KeyFault::NotAes128);
        }
        let (bits, exponent, modulus) = (reader.u16()?, reader.u32()?, reader.sized()?);
        reader.end()?;
        // "When zero, indicates that the exponent is the default of 2^16 + 1."
        if bits != 2048 || !matches!(exponent, 0 | 65_537) || modulus.len() != 256 {
            return Err(KeyFault::NotRsa2048);
        }
        let rsa = RsaPublicKeyComponents { n: modulus, e: [1, 0, 1].as_slice() };
        let rsa = rsa.try_into().map_err(|Unspecified| KeyFault::NotRsa2048)?;
        Ok(Self { name: name_of(area), rsa, public })
    }

    fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.public)
    }

    /// Encrypts a secret for this key and one purpose. TPMs count the NUL of the purpose in.
    fn encrypt(&self, secret: &[u8], purpose: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let key = OaepPublicEncryptingKey::new(self.rsa.clone())?;
        let mut encrypted = vec![0; key.ciphertext_size()];
        key.encrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut encrypted, Some(purpose))?;
        Ok(encrypted)
    }
}

impl PartialEq for StorageKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for StorageKey {}

impl Serialize for StorageKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

/// Why a text is no key that anything can be encrypted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyFault {
    NotBase64,
    /// It ends too early or too late.
    NotPublic,
    NotRsa2048,
    NotSha256,
    NotStorage,
    NotAes128,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBase64 => "it is not base64",
            Self::NotPublic => "it is not one whole TPM2B_PUBLIC",
            Self::NotRsa2048 => "it is no RSA key of 2048 bits with the exponent 65537",
            Self::NotSha256 => "its name algorithm is not SHA-256",
            Self::NotStorage => "it is no restricted decryption key that was made in its TPM and stays there",
            Self::NotAes128 => "its children are not protected by AES-128 in CFB mode",
        })
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], KeyFault> {
        let (array, rest) = self.0.split_first_chunk().ok_or(KeyFault::NotPublic)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u16(&mut self) -> Result<u16, KeyFault> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, KeyFault> {
        self.array().map(u32::from_be_bytes)
    }

    fn sized(&mut self) -> Result<&'a [u8], KeyFault> {
        let length = self.u16()?;
        let (content, rest) = self.0.split_at_checked(length.into()).ok_or(KeyFault::NotPublic)?;
        self.0 = rest;
        Ok(content)
    }

    fn end(&self) -> Result<(), KeyFault> {
        if self.0.is_empty() { Ok(()) } else { Err(KeyFault::NotPublic) }
    }
}

/// An authentication key, as devices get it: `key`, which nothing but the TPM with these two keys
/// can sign with, and what it is for.
///
/// TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET are for TPM2_ActivateCredential, the next three parts
/// for TPM2_Import: TPM2B_PRIVATE, TPM2B_ENCRYPTED_SECRET, TPM2B_PUBLIC. The last part has a length
/// as the others have.
///
/// # Errors
///
/// When one of the keys is none.
pub(crate) fn authentication_key(
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

    // That the inner key is given out only where the storage root key is makes one TPM of the two.
    let (id_object, secret) = protect(endorsement_key, b"IDENTITY\0", &storage_root_key.name, sized(&inner_key)?)?;

    let mut resource = resource.as_bytes().to_vec();
    encrypt(&inner_key, &mut resource)?;
    let parts = [id_object, secret, private, import_seed, public, resource];
    let blob = parts.iter().map(|part| sized(part)).collect::<Result<Vec<_>, _>>()?;
    Ok(BASE64_STANDARD.encode(blob.concat()))
}

/// TPMT_PUBLIC of a key for HMAC-SHA256.
fn identity_key(unique: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let [kind, hash, scheme] = [KEYED_HASH, SHA256, HMAC].map(u16::to_be_bytes);
    let attributes = IDENTITY_ATTRIBUTES.to_be_bytes();
    Ok([kind.as_slice(), &hash, &attributes, &sized(&[])?, &scheme, &hash, &sized(unique)?].concat())
}

/// Encrypts what a TPM may open for one object only, and only if nobody has changed it. Beside it is
/// the seed of the keys to it, encrypted for `recipient`.
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

/// KDFa with SHA-256.
fn derive<const LENGTH: usize>(seed: &[u8], label: &[u8], context: &[u8]) -> Result<[u8; LENGTH], Unspecified> {
    let algorithm = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256).ok_or(Unspecified)?;
    let bits = u32::try_from(LENGTH * 8).map_err(|_| Unspecified)?;
    let mut key = [0; LENGTH];
    kbkdf_ctr_hmac(algorithm, seed, &[label, context, &bits.to_be_bytes()].concat(), &mut key)?;
    Ok(key)
}

/// AES-128 in CFB mode, as TPMs use it: with a new key each time, and so with an initialization
/// vector of zeros. Of what the inner key encrypts twice, one is encrypted again.
fn encrypt(key: &[u8; 16], content: &mut [u8]) -> Result<(), Unspecified> {
    let key = EncryptingKey::cfb128(UnboundCipherKey::new(&AES_128, key)?)?;
    key.less_safe_encrypt(content, EncryptionContext::Iv128(FixedLength::from([0; 16])))?;
    Ok(())
}

fn name_of(area: &[u8]) -> Vec<u8> {
    [&SHA256.to_be_bytes(), digest::digest(&digest::SHA256, area).as_ref()].concat()
}

fn sized(content: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let length = u16::try_from(content.len()).map_err(|_| Unspecified)?;
    Ok([&length.to_be_bytes(), content].concat())
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Unspecified> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "../tests/support/software_tpm.rs"]
mod software_tpm;

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::{
        software_tpm::{Refusal, SoftwareTpm},
        *,
    };

    /// The keys of a swtpm, made and written by tpm2-tools: `tpm2_createek -G rsa`, and
    /// `tpm2_createprimary -C o -G rsa2048:aes128cfb` with the attributes of a storage root key.
    const ENDORSEMENT_KEY: &str = "AToAAQALAAMAsgAgg3GXZ0SEs/gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEAvEh6\
        OlpECCsFq3O6ZRDAC//aI0s+7G50EAzPmnN7hp6XNm8ubQHAKXmgmrq83HbAUltgC6j8pH6tSo1l2RG8JWX+wgr+exefb2ZwXyeO6B8dqpNdk1cc\
        qMEPof2wZonxEZjsxqiLxMU0/91mCMDEcZ3xVg9eRREeqQdu3vviuN51R2PqzDFBtuAkFk5w7QaW6vdUjRtRDxBhmXiUtsUtQGG5jUA0eIP2d3IT\
        N24cRMCXqcSvpm6Q6MJIlVLX5YJK3HffbJRkNVAdy8vvPi+a9uZ0IX6hht8zHLrf+MKPrIk3/4VFGkIM3x9ZI7SBnMjR6/67ZdtEWfAjwmRl5bpb\
        Xw==";
    const STORAGE_ROOT_KEY: &str = "ARoAAQALAAMEcgAAAAYAgABDABAIAAAAAAABAL8XStu4ua3F0NFBuk7K0bPXB0oBh9t98b9IJgMTMqb4O3mv\
        cUfHaluK/BP4EtP75/YNgRm6te6WN8Mzmezx6noAL62ywSM5SVwFenihxi5WAziNJQJkjpMTVFPv7ZsBDYUGkuBSNsO7N5WKjWlG0OVKeskn4+R0\
        uS3HsxBALLG2TOOO7RwZlsH55RQ1qBuwJ/TeeDKyvxfLtZcZA7t5V2tMOKjBqYERuArJjaYETxhzTiQ7uL2t7J7NPTKpu/8qqzYvQFJjkz3ZG6YA\
        21Jrg5e4DZ7Oeb6nyyM8WLy5I0jUMRCVzMpT1UxYoATfrmzzilY4pmrTCNC7hMWWNa6TYhk=";

    const KEY: &[u8] = b"a key of thirty-two bytes is it.";
    const RESOURCE: &str = "0ne00002193/registrations/dev-1";

    static TPM: LazyLock<SoftwareTpm> = LazyLock::new(SoftwareTpm::new);
    static OTHER: LazyLock<SoftwareTpm> = LazyLock::new(SoftwareTpm::new);

    fn key(public: &[u8]) -> StorageKey {
        StorageKey::parse(public.to_vec()).unwrap()
    }

    fn blob(endorsement_key: &[u8], storage_root_key: &[u8]) -> Vec<u8> {
        let text = authentication_key(&key(endorsement_key), &key(storage_root_key), KEY, RESOURCE).unwrap();
        BASE64_STANDARD.decode(text).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A TPM's names are those that `tpm2_readpublic -n` tells.
    #[test]
    fn a_tpms_own_keys_are_read() {
        for (text, name) in [
            (ENDORSEMENT_KEY, "000b040a4eef9b9d815532be39ddabfb2de7d7e1b657f1af10152b74695f499d4e8e"),
            (STORAGE_ROOT_KEY, "000bb83858433bffe3b1e9d0a3029130705c6eceb5acdee7124af920671e1c840371"),
        ] {
            assert_eq!(hex(&StorageKey::from_base64(text).unwrap().name), name);
        }
    }

    /// Not even one byte may be missing or too much, and nothing else will do.
    #[test]
    fn other_texts_are_no_keys() {
        assert_eq!(StorageKey::from_base64("xxxx-device-endorsement-key-xxxxx"), Err(KeyFault::NotBase64));
        let public = BASE64_STANDARD.decode(ENDORSEMENT_KEY).unwrap();
        for length in 0..public.len() {
            assert_eq!(StorageKey::parse(public[..length].to_vec()), Err(KeyFault::NotPublic), "{length} bytes");
        }
        assert_eq!(StorageKey::parse([&*public, &[0]].concat()), Err(KeyFault::NotPublic));
        for (offset, value, fault) in [
            // A length within that lies.
            (1, 0x39, KeyFault::NotPublic),
            (1, 0x3b, KeyFault::NotPublic),
            (11, 0x21, KeyFault::NotAes128),
            // An ECC key; SHA-1; fixedTPM gone; a key that signs.
            (3, 0x23, KeyFault::NotRsa2048),
            (5, 0x04, KeyFault::NotSha256),
            (9, 0xb0, KeyFault::NotStorage),
            (7, 0x05, KeyFault::NotStorage),
        ] {
            let mut public = public.clone();
            public[offset] = value;
            assert_eq!(StorageKey::parse(public), Err(fault), "{value:#x} at {offset}");
        }
    }

    /// Whatever a peer sends is a key or a fault.
    #[test]
    fn a_changed_key_is_another_key_or_a_fault() {
        let public = BASE64_STANDARD.decode(ENDORSEMENT_KEY).unwrap();
        let original = key(&public);
        for offset in 0..public.len() {
            for bit in 0..8 {
                let mut changed = public.clone();
                changed[offset] ^= 1 << bit;
                if let Ok(changed) = StorageKey::parse(changed) {
                    assert!(changed != original && changed.name != original.name);
                    // Not every number is a modulus that can be encrypted with.
                    let _ = authentication_key(&changed, &original, KEY, RESOURCE);
                }
            }
        }
    }

    #[test]
    fn the_tpm_gets_the_key_and_what_it_is_for() {
        let blob = blob(TPM.endorsement_key(), TPM.storage_root_key());
        assert_eq!(TPM.open(&blob), Ok((KEY.to_vec(), RESOURCE.as_bytes().to_vec())));
        // It is the same key in another blob each time.
        let again = self::blob(TPM.endorsement_key(), TPM.storage_root_key());
        assert_ne!(blob, again);
        assert_eq!(TPM.activate(&again), Ok(KEY.to_vec()));
    }

    /// An endorsement key of a TPM and a storage root key of another are no TPM.
    #[test]
    fn no_other_tpm_gets_it() {
        let refused = Err(Refusal::ActivateCredential);
        let own = blob(TPM.endorsement_key(), TPM.storage_root_key());
        assert_eq!(OTHER.activate(&own), refused);
        let endorsement_keys = blob(TPM.endorsement_key(), OTHER.storage_root_key());
        let storage_root_keys = blob(OTHER.endorsement_key(), TPM.storage_root_key());
        for tpm in [&TPM, &OTHER] {
            assert_eq!(tpm.activate(&endorsement_keys), refused);
            assert_eq!(tpm.activate(&storage_root_keys), refused);
        }
        assert_eq!(TPM.activate(&own), Ok(KEY.to_vec()));
    }

    /// Each half is bound to its own: the credential of one blob does not open another's key.
    #[test]
    fn two_blobs_have_no_parts_in_common() {
        let [one, two] = [0, 1].map(|_| blob(TPM.endorsement_key(), TPM.storage_root_key()));
        let credential = 2 + 52 + 2 + 256;
        let mixed = [&one[..credential], &two[credential..]].concat();
        assert_eq!(TPM.activate(&mixed), Err(Refusal::Import));
    }

    /// Only what the key is for is not protected from changes.
    #[test]
    fn a_changed_blob_is_refused() {
        let blob = blob(TPM.endorsement_key(), TPM.storage_root_key());
        for offset in 0..blob.len() - RESOURCE.len() {
            let mut changed = blob.clone();
            changed[offset] ^= 1 << (offset % 8);
            assert!(TPM.activate(&changed).is_err(), "offset {offset}");
        }
    }
}
