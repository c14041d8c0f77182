//! Errors of decrypting an object.

/// Failure to decrypt an object under its key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecryptError {
    #[error("it is not an encrypted object of this archive")]
    NotEncrypted,
    #[error("it has format {0}, and this release reads format 1: use a later release")]
    TooNew(u64),
    #[error("it is encrypted for none of the identities in `identity-file`")]
    NoMatchingIdentity,
    #[error("its data key was altered")]
    DataKey,
    #[error("it is truncated")]
    Truncated,
    #[error("chunk {chunk} was altered, or the object was stored under another key")]
    Altered { chunk: u64 },
    #[error("its content does not decompress")]
    Compression(#[source] std::io::Error),
    #[error("its content is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("its content is invalid: {0}")]
    Content(String),
}
