//! Streaming decompression of a manifest, which is never in memory as a whole.

use zstd::stream::raw::{Decoder, Operation as _};

use causeway_core::backup::Manifest;

use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::header::ObjectHeader;
use crate::encryption::metadata::ManifestMetadata;
use crate::error::Error;
use crate::storage::download::{DownloadError, DownloadSink, SinkDemand};

/// Maximum size of a manifest: a hundred million files. A larger one was made to fill a disk.
const MAX_MANIFEST_BYTES: u64 = 16 << 30;

/// Bytes that are decompressed at once: a block of zstd.
const BLOCK_BYTES: usize = 128 << 10;

/// Destination of a manifest's lines.
pub(crate) trait ManifestOutput: Send {
    /// Prepares for the content from its first byte on.
    fn begin(&mut self) -> Result<(), Error>;

    /// Writes the next bytes.
    fn write(&mut self, content: &[u8]) -> Result<SinkDemand, DownloadError>;

    /// Ends the content and returns the head of the manifest.
    fn end(&mut self) -> Result<&Manifest, DownloadError>;
}

/// Sink for the payload of a manifest.
pub(crate) struct ManifestSink<O> {
    /// Destination of the content.
    pub(crate) output: O,
    decoder: Option<Decoder<'static>>,
    block: Vec<u8>,
    content_bytes: u64,
    payload_bytes: u64,
    /// Bytes decompressed by the most successful attempt.
    most_bytes: u64,
}

impl<O: ManifestOutput> ManifestSink<O> {
    /// Returns a sink that decompresses into `output`.
    pub(crate) fn new(output: O) -> Self {
        Self {
            output,
            decoder: None,
            block: vec![0; BLOCK_BYTES],
            content_bytes: 0,
            payload_bytes: 0,
            most_bytes: 0,
        }
    }

    fn write(&mut self, payload: &[u8]) -> Result<SinkDemand, DownloadError> {
        let Some(decoder) = &mut self.decoder else {
            return Err(Error::Internal("a manifest was not begun").into());
        };
        let mut rest = payload;
        let mut is_block_full = false;
        // An incomplete chunk yields no output, and zstd fails after 16 calls without progress.
        while !rest.is_empty() || is_block_full {
            let status = decoder.run_on_buffers(rest, &mut self.block);
            let status = status.map_err(DecryptError::Compression)?;
            rest = rest
                .get(status.bytes_read..)
                .expect("zstd reads at most the bytes that it is given");
            let content = self
                .block
                .get(..status.bytes_written)
                .expect("zstd writes at most the bytes that fit");
            self.content_bytes += u64::try_from(content.len()).unwrap_or(u64::MAX);
            if self.content_bytes > MAX_MANIFEST_BYTES {
                let limit = MAX_MANIFEST_BYTES;
                return Err(DecryptError::TooLarge { limit }.into());
            }
            if self.output.write(content)? == SinkDemand::Nothing {
                return Ok(SinkDemand::Nothing);
            }
            // A full block may leave output in the decompressor.
            is_block_full = status.bytes_written == self.block.len();
        }
        Ok(SinkDemand::More)
    }
}

impl<O: ManifestOutput> DownloadSink for ManifestSink<O> {
    fn begin(&mut self) -> Result<(), Error> {
        self.output.begin()?;
        let failed = |_| Error::Internal("no decoder can be made");
        self.decoder = Some(Decoder::new().map_err(failed)?);
        self.content_bytes = 0;
        self.payload_bytes = 0;
        Ok(())
    }

    fn take(&mut self, payload: &mut Vec<u8>) -> Result<SinkDemand, DownloadError> {
        let wanted = self.write(payload)?;
        self.payload_bytes += u64::try_from(payload.len()).unwrap_or(0);
        self.most_bytes = self.most_bytes.max(self.payload_bytes);
        payload.clear();
        Ok(wanted)
    }

    fn end(&mut self, payload: &mut Vec<u8>, header: &ObjectHeader) -> Result<(), DownloadError> {
        if self.take(payload)? == SinkDemand::Nothing {
            return Ok(());
        }
        let head = self.output.end()?;
        if head.summary == header.metadata::<ManifestMetadata>()?.summary {
            return Ok(());
        }
        let text = "its metadata differs from its encrypted content";
        Err(DecryptError::Content(text.to_owned()).into())
    }

    fn progress(&self) -> u64 {
        self.most_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Collected(Vec<u8>);

    impl ManifestOutput for Collected {
        fn begin(&mut self) -> Result<(), Error> {
            self.0.clear();
            Ok(())
        }

        fn write(&mut self, content: &[u8]) -> Result<SinkDemand, DownloadError> {
            self.0.extend_from_slice(content);
            Ok(SinkDemand::More)
        }

        fn end(&mut self) -> Result<&Manifest, DownloadError> {
            Err(Error::Internal("this test has no end").into())
        }
    }

    /// A chunk of the object arrives in many parts, of which only the last yields output.
    #[test]
    fn parts_without_output_then_content_unchanged() {
        let content = "many files, ".repeat(100_000).into_bytes();
        let payload = zstd::bulk::compress(&content, 3).unwrap();
        let mut sink = ManifestSink::new(Collected(Vec::new()));
        for _ in 0..2 {
            sink.begin().unwrap();
            for part in payload.chunks(7) {
                for _ in 0..100 {
                    sink.take(&mut Vec::new()).unwrap();
                }
                assert_eq!(sink.take(&mut part.to_vec()).unwrap(), SinkDemand::More);
            }
            assert!(sink.output.0 == content);
        }
    }
}
