//! Comparison of the objects that two buckets have under one key. No object is overwritten, so an
//! object is permanent: it counts as a copy only if it is one.

use std::io::{self, Write};

use aws_lc_rs::digest::{self, Digest, SHA256};

use crate::encryption::decrypt_error::DecryptError;
use crate::encryption::keys::Identity;
use crate::encryption::metadata::WalMetadata;
use crate::encryption::stream::Decryptor;
use crate::storage::bucket::Bucket;
use crate::storage::object_start::ObjectStart;
use crate::storage::store_error::StoreError;

/// Relation of two objects under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sameness {
    /// They have the same content.
    Same,
    /// They differ, and why.
    Different(String),
    /// Both are WAL from different pushes: only an identity can tell whether their content is the
    /// same.
    NotKnown,
}

/// One copy of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredCopy<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) start: &'a ObjectStart,
}

/// Compares two copies of `key`: by their headers, or by their content if the headers differ.
pub(super) async fn compare_copies(
    key: &str,
    one: StoredCopy<'_>,
    other: StoredCopy<'_>,
    identity: Option<&Identity>,
) -> Result<Sameness, StoreError> {
    let lengths = [one, other].map(|copy| {
        let name = copy.bucket.name();
        format!("{} bytes in `{name}`", copy.start.object_bytes)
    });
    if one.start.header_bytes == other.start.header_bytes {
        if one.start.object_bytes == other.start.object_bytes {
            return Ok(Sameness::Same);
        }
        let text = format!("one is truncated: {}", lengths.join(", "));
        return Ok(Sameness::Different(text));
    }
    // Each object of a backup is encrypted once.
    let fingerprint = |copy: StoredCopy<'_>| copy.start.header.metadata::<WalMetadata>().ok();
    let (Some(first), Some(second)) = (fingerprint(one), fingerprint(other)) else {
        return Ok(Sameness::Different(
            "they are not the same object".to_owned(),
        ));
    };
    // A large file is encrypted for each bucket separately, with one fingerprint.
    if first.fingerprint == second.fingerprint {
        return Ok(Sameness::Same);
    }
    let Some(identity) = identity else {
        return Ok(Sameness::NotKnown);
    };
    let first = content(one.bucket, key, identity).await?;
    let second = content(other.bucket, key, identity).await?;
    Ok(match (first, second) {
        (Ok(first), Ok(second)) if first.as_ref() == second.as_ref() => Sameness::Same,
        (Ok(_), Ok(_)) => Sameness::Different("they contain different WAL".to_owned()),
        (first, second) => {
            let texts = [(one, first.err()), (other, second.err())];
            let texts = texts.into_iter().filter_map(|(copy, why)| {
                Some(format!(
                    "the copy in `{}` cannot be decrypted: {}",
                    copy.bucket.name(),
                    why?
                ))
            });
            Sameness::Different(texts.collect::<Vec<_>>().join(", "))
        }
    })
}

/// Maximum size of a WAL file.
const MAX_WAL_FILE_BYTES: u64 = 1 << 30;

/// Returns the digest of an object's content.
async fn content(
    bucket: &Bucket,
    key: &str,
    identity: &Identity,
) -> Result<Result<Digest, DecryptError>, StoreError> {
    let mut body = bucket.open_verified(key).await?;
    let mut decryptor = Decryptor::new(identity, key);
    let mut payload = Vec::new();
    let digest = DigestWriter {
        context: digest::Context::new(&SHA256),
        left: MAX_WAL_FILE_BYTES,
    };
    let mut decoder = match zstd::stream::write::Decoder::new(digest) {
        Ok(decoder) => decoder,
        Err(error) => return Ok(Err(DecryptError::Compression(error))),
    };
    while let Some(bytes) = body.next().await {
        if let Err(why) = decryptor.push(&bytes?, &mut payload) {
            return Ok(Err(why));
        }
        if let Err(error) = decoder.write_all(&std::mem::take(&mut payload)) {
            return Ok(Err(DecryptError::Compression(error)));
        }
    }
    if let Err(why) = decryptor.finish(&mut payload) {
        return Ok(Err(why));
    }
    if let Err(error) = decoder.write_all(&payload).and_then(|()| decoder.flush()) {
        return Ok(Err(DecryptError::Compression(error)));
    }
    Ok(Ok(decoder.into_inner().context.finish()))
}

struct DigestWriter {
    context: digest::Context,
    left: u64,
}

impl Write for DigestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let left = self.left.checked_sub(length);
        self.left = left.ok_or_else(|| io::Error::other("it is larger than any WAL file"))?;
        self.context.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
