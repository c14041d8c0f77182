//! Envelope encryption: an object can be decrypted only with an identity, and only under the key it
//! was stored under. `FORMAT.md` describes the format.
//!
//! Each object has a data key of its own, wrapped as an `age` file for every recipient. The payload
//! is compressed and cut into chunks, and each chunk is encrypted with AES-256-GCM; the nonce is
//! the number of the chunk and whether it is the last, and the additional data are a digest of the
//! header and of the object's key. This detects a changed header, a lost, moved, repeated or
//! truncated chunk, and an object in another's place, in memory that does not grow with the object.

pub(crate) mod decompress;
pub(crate) mod decrypt_error;
pub(crate) mod fingerprint;
pub(crate) mod header;
pub(crate) mod keys;
pub(crate) mod metadata;
pub(crate) mod object;
pub(crate) mod payload;
pub(crate) mod stream;

#[cfg(test)]
mod tests;
