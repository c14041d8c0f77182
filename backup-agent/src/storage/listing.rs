//! Paged listing of a bucket: an archive of years has more keys than fit in memory.

use std::collections::VecDeque;

use aws_sdk_s3::types::Object;

use crate::storage::bucket::Bucket;
use crate::storage::store_error::StoreError;

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedObject {
    pub(crate) key: String,
    /// Length in bytes.
    pub(crate) size: u64,
    /// Time when it was stored, in seconds since 1970; for a multipart upload, when that began.
    pub(crate) last_modified: i64,
}

/// Listing in progress, in the order of the keys.
#[derive(Debug)]
pub(crate) struct Listing {
    bucket: Bucket,
    prefix: String,
    after: String,
    page: VecDeque<ListedObject>,
    next: NextPage,
}

#[derive(Debug)]
enum NextPage {
    First,
    Token(String),
    None,
}

impl Listing {
    /// Returns a listing of the keys that start with `prefix` and sort after `after`.
    pub(super) fn new(bucket: &Bucket, prefix: &str, after: &str) -> Self {
        Self {
            bucket: bucket.clone(),
            prefix: prefix.to_owned(),
            after: after.to_owned(),
            page: VecDeque::new(),
            next: NextPage::First,
        }
    }

    /// Returns the next object, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<ListedObject>, StoreError> {
        loop {
            if let Some(object) = self.page.pop_front() {
                return Ok(Some(object));
            }
            let token = match &self.next {
                NextPage::None => return Ok(None),
                NextPage::First => None,
                NextPage::Token(token) => Some(token.clone()),
            };
            self.read_page(token).await?;
        }
    }

    async fn read_page(&mut self, token: Option<String>) -> Result<(), StoreError> {
        let Self {
            bucket,
            prefix,
            after,
            ..
        } = &*self;
        let page = bucket
            .retried(0, || {
                let call = bucket.client().list_objects_v2().bucket(bucket.name());
                let call = call.prefix(prefix).set_continuation_token(token.clone());
                let call = call.set_start_after((!after.is_empty()).then(|| after.clone()));
                bucket.answer("list", prefix, 0, call.send())
            })
            .await?;
        // S3 omits `Contents` from an empty page.
        let contents = page.contents.into_iter().flatten();
        let objects = contents.map(listed_object);
        // Not a default: a length of 0 would pass for a pack that is cut off.
        let incomplete = || {
            let why = "the listing lacks the key, length or time of an object";
            self.bucket.refused("list", &self.prefix, why)
        };
        self.page = objects.collect::<Option<_>>().ok_or_else(incomplete)?;
        let token = page.next_continuation_token;
        self.next = match self
            .bucket
            .next_token(&self.prefix, token, page.is_truncated)?
        {
            Some(token) => NextPage::Token(token),
            None => NextPage::None,
        };
        Ok(())
    }
}

fn listed_object(object: Object) -> Option<ListedObject> {
    Some(ListedObject {
        key: object.key?,
        size: u64::try_from(object.size?).ok()?,
        last_modified: object.last_modified?.secs(),
    })
}

impl Bucket {
    /// Lists the objects whose keys begin with `prefix` and sort after `after`, in order.
    pub(crate) fn listing(&self, prefix: &str, after: &str) -> Listing {
        Listing::new(self, prefix, after)
    }

    /// Calls `visit` with each object whose key begins with `prefix` and sorts after `after`, in
    /// order. One page is in memory at a time.
    pub(crate) async fn list_each(
        &self,
        prefix: &str,
        after: &str,
        mut visit: impl FnMut(ListedObject),
    ) -> Result<(), StoreError> {
        let mut listing = self.listing(prefix, after);
        while let Some(object) = listing.next().await? {
            visit(object);
        }
        Ok(())
    }

    /// Returns the keys that begin with `prefix` and sort after `after`, in order.
    pub(crate) async fn list(&self, prefix: &str, after: &str) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        self.list_each(prefix, after, |object| keys.push(object.key))
            .await?;
        Ok(keys)
    }

    /// Returns the token of the next page. A truncated page without one must not pass for the last.
    fn next_token(
        &self,
        prefix: &str,
        token: Option<String>,
        is_truncated: Option<bool>,
    ) -> Result<Option<String>, StoreError> {
        if token.is_none() && is_truncated == Some(true) {
            let why = "it is truncated, and has no continuation token";
            return Err(self.refused("list", prefix, why));
        }
        Ok(token)
    }

    /// Returns the folders below `prefix`: the parts of keys between it and the next `/`.
    pub(crate) async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let mut token = None;
        loop {
            let page = self.retried(0, || {
                let call = self.client().list_objects_v2().bucket(self.name());
                let call = call.prefix(prefix).delimiter("/");
                let call = call.set_continuation_token(token.clone());
                self.answer("list", prefix, 0, call.send())
            });
            let page = page.await?;
            let folders = page.common_prefixes.into_iter().flatten();
            let paths = folders.filter_map(|folder| folder.prefix);
            names.extend(paths.filter_map(|path| {
                let name = path.strip_prefix(prefix)?.strip_suffix('/')?;
                Some(name.to_owned())
            }));
            let next = page.next_continuation_token;
            token = self.next_token(prefix, next, page.is_truncated)?;
            if token.is_none() {
                return Ok(names);
            }
        }
    }
}
