//! A whole object in memory: decrypted, and its payload decompressed.

use serde::de::DeserializeOwned;

use crate::encryption::decompress::decompress;
use crate::encryption::decrypt_error::Damaged;
use crate::encryption::keys::Identity;
#[cfg(test)]
use crate::encryption::keys::Recipients;
use crate::encryption::stream::Opener;
#[cfg(test)]
use crate::encryption::stream::Sealer;

/// Opens what a seal made for `key`: its clear part and its plaintext, which is at most `limit`
/// bytes.
pub(crate) fn open<C: DeserializeOwned>(
    identity: &Identity,
    key: &str,
    sealed: &[u8],
    limit: u64,
) -> Result<(C, Vec<u8>), Damaged> {
    let mut opener = Opener::new(identity, key);
    let mut compressed = Vec::new();
    opener.push(sealed, &mut compressed)?;
    let header = opener.finish(&mut compressed)?;
    let plaintext = decompress(&compressed, limit)?;
    Ok((header.clear()?, plaintext))
}

#[cfg(test)]
/// Compresses and seals `plaintext` for the object `key`; `clear` can be read without an identity.
pub(crate) fn seal<C: serde::Serialize>(
    recipients: &Recipients,
    key: &str,
    clear: &C,
    plaintext: &[u8],
    zstd_level: i32,
) -> std::io::Result<Vec<u8>> {
    let compressed = zstd::bulk::compress(plaintext, zstd_level)?;
    let mut sealer = Sealer::new(recipients, key, clear)?;
    sealer.write(&compressed)?;
    sealer.finish()
}
