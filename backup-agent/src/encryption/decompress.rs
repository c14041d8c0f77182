//! Decompression within a limit, whatever size the frames claim.

use crate::encryption::decrypt_error::DecryptError;

/// Decompresses `frames` to at most `limit` bytes, whatever size they claim.
pub(super) fn decompress(frames: &[u8], limit: u64) -> Result<Vec<u8>, DecryptError> {
    use std::io::Read as _;

    let mut plaintext = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(frames).map_err(DecryptError::Compression)?;
    let mut limited = decoder.take(limit.saturating_add(1));
    limited
        .read_to_end(&mut plaintext)
        .map_err(DecryptError::Compression)?;
    if u64::try_from(plaintext.len()).is_ok_and(|length| length <= limit) {
        return Ok(plaintext);
    }
    Err(DecryptError::TooLarge { limit })
}

/// Decompressor of many blobs that reuses its memory: allocating it for each blob costs more than
/// decompressing.
#[derive(Default)]
pub(crate) struct PartDecompressor {
    context: zstd::bulk::Decompressor<'static>,
    plaintext: Vec<u8>,
}

impl PartDecompressor {
    /// Decompresses `frames` to at most `limit` bytes, whatever size they claim.
    pub(crate) fn decompress(&mut self, frames: &[u8], limit: u64) -> Result<&[u8], DecryptError> {
        let capacity = usize::try_from(limit).map_err(|_| DecryptError::TooLarge { limit })?;
        self.plaintext.clear();
        self.plaintext.reserve_exact(capacity);
        let written = self
            .context
            .decompress_to_buffer(frames, &mut self.plaintext);
        written.map_err(DecryptError::Compression)?;
        // The memory may have the size of a longer blob.
        if self.plaintext.len() > capacity {
            return Err(DecryptError::TooLarge { limit });
        }
        Ok(&self.plaintext)
    }
}
