//! Why an object cannot be decrypted.

/// An object that cannot be opened as what its key says it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecryptError {
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
