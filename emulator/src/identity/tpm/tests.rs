//! Tests with a software TPM, and with keys that tpm2-tools made.

use std::sync::LazyLock;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use self::software_tpm::{Refusal, SoftwareTpm};
use super::{
    activation::authentication_key,
    keys::{KeyFault, StorageKey},
};

#[path = "../../../tests/support/software_tpm.rs"]
mod software_tpm;

/// The keys of a swtpm, made by tpm2-tools: `tpm2_createek -G rsa`, and `tpm2_createprimary -C o -G
/// rsa2048:aes128cfb` with the attributes of a storage root key.
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
fn other_texts_are_not_keys() {
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
fn the_tpm_decrypts_the_key_and_its_purpose() {
    let blob = blob(TPM.endorsement_key(), TPM.storage_root_key());
    assert_eq!(TPM.open(&blob), Ok((KEY.to_vec(), RESOURCE.as_bytes().to_vec())));
    // It is the same key in another blob each time.
    let again = self::blob(TPM.endorsement_key(), TPM.storage_root_key());
    assert_ne!(blob, again);
    assert_eq!(TPM.activate(&again), Ok(KEY.to_vec()));
}

/// An endorsement key of a TPM and a storage root key of another are no TPM.
#[test]
fn no_other_tpm_decrypts_it() {
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
