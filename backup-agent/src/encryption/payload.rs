//! Conversion of files to encrypted objects and back, with bounded memory.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};

use bytes::Bytes;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::keys::{Identity, Recipients};
use crate::encryption::stream::{Decryptor, Encryptor};

/// Bytes of a file that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Part of an encrypted object.
#[derive(Debug)]
pub(crate) enum EncryptedPart {
    /// More parts follow.
    Middle(Bytes),
    /// The last part.
    Last(Bytes),
}

/// Encrypted object of a file, part by part.
pub(crate) struct EncryptedStream {
    file: File,
    encoder: Option<zstd::stream::write::Encoder<'static, EncryptorWriter>>,
    buffer: Vec<u8>,
}

struct EncryptorWriter(Encryptor);

impl Write for EncryptorWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl EncryptedStream {
    /// Returns a stream that compresses and encrypts `file`, which has `bytes`, from its start.
    pub(crate) fn new<C: Serialize>(
        mut file: File,
        bytes: u64,
        recipients: &Recipients,
        key: &str,
        metadata: &C,
        zstd_level: i32,
    ) -> io::Result<Self> {
        file.rewind()?;
        let encryptor = EncryptorWriter(Encryptor::new(recipients, key, metadata)?);
        let mut encoder = zstd::stream::write::Encoder::new(encryptor, zstd_level)?;
        encoder.set_pledged_src_size(Some(bytes))?;
        Ok(Self {
            file,
            encoder: Some(encoder),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Returns at least `at_least` bytes of the object, or the rest of it.
    pub(crate) fn next_part(&mut self, at_least: usize) -> io::Result<EncryptedPart> {
        let ended = || io::Error::other("the object has ended");
        loop {
            let encoder = self.encoder.as_mut().ok_or_else(ended)?;
            if encoder.get_ref().0.encrypted_bytes() >= at_least {
                let part = encoder.get_mut().0.take();
                return Ok(EncryptedPart::Middle(part.into()));
            }
            let read = self.file.read(&mut self.buffer)?;
            let Some(bytes) = self.buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                let encoder = self.encoder.take().ok_or_else(ended)?;
                let last = encoder.finish()?.0.finish()?;
                return Ok(EncryptedPart::Last(last.into()));
            };
            encoder.write_all(bytes)?;
        }
    }
}

/// File into which an object is decrypted while it is read. It is renamed only once it is complete.
pub(crate) struct DecryptedFile<'a> {
    decryptor: Decryptor<'a>,
    payload: Vec<u8>,
    decoder: FileDecoder,
}

/// Error of decrypting an object into a file.
#[derive(Debug)]
pub(crate) enum DecryptFileError {
    /// The object is damaged.
    Damaged(DecryptError),
    /// The file could not be written.
    Write(io::Error),
}

impl<'a> DecryptedFile<'a> {
    /// Returns a decryption of the object `key` into `file`, of at most `limit` bytes.
    pub(crate) fn new(
        identity: &'a Identity,
        key: &'a str,
        file: NamedTempFile,
        limit: u64,
    ) -> io::Result<Self> {
        let file = LimitedFile {
            file,
            limit,
            left: limit,
            failed: None,
        };
        Ok(Self {
            decryptor: Decryptor::new(identity, key),
            payload: Vec::new(),
            decoder: zstd::stream::write::Decoder::new(file)?,
        })
    }

    /// Decrypts the next bytes of the object.
    pub(crate) fn write(&mut self, encrypted: &[u8]) -> Result<(), DecryptFileError> {
        let pushed = self.decryptor.push(encrypted, &mut self.payload);
        pushed.map_err(DecryptFileError::Damaged)?;
        decompress(&mut self.decoder, &mut self.payload)
    }

    /// Ends the object, and returns the complete file.
    pub(crate) fn finish(self) -> Result<NamedTempFile, DecryptFileError> {
        let Self {
            decryptor,
            mut payload,
            mut decoder,
        } = self;
        let header = decryptor
            .finish(&mut payload)
            .map_err(DecryptFileError::Damaged)?;
        drop(header);
        decompress(&mut decoder, &mut payload)?;
        match decoder.flush() {
            Ok(()) => Ok(decoder.into_inner().file),
            Err(error) => Err(failure_of(&mut decoder, error)),
        }
    }
}

type FileDecoder = zstd::stream::write::Decoder<'static, LimitedFile>;

fn decompress(decoder: &mut FileDecoder, payload: &mut Vec<u8>) -> Result<(), DecryptFileError> {
    let written = decoder.write_all(payload);
    payload.clear();
    written.map_err(|error| failure_of(decoder, error))
}

fn failure_of(decoder: &mut FileDecoder, error: io::Error) -> DecryptFileError {
    match decoder.get_mut().failed.take() {
        Some(LimitedError::Write(error)) => DecryptFileError::Write(error),
        Some(LimitedError::TooLarge(limit)) => {
            DecryptFileError::Damaged(DecryptError::TooLarge { limit })
        }
        None => DecryptFileError::Damaged(DecryptError::Compression(error)),
    }
}

struct LimitedFile {
    file: NamedTempFile,
    limit: u64,
    left: u64,
    failed: Option<LimitedError>,
}

enum LimitedError {
    Write(io::Error),
    TooLarge(u64),
}

impl Write for LimitedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let Some(left) = self.left.checked_sub(length) else {
            self.failed = Some(LimitedError::TooLarge(self.limit));
            return Err(io::Error::other("it is too large"));
        };
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.left = left;
                Ok(bytes.len())
            }
            Err(error) => {
                let copied = io::Error::from(error.kind());
                self.failed = Some(LimitedError::Write(error));
                Err(copied)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
