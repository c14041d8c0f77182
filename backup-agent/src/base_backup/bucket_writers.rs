//! One writer per bucket. All store the same encrypted parts, each at its own pace within a few
//! parts, and a failing writer does not stop the others.

use std::time::Duration;

use bytes::Bytes;
use causeway_runtime::telemetry::chain;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time;
use tracing::warn;

use crate::error::Error;
use crate::storage::bucket::{Bucket, CreateOutcome};
use crate::storage::multipart_upload::{FIRST_UPLOAD_RETRY_TIMEOUT, UPLOAD_RETRY_TIMEOUT, Upload};
use crate::storage::store_error::StoreError;

/// Parts by which a writer may be behind. Parts are shared, so this bounds the memory of all
/// writers together.
const MAX_PARTS_BEHIND: usize = 2;

/// Time in which a failed backup removes what it has stored.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
enum UploadMessage {
    Begin(String),
    Part(Bytes),
    Last(Bytes),
}

struct BucketWriter {
    bucket: Bucket,
    messages: Sender<UploadMessage>,
}

/// Result of a writer: the bucket, and the error if it does not hold everything.
type WriterResult = (Bucket, Result<(), StoreError>);

pub(crate) struct BucketWriters {
    open: Vec<BucketWriter>,
    running: JoinSet<WriterResult>,
    required: usize,
    last: Option<Box<StoreError>>,
}

impl BucketWriters {
    /// Starts a writer for each of `buckets`, of which `required` must succeed.
    pub(crate) fn start(buckets: &[Bucket], required: usize) -> Self {
        let mut running = JoinSet::new();
        let open = buckets
            .iter()
            .map(|bucket| {
                let (messages, received) = mpsc::channel(MAX_PARTS_BEHIND);
                running.spawn(run(bucket.clone(), received));
                BucketWriter {
                    bucket: bucket.clone(),
                    messages,
                }
            })
            .collect();
        Self {
            open,
            running,
            required,
            last: None,
        }
    }

    /// Begins an object in every bucket.
    pub(crate) async fn begin(&mut self, key: String) -> Result<(), Error> {
        self.send(UploadMessage::Begin(key)).await
    }

    /// Stores a part of the object that is not the last.
    pub(crate) async fn part(&mut self, part: Bytes) -> Result<(), Error> {
        self.send(UploadMessage::Part(part)).await
    }

    /// Stores the last part.
    pub(crate) async fn last(&mut self, part: Bytes) -> Result<(), Error> {
        self.send(UploadMessage::Last(part)).await
    }

    async fn send(&mut self, message: UploadMessage) -> Result<(), Error> {
        let mut staying = Vec::new();
        for writer in std::mem::take(&mut self.open) {
            if writer.messages.send(message.clone()).await.is_ok() {
                staying.push(writer);
            }
        }
        self.open = staying;
        while let Some(ended) = self.running.try_join_next() {
            if let Ok((bucket, Err(error))) = ended {
                self.exclude_bucket(&bucket, error);
            }
        }
        self.require_buckets(self.open.len())
    }

    fn exclude_bucket(&mut self, bucket: &Bucket, error: StoreError) {
        warn!(bucket = bucket.name(), error = %chain(&error), "bucket excluded from the backup");
        self.last = Some(Box::new(error));
    }

    fn require_buckets(&mut self, buckets: usize) -> Result<(), Error> {
        if buckets >= self.required {
            return Ok(());
        }
        Err(Error::TooFewBuckets {
            what: "the backup".to_owned(),
            stored: buckets,
            required: self.required,
            last: self.last.take(),
        })
    }

    /// Waits until every writer has stored its parts, and returns the buckets that hold all of
    /// them.
    pub(crate) async fn finish(mut self) -> Result<Vec<Bucket>, Error> {
        let in_order: Vec<Bucket> = self.open.drain(..).map(|writer| writer.bucket).collect();
        let mut holders = Vec::new();
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok((bucket, Ok(()))) => holders.push(bucket),
                Ok((bucket, Err(error))) => self.exclude_bucket(&bucket, error),
                Err(_) => return Err(Error::Internal("a bucket writer panicked")),
            }
        }
        self.require_buckets(holders.len())?;
        let holds = |bucket: &Bucket| holders.iter().any(|holder| holder.name() == bucket.name());
        Ok(in_order.into_iter().filter(holds).collect())
    }

    /// Closes every writer and gives each a moment to remove its stored parts. The parts in an
    /// unresponsive bucket are removed by its lifecycle rule.
    pub(crate) async fn abandon(mut self) {
        self.open.clear();
        let ended = async { while self.running.join_next().await.is_some() {} };
        if time::timeout(ABANDON_TIMEOUT, ended).await.is_err() {
            warn!("abandoned parts not removed, left to the lifecycle rule");
        }
    }
}

async fn run(bucket: Bucket, mut messages: Receiver<UploadMessage>) -> WriterResult {
    let mut upload: Option<Upload> = None;
    let mut timeout = FIRST_UPLOAD_RETRY_TIMEOUT;
    while let Some(message) = messages.recv().await {
        let done = match (message, upload.take()) {
            (UploadMessage::Begin(key), _) => {
                upload = Some(Upload::new(bucket.clone(), key, timeout));
                Ok(())
            }
            (UploadMessage::Part(part), Some(mut begun)) => {
                let sent = begun.part(part).await;
                if sent.is_ok() {
                    timeout = UPLOAD_RETRY_TIMEOUT;
                    upload = Some(begun);
                } else {
                    begun.abandon().await;
                }
                sent
            }
            // An object with this key is this one, stored by an attempt whose response was lost:
            // the name of a backup is generated for each backup.
            (UploadMessage::Last(part), Some(begun)) => match begun.finish(part).await {
                Ok(CreateOutcome::New | CreateOutcome::AlreadyThere) => {
                    timeout = UPLOAD_RETRY_TIMEOUT;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            (UploadMessage::Part(_) | UploadMessage::Last(_), None) => Ok(()),
        };
        if let Err(error) = done {
            return (bucket, Err(error));
        }
    }
    // The queue was closed in the middle of an object: the backup has been abandoned.
    if let Some(begun) = upload {
        begun.abandon().await;
    }
    (bucket, Ok(()))
}
