//! STREAM construction: chunks are encrypted in sequence, and decrypted in the same order.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use serde::Serialize;

use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::header::ObjectHeader;
use crate::encryption::keys::DATA_KEY_BYTES;
use crate::encryption::keys::{Identity, Recipients};

/// Bytes of the compressed payload in one chunk. Large enough to make 16 bytes of tag and a call
/// negligible, small enough to make a few chunks negligible beside a part of an upload.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

const TAG_BYTES: usize = 16;

/// Whether a chunk is the last of its object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChunkPosition {
    Middle,
    Last,
}

/// Key of one object, and the data that its chunks are bound to.
struct ChunkCipher {
    key: LessSafeKey,
    bound_to: digest::Digest,
    number: u64,
}

impl ChunkCipher {
    fn new(data_key: &[u8; DATA_KEY_BYTES], header: &[u8], object_key: &str) -> Option<Self> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(header);
        context.update(object_key.as_bytes());
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, data_key).ok()?),
            bound_to: context.finish(),
            number: 0,
        })
    }

    /// Returns the nonce of a chunk. The data key belongs to one object and each number is used
    /// once in it, so no nonce repeats.
    fn nonce(&self, place: ChunkPosition) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let [_, _, _, number @ .., last] = &mut nonce;
        number.copy_from_slice(&self.number.to_be_bytes());
        *last = u8::from(place == ChunkPosition::Last);
        Nonce::assume_unique_for_key(nonce)
    }

    fn encrypt(
        &mut self,
        place: ChunkPosition,
        chunk: &[u8],
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let nonce = self.nonce(place);
        let aad = Aad::from(self.bound_to.as_ref());
        let refused = || std::io::Error::other("the chunk cannot be encrypted");
        let start = out.len();
        out.extend_from_slice(chunk);
        let in_out = out.get_mut(start..).ok_or_else(refused)?;
        let tag = self.key.seal_in_place_separate_tag(nonce, aad, in_out);
        out.extend_from_slice(tag.map_err(|_| refused())?.as_ref());
        self.number += 1;
        Ok(())
    }

    fn decrypt(
        &mut self,
        place: ChunkPosition,
        encrypted: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), DecryptError> {
        if self.try_decrypt(place, encrypted, out) {
            self.number += 1;
            return Ok(());
        }
        if place == ChunkPosition::Last && self.is_cut_off(encrypted) {
            return Err(DecryptError::Truncated);
        }
        Err(DecryptError::Altered { chunk: self.number })
    }

    /// Returns whether the object was truncated: it ends with a chunk that was not the last, or
    /// within a chunk. The latter looks like a change, unless no byte of the chunk is left.
    fn is_cut_off(&self, encrypted: &[u8]) -> bool {
        encrypted.len() < TAG_BYTES
            || self.try_decrypt(ChunkPosition::Middle, encrypted, &mut Vec::new())
    }

    /// Appends the content of the chunk to `out`, and returns whether it is authentic.
    fn try_decrypt(&self, place: ChunkPosition, encrypted: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.extend_from_slice(encrypted);
        let aad = Aad::from(self.bound_to.as_ref());
        let decrypted = out.get_mut(start..).and_then(|in_out| {
            let decrypted = self.key.open_in_place(self.nonce(place), aad, in_out);
            decrypted.ok().map(|plain| plain.len())
        });
        out.truncate(start + decrypted.unwrap_or(0));
        decrypted.is_some()
    }
}

/// Encrypts a payload that arrives in parts.
pub(crate) struct Encryptor {
    chunks: ChunkCipher,
    waiting: Vec<u8>,
    out: Vec<u8>,
}

impl Encryptor {
    /// Returns an encryptor for the object `key`.
    pub(crate) fn new<C: Serialize>(
        recipients: &Recipients,
        key: &str,
        metadata: &C,
    ) -> std::io::Result<Self> {
        let no_random_numbers = |_| std::io::Error::other("the random number generator failed");
        let mut data_key = [0; DATA_KEY_BYTES];
        rand::fill(&mut data_key).map_err(no_random_numbers)?;
        let header =
            ObjectHeader::new(CHUNK_BYTES, &recipients.wrap(&data_key)?, metadata)?.to_bytes()?;
        let chunks = ChunkCipher::new(&data_key, &header, key)
            .ok_or_else(|| std::io::Error::other("the data key cannot be used"))?;
        Ok(Self {
            chunks,
            waiting: Vec::with_capacity(CHUNK_BYTES),
            out: header,
        })
    }

