//! One bucket: what is asked of S3, and nothing that S3 cannot promise. Nothing is ever overwritten.

mod upload;

pub(crate) use upload::{IMPATIENT, PART_BYTES, PATIENT, Upload};

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use ha_runtime::aws::{self, Patience, Retries};
use ha_runtime::retry::{self, Pauses, Verdict};
use tokio::time::Instant;

use crate::config::BucketConfig;
use crate::seal::Header;

/// Between two tries of one call. S3 asks for exponential pauses after a 503.
const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
};

/// A header and its length prefix fit in this, for up to about a dozen recipients; a longer one is
/// read in a second call.
const HEADER_GUESS: u64 = 8 << 10;

/// One bucket, in one region.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    name: String,
    region: String,
    client: Client,
}

/// A call to a bucket that did not succeed.
#[derive(Debug)]
pub(crate) struct StoreError {
    bucket: String,
    key: String,
    doing: &'static str,
    kind: ErrorKind,
    source: Box<dyn Error + Send + Sync>,
}

/// What an error means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// There is no such object.
    NotFound,
    /// The object, or the condition on it, exists already.
    AlreadyThere,
    /// No answer, or one that asks to come back: the same call may succeed later.
    Unavailable,
    /// Another call would end the same way.
    Refused,
}

impl StoreError {
    /// Returns what the error means.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bucket, key, doing, ..
        } = self;
        write!(f, "bucket `{bucket}` did not {doing} `{key}`")
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// The object is new.
    New,
    /// There is one under this key: ours after a lost answer, or another's.
    AlreadyThere,
}

impl Bucket {
    /// Returns a client of the bucket. Nothing is sent yet.
    pub(crate) async fn new(config: &BucketConfig, patience: Patience) -> Self {
        let client = aws::s3(&config.service, Retries::Off, patience).await;
        // The seal says more about what is read than S3's checksum does, and says it as what it is:
        // damage, and not a call to repeat.
        let unchecked = client
            .config()
            .to_builder()
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self {
            name: config.name.clone(),
            region: config.service.region.clone(),
            client: Client::from_conf(unchecked),
        }
    }

    /// Returns the bucket's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Says whether `name` is this bucket's or its region's.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.region == name
    }

    /// Creates the object, unless there is one under this key.
    pub(crate) async fn create(&self, key: &str, body: Bytes) -> Result<Created, StoreError> {
        let call = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .if_none_match("*")
            .body(ByteStream::from(body));
        match call.send().await {
            Ok(_) => Ok(Created::New),
            Err(error) => self.or_already_there(key, error),
        }
    }

    /// Does the same, and repeats it until `deadline` while the bucket is unavailable.
    pub(crate) async fn create_until(
        &self,
        deadline: Instant,
        key: &str,
        body: &Bytes,
    ) -> Result<Created, StoreError> {
        retry::until(deadline, PAUSES, judge, || self.create(key, body.clone())).await
    }

    fn or_already_there<E>(
        &self,
        key: &str,
        error: SdkError<E, HttpResponse>,
    ) -> Result<Created, StoreError>
    where
        E: Error + Send + Sync + 'static,
    {
        let error = self.failed("create", key, error);
        match error.kind {
            ErrorKind::AlreadyThere => Ok(Created::AlreadyThere),
            ErrorKind::NotFound | ErrorKind::Unavailable | ErrorKind::Refused => Err(error),
        }
    }

    /// Begins to read the object.
    pub(crate) async fn open(&self, key: &str) -> Result<ByteStream, StoreError> {
        let call = self.client.get_object().bucket(&self.name).key(key);
        let answer = call.send().await;
        let answer = answer.map_err(|it| self.failed("give", key, it))?;
        Ok(answer.body)
    }

    /// Reads the whole object.
    pub(crate) async fn read(&self, key: &str) -> Result<Bytes, StoreError> {
        let body = self.open(key).await?;
        let whole = body.collect().await;
        let whole = whole.map_err(|it| self.broken_off(key, it))?;
        Ok(whole.into_bytes())
    }

    /// Reads the part of the object that needs no identity.
    pub(crate) async fn header(&self, key: &str) -> Result<Header, StoreError> {
        let mut wanted = HEADER_GUESS;
        loop {
            let call = self.client.get_object().bucket(&self.name).key(key);
            let answer = call.range(format!("bytes=0-{}", wanted - 1)).send().await;
            let answer = answer.map_err(|it| self.failed("give the header of", key, it))?;
            let start = answer.body.collect().await;
            let start = start.map_err(|it| self.broken_off(key, it))?.into_bytes();
            match Header::read(&start) {
                Ok(Some((header, _))) => return Ok(header),
                Ok(None) if wanted == HEADER_GUESS => wanted = 16 * HEADER_GUESS,
                Ok(None) => return Err(self.refused("give the header of", key, "it is cut off")),
                Err(error) => return Err(self.refused("give the header of", key, error)),
            }
        }
    }

    /// Returns the keys that begin with `prefix` and sort after `after`, in order.
    pub(crate) async fn list(&self, prefix: &str, after: &str) -> Result<Vec<String>, StoreError> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix)
            .start_after(after)
            .into_paginator()
            .send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|it| self.failed("list", prefix, it))?;
            let contents = page.contents.unwrap_or_default();
            keys.extend(contents.into_iter().filter_map(|it| it.key));
        }
        Ok(keys)
    }

    /// Returns the names that follow `prefix` and are followed by `/`.
    pub(crate) async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(prefix)
            .delimiter("/")
            .into_paginator()
            .send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|it| self.failed("list", prefix, it))?;
            let folders = page.common_prefixes.unwrap_or_default();
            let paths = folders.into_iter().filter_map(|it| it.prefix);
            names.extend(paths.filter_map(|it| {
                let name = it.strip_prefix(prefix)?.strip_suffix('/')?;
                Some(name.to_owned())
            }));
        }
        Ok(names)
    }

    /// Returns the error that a body which ended early is.
    pub(crate) fn broken_off(
        &self,
        key: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> StoreError {
        StoreError {
            kind: ErrorKind::Unavailable,
            ..self.refused("give all of", key, source)
        }
    }

    /// Returns the error that a call which took too long is.
    pub(crate) fn silent(&self, doing: &'static str, key: &str) -> StoreError {
        StoreError {
            kind: ErrorKind::Unavailable,
            ..self.refused(doing, key, "it did not answer in time")
        }
    }

    fn refused(
        &self,
        doing: &'static str,
        key: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> StoreError {
        StoreError {
            bucket: self.name.clone(),
            key: key.to_owned(),
            doing,
            kind: ErrorKind::Refused,
            source: source.into(),
        }
    }

    fn failed<E>(
        &self,
        doing: &'static str,
        key: &str,
        error: SdkError<E, HttpResponse>,
    ) -> StoreError
    where
        E: Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|it| it.status().as_u16());
        let kind = match status {
            Some(404) => ErrorKind::NotFound,
            Some(412) => ErrorKind::AlreadyThere,
            // 409 says that another conditional write of this key is under way.
            None | Some(408 | 409 | 429 | 500..) => ErrorKind::Unavailable,
            Some(_) => ErrorKind::Refused,
        };
        StoreError {
            kind,
            ..self.refused(doing, key, error)
        }
    }
}

/// Says whether a call is worth repeating. All of ours are safe to repeat.
fn judge(error: &StoreError) -> Verdict {
    match error.kind {
        ErrorKind::Unavailable => Verdict::Again,
        ErrorKind::NotFound | ErrorKind::AlreadyThere | ErrorKind::Refused => Verdict::Final,
    }
}
