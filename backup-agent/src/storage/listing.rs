//! Paged listing of a bucket: an archive of years has more keys than fit in memory.

use std::collections::VecDeque;

use causeway_runtime::s3::{ListRequest, ListedObject};

use crate::storage::bucket::Bucket;
use crate::storage::store_error::StoreError;

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
        let request = ListRequest {
            prefix,
            after,
            token: token.as_deref(),
        };
        let page = bucket.retried(0, || {
            let call = bucket.client().list_objects(request);
            bucket.answer("list", prefix, 0, call)
        });
        let page = page.await?;
        self.page = page.entries.into();
        self.next = match page.next_token {
            Some(token) => NextPage::Token(token),
            None => NextPage::None,
        };
        Ok(())
    }
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

    /// Returns the folders below `prefix`: the parts of keys between it and the next `/`.
    pub(crate) async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let request = ListRequest {
                prefix,
                after: "",
                token: token.as_deref(),
            };
            let page = self.retried(0, || {
                let call = self.client().list_folders(request);
                self.answer("list", prefix, 0, call)
            });
            let page = page.await?;
            names.extend(page.entries);
            token = page.next_token;
            if token.is_none() {
                return Ok(names);
            }
        }
    }
}
