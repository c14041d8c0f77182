//! Sealing: what is stored can be read only by whoever has an identity, and only under the key it
//! was stored under. `FORMAT.md` describes the bytes.
//!
//! Each object has a data key of its own, wrapped as an `age` file for every recipient. The payload
//! is compressed, cut into chunks and each chunk encrypted with AES-256-GCM; the nonce is the number
//! of the chunk and whether it is the last, and the additional data are a digest of the header and of
//! the object's key. So a changed header, a chunk lost, moved, repeated or cut off, and an object put
//! in another's place are all found, in memory that does not grow with the object.

pub(crate) mod fingerprint;
pub(crate) mod header;
pub(crate) mod keys;
pub(crate) mod payload;
pub(crate) mod stream;

use serde::de::DeserializeOwned;

use crate::encryption::keys::Identity;
use crate::encryption::stream::Opener;
#[cfg(test)]
use crate::encryption::{keys::Recipients, stream::Sealer};

/// An object that cannot be opened as what its key says it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damaged {
    #[error("it does not begin as a sealed object does")]
    NotSealed,
    #[error("it has format {0}, and this program reads format 1: use a later release")]
    TooNew(u64),
    #[error("it is sealed for none of the identities in `identity-file`")]
    NotForUs,
    #[error("its data key was altered")]
    DataKey,
    #[error("it is cut off")]
    Truncated,
    #[error("chunk {chunk} was altered, or the object was stored under another key")]
    Altered { chunk: u64 },
    #[error("its content does not decompress")]
    Compression(#[source] std::io::Error),
    #[error("its content is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("its content is not what it should be: {0}")]
    Content(String),
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

/// Decompresses `frames` to at most `limit` bytes, whatever they claim to hold.
fn decompress(frames: &[u8], limit: u64) -> Result<Vec<u8>, Damaged> {
    use std::io::Read as _;

    let mut plaintext = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(frames).map_err(Damaged::Compression)?;
    let mut limited = decoder.take(limit.saturating_add(1));
    limited
        .read_to_end(&mut plaintext)
        .map_err(Damaged::Compression)?;
    if u64::try_from(plaintext.len()).is_ok_and(|it| it <= limit) {
        return Ok(plaintext);
    }
    Err(Damaged::TooLarge { limit })
}

/// Decompresses parts of files one after the other, in memory that it keeps: memory that is new for each
/// part costs more than decompressing into it.
#[derive(Default)]
pub(crate) struct PartDecompressor {
    context: zstd::bulk::Decompressor<'static>,
    plaintext: Vec<u8>,
}

impl PartDecompressor {
    /// Decompresses `frames` to at most `limit` bytes, whatever they claim to hold.
    pub(crate) fn decompress(&mut self, frames: &[u8], limit: u64) -> Result<&[u8], Damaged> {
        let capacity = usize::try_from(limit).map_err(|_| Damaged::TooLarge { limit })?;
        self.plaintext.clear();
        self.plaintext.reserve_exact(capacity);
        let written = self
            .context
            .decompress_to_buffer(frames, &mut self.plaintext);
        written.map_err(Damaged::Compression)?;
        // The memory may be that of a longer part.
        if self.plaintext.len() > capacity {
            return Err(Damaged::TooLarge { limit });
        }
        Ok(&self.plaintext)
    }
}

#[cfg(test)]
mod tests;
