//! The beginning of an object: what can be read of it without an identity, and without the rest.

use std::error::Error as _;

use bytes::Bytes;
use tokio::time;

use crate::object_store::{Bucket, ErrorKind, StoreError};
use crate::seal::{Damaged, Header};

/// A header and its length prefix fit in this, for up to about a dozen recipients; a longer one is
/// read in a second call.
const HEADER_GUESS: u64 = 8 << 10;

/// What an object begins with, and how long it is.
#[derive(Clone, Debug)]
pub(crate) struct ObjectStart {
    /// The header.
    pub(crate) header: Header,
    /// The bytes of the header. They hold a data key that no other object has, so that two objects which
    /// begin with the same ones are one object.
    pub(crate) header_bytes: Bytes,
    /// The length of the object.
    pub(crate) object_bytes: u64,
}

impl Bucket {
    /// Reads the first `bytes` of the object, or all of it if it is shorter; and its length.
    pub(super) async fn read_start(
        &self,
        key: &str,
        bytes: u64,
    ) -> Result<(Bytes, u64), StoreError> {
        const DOING: &str = "give the header of";
        self.retried(bytes, || async {
            let call = self.client().get_object().bucket(self.name()).key(key);
            let call = call.range(format!("bytes=0-{}", bytes - 1));
            let answer = match self.answer(DOING, key, 0, call.send()).await {
                Ok(answer) => answer,
                // An empty object has no first byte.
                Err(error) if error.kind() == ErrorKind::OutOfRange => {
                    return Ok((Bytes::new(), 0));
                }
                Err(error) => return Err(error),
            };
            let range = answer.content_range.as_deref().unwrap_or_default();
            let total = range.rsplit('/').next().and_then(|it| it.parse().ok());
            let limit = self.call_limit(bytes);
            let start = time::timeout(limit, answer.body.collect()).await;
            let start = start.map_err(|_elapsed| self.silent(DOING, key))?;
            let start = start.map_err(|error| self.broken_off(key, error))?;
            let start = start.into_bytes();
            let length = u64::try_from(start.len()).unwrap_or(u64::MAX);
            Ok((start, total.unwrap_or(length)))
        })
        .await
    }

    /// Reads the part of the object that needs no identity.
    pub(crate) async fn start(&self, key: &str) -> Result<ObjectStart, StoreError> {
        let mut wanted = HEADER_GUESS;
        loop {
            let (start, object_bytes) = self.read_start(key, wanted).await?;
            match Header::read(&start) {
                Ok(Some((header, length))) => {
                    return Ok(ObjectStart {
                        header,
                        header_bytes: start.slice(..length),
                        object_bytes,
                    });
                }
                Ok(None) if wanted == HEADER_GUESS => wanted = 16 * HEADER_GUESS,
                Ok(None) => {
                    return Err(self.refused("give the header of", key, Damaged::Truncated));
                }
                Err(error) => return Err(self.refused("give the header of", key, error)),
            }
        }
    }

    /// Reads the header of the object.
    pub(crate) async fn header(&self, key: &str) -> Result<Header, StoreError> {
        self.start(key).await.map(|start| start.header)
    }
}

impl StoreError {
    /// Returns how the object is damaged, if the bucket gave it and that is the error.
    pub(crate) fn damage(&self) -> Option<&Damaged> {
        self.source()?.downcast_ref()
    }
}
