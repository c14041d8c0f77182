//! Encrypted WAL file, ready to be stored in each bucket, with bounded memory.

use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::archive::wal_file::WalFile;
use crate::config::Config;
use crate::encryption::fingerprint::Fingerprint;
use crate::encryption::metadata::WalMetadata;
use crate::encryption::payload::{EncryptedPart, EncryptedStream};
use crate::error::Error;

/// Maximum size of an object in memory, which all buckets share: a segment of 16 MiB that does not
/// compress. A larger object is encrypted for each bucket separately, part by part.
const WHOLE_BYTES: usize = 20 << 20;

/// WAL file and the key that it is stored under.
pub(crate) struct EncryptedWalFile<'a> {
    config: &'a Config,
    file: &'a WalFile,
    key: String,
    metadata: WalMetadata,
    whole: Option<Bytes>,
}

impl<'a> EncryptedWalFile<'a> {
    /// Compresses and encrypts `file` for `key`.
    pub(crate) fn new(config: &'a Config, file: &'a WalFile, key: &str) -> Result<Self, Error> {
        let failed = |error| Error::io("encrypt", Path::new(key))(error);
        let content = file.content().map_err(failed)?;
        let fingerprint = Fingerprint::of_reader(key, content).map_err(failed)?;
        let mut encrypted = Self {
            config,
            file,
            key: key.to_owned(),
            metadata: WalMetadata { fingerprint },
            whole: None,
        };
        let first = encrypted
            .stream()
            .and_then(|mut stream| stream.next_part(WHOLE_BYTES));
        if let EncryptedPart::Last(whole) = first.map_err(failed)? {
            encrypted.whole = Some(whole);
        }
        Ok(encrypted)
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the whole object, if it is small enough for memory.
    pub(crate) fn whole_content(&self) -> Option<&Bytes> {
        self.whole.as_ref()
    }

    /// Returns a stream of the object from its beginning.
    pub(crate) fn stream(&self) -> io::Result<EncryptedStream> {
        EncryptedStream::new(
            self.file.content()?,
            self.file.bytes,
            &self.config.recipients,
            &self.key,
            &self.metadata,
            self.config.limits.zstd_level,
        )
    }

    /// Returns whether the object with this fingerprint contains the file.
    pub(crate) fn matches(&self, fingerprint: &Fingerprint) -> io::Result<bool> {
        fingerprint.matches(&self.key, self.file.content()?)
    }

    /// Returns the error for a failure to read the file.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        Error::io("read", Path::new(&self.file.name.to_string()))(error)
    }
}
