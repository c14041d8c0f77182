//! Encryption, decryption, and objects that must not decrypt.

use age::x25519;
use proptest::prelude::*;
use serde_json::json;

use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::keys::{Identity, Recipients};
use crate::encryption::object::{decrypt_object, encrypt_object};
use crate::encryption::stream::{self, Decryptor, Encryptor};

use crate::encryption::fingerprint::Fingerprint;
use crate::encryption::keys::{KeyError, generate_key_pair};

const KEY: &str = "main/7312345678901234567/wal/00000001/000000010000000000000001";
const LIMIT: u64 = 1 << 30;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn encrypted_then_decrypted_to_the_same_bytes(
        payload in payload(),
        cuts in prop::collection::vec(1_usize..400_000, 0..6),
    ) {
        let (recipients, identity) = pair();
        let mut encryptor = Encryptor::new(&recipients, KEY, &json!({"a": 1})).unwrap();
        let mut encrypted = Vec::new();
        for part in parts(&payload, &cuts) {
            encryptor.write(part).unwrap();
            encrypted.extend(encryptor.take());
        }
        encrypted.extend(encryptor.finish().unwrap());

        let mut decryptor = Decryptor::new(&identity, KEY);
        let mut decrypted = Vec::new();
        for part in parts(&encrypted, &cuts) {
            decryptor.push(part, &mut decrypted).unwrap();
        }
        let header = decryptor.finish(&mut decrypted).unwrap();

        prop_assert!(decrypted == payload);
        prop_assert_eq!(header.metadata::<serde_json::Value>().unwrap(), json!({"a": 1}));
    }

    /// An object with any bit changed, in its header or after it, does not decrypt.
    #[test]
    fn any_bit_changed_then_rejected(payload in payload(), place: prop::sample::Index, bit in 0_u32..8) {
        let (recipients, identity) = pair();
        let mut encrypted = encrypted(&recipients, &payload);
        let place = place.index(encrypted.len());
        encrypted[place] ^= 1 << bit;

        prop_assert!(decrypted(&identity, KEY, &encrypted).is_err(), "byte {place}");
    }

    /// An object truncated anywhere, even between two chunks, does not decrypt.
    #[test]
    fn truncated_anywhere_then_rejected(payload in payload(), at: prop::sample::Index) {
        let (recipients, identity) = pair();
        let encrypted = encrypted(&recipients, &payload);

        prop_assert!(decrypted(&identity, KEY, &encrypted[..at.index(encrypted.len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_then_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, identity) = pair();
        let forged = [b"CAUSEWAY\0\0\0\x10".as_slice(), &bytes].concat();

        prop_assert!(decrypted(&identity, KEY, &bytes).is_err());
        prop_assert!(decrypted(&identity, KEY, &forged).is_err());
    }
}

#[test]
fn last_chunks_missing_then_reported_as_truncated() {
    let (recipients, identity) = pair();
    let encrypted = encrypted(&recipients, &vec![7; 3 * stream::CHUNK_BYTES]);
    let one_chunk_less = &encrypted[..encrypted.len() - stream::CHUNK_BYTES - 16];

    let refused = decrypted(&identity, KEY, one_chunk_less).unwrap_err();

    assert!(matches!(refused, DecryptError::Truncated), "{refused}");
}

#[test]
fn object_under_another_key_then_rejected() {
    let (recipients, identity) = pair();
    let encrypted = encrypted(&recipients, b"segment 1");
    let of_another = KEY.replace("0001/", "0002/");

    let refused = decrypted(&identity, &of_another, &encrypted).unwrap_err();

    assert!(
        matches!(refused, DecryptError::Altered { chunk: 0 }),
        "{refused}"
    );
}

#[test]
fn chunks_swapped_then_rejected() {
    let (recipients, identity) = pair();
    let mut encrypted = encrypted(&recipients, &vec![7; 4 * stream::CHUNK_BYTES]);
    let chunk = stream::CHUNK_BYTES + 16;
    let first = encrypted.len() - 4 * chunk;
    let (a, b) = encrypted[first..].split_at_mut(chunk);
    a.swap_with_slice(&mut b[..chunk]);

    assert!(decrypted(&identity, KEY, &encrypted).is_err());
}

#[test]
fn two_recipients_then_only_their_identities_decrypt() {
    let keys = [x25519::Identity::generate(), x25519::Identity::generate()];
    let written: Vec<_> = keys.iter().map(|key| key.to_public().to_string()).collect();
    let recipients = Recipients::parse(&written).unwrap();
    let encrypted = encrypt_object(&recipients, KEY, &json!({}), b"log", 1).unwrap();

    for key in keys {
        let (_, plain): (serde_json::Value, _) =
            decrypt_object(&Identity::of(key), KEY, &encrypted, LIMIT).unwrap();
        assert_eq!(plain, b"log");
    }
    let stranger = Identity::of(x25519::Identity::generate());
    let refused =
        decrypt_object::<serde_json::Value>(&stranger, KEY, &encrypted, LIMIT).unwrap_err();
    assert!(
        matches!(refused, DecryptError::NoMatchingIdentity),
        "{refused}"
    );
}

#[test]
fn decompression_bomb_then_stopped_at_the_limit() {
    let (recipients, identity) = pair();
    let encrypted = encrypt_object(&recipients, KEY, &json!({}), &vec![0; 1 << 20], 1).unwrap();

    let refused =
        decrypt_object::<serde_json::Value>(&identity, KEY, &encrypted, 1 << 10).unwrap_err();

    assert!(
        matches!(refused, DecryptError::TooLarge { limit: 1024 }),
        "{refused}"
    );
}

#[test]
fn private_key_as_recipient_then_refused_and_not_printed() {
    let pair = generate_key_pair();
    let private = pair
        .identity_file
        .reveal()
        .lines()
        .last()
        .unwrap()
        .to_owned();

    for written in [
        private.clone(),
        private.to_lowercase(),
        format!(" {private}"),
    ] {
        let refused = Recipients::parse(&[pair.recipient.clone(), written]).unwrap_err();
        assert!(matches!(refused, KeyError::PrivateKey));
        assert!(!refused.to_string().contains(&private[20..]));
    }
}

#[test]
fn other_content_or_key_then_fingerprint_differs() {
    let fingerprint = Fingerprint::of_reader(KEY, b"log".as_slice()).unwrap();

    assert!(fingerprint.matches(KEY, b"log".as_slice()).unwrap());
    assert!(!fingerprint.matches(KEY, b"lag".as_slice()).unwrap());
    assert!(!fingerprint.matches("another", b"log".as_slice()).unwrap());
    assert_ne!(
        fingerprint,
        Fingerprint::of_reader(KEY, b"log".as_slice()).unwrap()
    );
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let chunk = stream::CHUNK_BYTES;
    let lengths = prop_oneof![
        Just(0_usize),
        1..100_usize,
        chunk - 1..chunk + 2,
        2 * chunk..2 * chunk + 2,
        0..3 * chunk,
    ];
    (lengths, any::<u8>()).prop_map(|(length, seed)| {
        let bytes = (0..length).map(|number| seed.wrapping_add(number.to_le_bytes()[0]));
        bytes.collect()
    })
}

fn parts<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut parts = Vec::new();
    for cut in cuts {
        let (part, later) = rest.split_at(rest.len().min(*cut));
        parts.push(part);
        rest = later;
    }
    parts.push(rest);
    parts
}

fn pair() -> (Recipients, Identity) {
    let key = x25519::Identity::generate();
    let recipients = Recipients::parse(&[key.to_public().to_string()]).unwrap();
    (recipients, Identity::of(key))
}

fn encrypted(recipients: &Recipients, payload: &[u8]) -> Vec<u8> {
    let mut encryptor = Encryptor::new(recipients, KEY, &json!({})).unwrap();
    encryptor.write(payload).unwrap();
    encryptor.finish().unwrap()
}

fn decrypted(identity: &Identity, key: &str, encrypted: &[u8]) -> Result<Vec<u8>, DecryptError> {
    let mut payload = Vec::new();
    let mut decryptor = Decryptor::new(identity, key);
    decryptor.push(encrypted, &mut payload)?;
    decryptor.finish(&mut payload)?;
    Ok(payload)
}
