//! Client of one S3 bucket: reads, conditional writes, listings and multipart uploads, with one classification of
//! their errors. It never retries: each caller has a policy of its own.

mod client;
mod error;
mod error_kind;
mod listing;
mod multipart;
mod object;
mod probe;
mod put;

pub use client::{S3Client, S3Usage, StaticCredentials};
pub use error::S3Error;
pub use error_kind::S3ErrorKind;
pub use listing::{ListRequest, ListedObject, ListedPage};
pub use multipart::{StartedUpload, UploadedPart};
pub use object::{ByteRange, ObjectRequest, S3Body, S3Object, ServiceChecksum, WholeObject};
pub use probe::ObjectHeaders;

#[cfg(test)]
mod tests;
