//! Listing in all buckets concurrently, with a short wait for unavailable ones.

use std::time::Duration;

use causeway_runtime::s3::ListedObject;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{self, Instant};

use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;
use crate::storage::store_error::StoreError;

/// Additional time for a bucket that has not responded yet, after another has listed.
const UNREACHED_GRACE: Duration = Duration::from_secs(5);

/// The same for a recently unavailable bucket.
const AVOIDED_GRACE: Duration = Duration::from_secs(1);

/// The same for a bucket that responds with transient errors: its content may matter.
const REACHED_GRACE: Duration = Duration::from_secs(30);

impl Buckets {
    /// Lists in every bucket. Returns the responding buckets with their keys, nearest first, or the
    /// last error if none responded.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: &str,
    ) -> Result<Vec<(&Bucket, Vec<String>)>, Error> {
        let list = |bucket: &Bucket| {
            let bucket = bucket.clone();
            async move { bucket.list(prefix, after).await }
        };
        self.answers(prefix, list).await
    }

    /// Lists as [`list`](Self::list), with the length of each object.
    pub(crate) async fn list_objects(
        &self,
        prefix: &str,
        after: &str,
    ) -> Result<Vec<(&Bucket, Vec<ListedObject>)>, Error> {
        let list = |bucket: &Bucket| {
            let bucket = bucket.clone();
            async move {
                let mut objects = Vec::new();
                let listed = bucket.list_each(prefix, after, |object| objects.push(object));
                listed.await.map(|()| objects)
            }
        };
        self.answers(prefix, list).await
    }

    /// Lists the folders below `prefix` in every bucket, as [`list`](Self::list) does the keys.
    pub(crate) async fn folders(&self, prefix: &str) -> Result<Vec<(&Bucket, Vec<String>)>, Error> {
        let folders = |bucket: &Bucket| {
            let bucket = bucket.clone();
            async move { bucket.folders(prefix).await }
        };
        self.answers(prefix, folders).await
    }

    async fn answers<'a, T, Fut>(
        &'a self,
        what: &str,
        ask: impl Fn(&'a Bucket) -> Fut,
    ) -> Result<Vec<(&'a Bucket, T)>, Error>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let mut asked: FuturesUnordered<_> = self
            .all()
            .iter()
            .enumerate()
            .map(|(number, bucket)| {
                let answer = ask(bucket);
                async move { (number, answer.await) }
            })
            .collect();
        let mut silent: Vec<usize> = (0..self.all().len()).collect();
        let mut answers = Vec::new();
        let mut last = None;
        let mut first_at: Option<Instant> = None;
        while !asked.is_empty() {
            let next = match first_at {
                None => asked.next().await,
                Some(at) => {
                    let until = at + self.longest(&silent);
                    match time::timeout_at(until, asked.next()).await {
                        Ok(next) => next,
                        // A bucket may have responded meanwhile, which extends its time.
                        Err(_elapsed) if at + self.longest(&silent) > Instant::now() => continue,
                        Err(_elapsed) => break,
                    }
                }
            };
            let Some((number, answer)) = next else {
                break;
            };
            silent.retain(|other| *other != number);
            let Some(bucket) = self.all().get(number) else {
                continue;
            };
            match answer {
                Ok(answer) => {
                    self.health().record_response(bucket.name());
                    first_at.get_or_insert_with(Instant::now);
                    answers.push((number, bucket, answer));
                }
                Err(error) => {
                    self.skip_bucket(bucket, &error);
                    last = Some(error);
                }
            }
        }
        for bucket in silent.iter().filter_map(|number| self.all().get(*number)) {
            self.skip_bucket(bucket, &bucket.timeout_error("list", what));
        }
        match last {
            Some(last) if answers.is_empty() => Err(Error::Unreachable {
                what: what.to_owned(),
                answered: 0,
                last: Box::new(last),
            }),
            _ => {
                answers.sort_by_key(|(number, ..)| *number);
                let answers = answers.into_iter();
                Ok(answers
                    .map(|(_, bucket, answer)| (bucket, answer))
                    .collect())
            }
        }
    }

    /// Returns the additional time for the buckets that have not listed yet.
    fn longest(&self, silent: &[usize]) -> Duration {
        let silent = silent.iter().filter_map(|number| self.all().get(*number));
        let limits = silent.map(|bucket| {
            if bucket.is_reached() {
                REACHED_GRACE
            } else if self.health().is_avoided(bucket.name()) {
                AVOIDED_GRACE
            } else {
                UNREACHED_GRACE
            }
        });
        limits.max().unwrap_or(Duration::ZERO)
    }
}