    /// Encrypts the next bytes of the payload.
    pub(crate) fn write(&mut self, mut payload: &[u8]) -> std::io::Result<()> {
        while !payload.is_empty() {
            // A full chunk is the last one unless more bytes follow.
            if self.waiting.len() == CHUNK_BYTES {
                self.chunks
                    .encrypt(ChunkPosition::Middle, &self.waiting, &mut self.out)?;
                self.waiting.clear();
            }
            let room = CHUNK_BYTES - self.waiting.len();
            let (now, later) = payload.split_at(room.min(payload.len()));
            self.waiting.extend_from_slice(now);
            payload = later;
        }
        Ok(())
    }

    /// Returns the number of encrypted bytes that have not been taken.
    pub(crate) fn encrypted_bytes(&self) -> usize {
        self.out.len()
    }

    /// Takes the bytes that were encrypted since the last call.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Encrypts the last chunk, and returns the bytes that have not been taken.
    pub(crate) fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.chunks
            .encrypt(ChunkPosition::Last, &self.waiting, &mut self.out)?;
        Ok(self.out)
    }
}

/// Decrypts an object that arrives in parts.
pub(crate) struct Decryptor<'a> {
    identity: &'a Identity,
    object_key: &'a str,
    waiting: Vec<u8>,
    decrypted: Option<(ObjectHeader, ChunkCipher)>,
}

impl<'a> Decryptor<'a> {
    /// Returns a decryptor for the object `object_key`.
    pub(crate) fn new(identity: &'a Identity, object_key: &'a str) -> Self {
        Self {
            identity,
            object_key,
            waiting: Vec::new(),
            decrypted: None,
        }
    }

    /// Decrypts the next bytes of the object, and appends the payload to `payload`.
    ///
    /// The appended bytes are authentic, but may be truncated until [`Decryptor::finish`].
    pub(crate) fn push(
        &mut self,
        encrypted: &[u8],
        payload: &mut Vec<u8>,
    ) -> Result<(), DecryptError> {
        self.waiting.extend_from_slice(encrypted);
        if self.decrypted.is_none() {
            self.read_header()?;
        }
        let Some((header, chunks)) = &mut self.decrypted else {
            return Ok(());
        };
        let length = header.chunk_bytes + TAG_BYTES;
        let mut taken = 0;
        while let Some((chunk, rest)) = self
            .waiting
            .get(taken..)
            .and_then(|rest| rest.split_at_checked(length))
        {
            if rest.is_empty() {
                break;
            }
            chunks.decrypt(ChunkPosition::Middle, chunk, payload)?;
            taken += length;
        }
        self.waiting.drain(..taken);
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), DecryptError> {
        let Some((header, length)) = ObjectHeader::read(&self.waiting)? else {
            return Ok(());
        };
        let data_key = self.identity.unwrap(&header.wrapped_key()?)?;
        let bytes: Vec<u8> = self.waiting.drain(..length).collect();
        let chunks =
            ChunkCipher::new(&data_key, &bytes, self.object_key).ok_or(DecryptError::DataKey)?;
        self.decrypted = Some((header, chunks));
        Ok(())
    }

    /// Decrypts the last chunk, which completes the payload.
    pub(crate) fn finish(self, payload: &mut Vec<u8>) -> Result<ObjectHeader, DecryptError> {
        let (header, mut chunks) = self.decrypted.ok_or(DecryptError::Truncated)?;
        chunks.decrypt(ChunkPosition::Last, &self.waiting, payload)?;
        Ok(header)
    }
}

/// Structure of an object as far as it is visible without an identity: a header, and chunks that
/// are full except for the last.
#[derive(Debug, Default)]
pub(crate) struct ObjectStructure {
    start: Vec<u8>,
    header: Option<(u64, u64)>,
    bytes: u64,
}

impl ObjectStructure {
    /// Validates the next bytes of the object.
    pub(crate) fn push(&mut self, encrypted: &[u8]) -> Result<(), DecryptError> {
        self.bytes += u64::try_from(encrypted.len()).unwrap_or(u64::MAX);
        if self.header.is_none() {
            self.start.extend_from_slice(encrypted);
            if let Some((header, length)) = ObjectHeader::read(&self.start)? {
                let as_u64 = |length| u64::try_from(length).unwrap_or(u64::MAX);
                self.header = Some((as_u64(length), as_u64(header.chunk_bytes + TAG_BYTES)));
                self.start = Vec::new();
            }
        }
        Ok(())
    }

    /// Validates the end of the object.
    pub(crate) fn finish(self) -> Result<(), DecryptError> {
        let (header, chunk) = self.header.ok_or(DecryptError::Truncated)?;
        let chunks = self.bytes - header;
        let last = chunks % chunk;
        let is_whole = chunks > 0 && (last == 0 || last >= TAG_BYTES as u64);
        is_whole.then_some(()).ok_or(DecryptError::Truncated)
    }
}
