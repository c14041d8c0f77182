//! Header of an object, which is readable without an identity.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::encryption::decrypt_error::DecryptError;

/// First bytes of every object.
pub(crate) const MAGIC: &[u8; 8] = b"CAUSEWAY";

/// Version of the format that this code writes, and the only one that it reads.
const FORMAT: u64 = 1;

/// Maximum header length. A header has a few hundred bytes per recipient; a longer one is rejected before
/// it is allocated.
pub(crate) const HEADER_LIMIT: usize = 64 << 10;

/// Part of an object before its chunks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ObjectHeader {
    format: u64,
    cipher: String,
    compression: String,
    /// Bytes of the compressed payload in each chunk except the last.
    pub(crate) chunk_bytes: usize,
    /// Data key as an age file, in base64.
    data_key: String,
    /// Readable without an identity.
    metadata: serde_json::Value,
}

impl ObjectHeader {
    /// Returns the header of a new object.
    pub(crate) fn new(
        chunk_bytes: usize,
        wrapped_key: &[u8],
        metadata: &impl Serialize,
    ) -> std::io::Result<Self> {
        Ok(Self {
            format: FORMAT,
            cipher: "AES-256-GCM".to_owned(),
            compression: "zstd".to_owned(),
            chunk_bytes,
            data_key: BASE64_STANDARD.encode(wrapped_key),
            metadata: serde_json::to_value(metadata)?,
        })
    }

    /// Returns the bytes with which an object with this header begins.
    pub(crate) fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        let length = u32::try_from(text.len()).map_err(std::io::Error::other)?;
        Ok([MAGIC.as_slice(), &length.to_be_bytes(), &text].concat())
    }

    /// Parses the header at the beginning of an object: returns it and its length, or `None` if
    /// more bytes are needed.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, DecryptError> {
        let (magic, rest) = bytes.split_at(bytes.len().min(MAGIC.len()));
        if !MAGIC.starts_with(magic) {
            return Err(DecryptError::NotEncrypted);
        }
        let Some((length, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > HEADER_LIMIT {
            return Err(DecryptError::NotEncrypted);
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        let header = Self::parse(text)?;
        Ok(Some((header, MAGIC.len() + 4 + length)))
    }

    fn parse(text: &[u8]) -> Result<Self, DecryptError> {
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|_| DecryptError::NotEncrypted)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        match format {
            Some(FORMAT) => {}
            Some(later) => return Err(DecryptError::TooNew(later)),
            None => return Err(DecryptError::NotEncrypted),
        }
        let header: Self = serde_json::from_value(value).map_err(|_| DecryptError::NotEncrypted)?;
        if !(1..=16 << 20).contains(&header.chunk_bytes) {
            return Err(DecryptError::NotEncrypted);
        }
        Ok(header)
    }

    /// Returns the wrapped data key.
    pub(crate) fn wrapped_key(&self) -> Result<Vec<u8>, DecryptError> {
        BASE64_STANDARD
            .decode(&self.data_key)
            .map_err(|_| DecryptError::DataKey)
    }

    /// Returns the metadata, which is authenticated only once the object is decrypted.
    pub(crate) fn metadata<C: DeserializeOwned>(&self) -> Result<C, DecryptError> {
        serde_json::from_value(self.metadata.clone())
            .map_err(|error| DecryptError::Content(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ObjectHeader;
    use crate::damage::damaged;

    fn sample() -> Vec<u8> {
        let header = ObjectHeader::new(1 << 16, b"key", &"metadata").unwrap();
        header.to_bytes().unwrap()
    }

    proptest! {
        #[test]
        fn damaged_header_then_no_panic(bytes in damaged(&sample())) {
            if let Ok(Some((header, length))) = ObjectHeader::read(&bytes) {
                prop_assert!(length <= bytes.len(), "{length} of {} bytes", bytes.len());
                header.wrapped_key().ok();
                header.metadata::<String>().ok();
                let written = header.to_bytes().unwrap();
                let (again, _) = ObjectHeader::read(&written).unwrap().unwrap();
                prop_assert_eq!(again.to_bytes().unwrap(), written);
            }
        }
    }
}
