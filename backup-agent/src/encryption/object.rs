//! Whole objects in memory.

use serde::de::DeserializeOwned;

use crate::encryption::decompress::decompress;
use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::keys::Identity;
#[cfg(test)]
use crate::encryption::keys::Recipients;
use crate::encryption::stream::Decryptor;
#[cfg(test)]
use crate::encryption::stream::Encryptor;

/// Decrypts an object stored under `key` and decompresses its payload, to at most `limit` bytes.
/// Returns its metadata and the plaintext.
pub(crate) fn decrypt_object<C: DeserializeOwned>(
    identity: &Identity,
    key: &str,
    encrypted: &[u8],
    limit: u64,
) -> Result<(C, Vec<u8>), DecryptError> {
    let mut decryptor = Decryptor::new(identity, key);
    let mut compressed = Vec::new();
    decryptor.push(encrypted, &mut compressed)?;
    let header = decryptor.finish(&mut compressed)?;
    let plaintext = decompress(&compressed, limit)?;
    Ok((header.metadata()?, plaintext))
}

#[cfg(test)]
/// Compresses and encrypts `plaintext` for the object `key`; `metadata` is readable without an
/// identity.
pub(crate) fn encrypt_object<C: serde::Serialize>(
    recipients: &Recipients,
    key: &str,
    metadata: &C,
    plaintext: &[u8],
    zstd_level: i32,
) -> std::io::Result<Vec<u8>> {
    let compressed = zstd::bulk::compress(plaintext, zstd_level)?;
    let mut encryptor = Encryptor::new(recipients, key, metadata)?;
    encryptor.write(&compressed)?;
    encryptor.finish()
}
