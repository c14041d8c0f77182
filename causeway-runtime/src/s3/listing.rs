//! Pages of a bucket's listing.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::Object;

use super::client::S3Client;
use super::error::S3Error;
use super::error_kind::S3ErrorKind;

/// Request for one page of a listing.
#[derive(Clone, Copy, Debug)]
pub struct ListRequest<'a> {
    /// Beginning of the listed keys.
    pub prefix: &'a str,
    /// Key after which the listing begins; empty for all keys.
    pub after: &'a str,
    /// Token of the page, from the page before it.
    pub token: Option<&'a str>,
}

/// One page of a listing, in the order of the keys.
#[derive(Clone, Debug)]
pub struct ListedPage<T> {
    /// Entries of the page.
    pub entries: Vec<T>,
    /// Token of the next page, if there is one.
    pub next_token: Option<String>,
}

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Key.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// Time when it was stored, in seconds since 1970; for a multipart upload, when that began.
    pub last_modified: i64,
}

impl S3Client {
    /// Lists a page of objects.
    ///
    /// # Errors
    ///
    /// [`S3Error`] when the bucket does not list, or lists incompletely: a length of 0 would pass for an object that
    /// is cut off, and a truncated page without a token for the last one.
    pub async fn list_objects(
        &self,
        request: ListRequest<'_>,
    ) -> Result<ListedPage<ListedObject>, S3Error> {
        let page = self.list_page(request, None).await?;
        let next_token = next_token(&page)?;
        // S3 omits `Contents` from an empty page.
        let contents = page.contents.into_iter().flatten();
        let entries = contents.map(listed_object).collect::<Option<_>>();
        let incomplete = || rejected("the listing lacks the key, length or time of an object");
        Ok(ListedPage {
            entries: entries.ok_or_else(incomplete)?,
            next_token,
        })
    }

    /// Lists a page of folders: the parts of keys between the prefix and the next `/`.
    ///
    /// # Errors
    ///
    /// [`S3Error`] when the bucket does not list, or omits the token of the next page.
    pub async fn list_folders(
        &self,
        request: ListRequest<'_>,
    ) -> Result<ListedPage<String>, S3Error> {
        let page = self.list_page(request, Some("/")).await?;
        let next_token = next_token(&page)?;
        let folders = page.common_prefixes.into_iter().flatten();
        let paths = folders.filter_map(|folder| folder.prefix);
        let names = paths.filter_map(|path| {
            let name = path.strip_prefix(request.prefix)?.strip_suffix('/')?;
            Some(name.to_owned())
        });
        Ok(ListedPage {
            entries: names.collect(),
            next_token,
        })
    }

    async fn list_page(
        &self,
        request: ListRequest<'_>,
        delimiter: Option<&str>,
    ) -> Result<ListObjectsV2Output, S3Error> {
        let ListRequest {
            prefix,
            after,
            token,
        } = request;
        let call = self.sdk().list_objects_v2().bucket(self.bucket());
        let call = call
            .prefix(prefix)
            .set_start_after((!after.is_empty()).then(|| after.to_owned()))
            .set_delimiter(delimiter.map(str::to_owned))
            .set_continuation_token(token.map(str::to_owned));
        self.call(call.send()).await
    }
}

fn next_token(page: &ListObjectsV2Output) -> Result<Option<String>, S3Error> {
    if page.next_continuation_token.is_none() && page.is_truncated == Some(true) {
        return Err(rejected(
            "the listing is truncated, and has no continuation token",
        ));
    }
    Ok(page.next_continuation_token.clone())
}

fn listed_object(object: Object) -> Option<ListedObject> {
    Some(ListedObject {
        key: object.key?,
        size: u64::try_from(object.size?).ok()?,
        last_modified: object.last_modified?.secs(),
    })
}

fn rejected(text: &str) -> S3Error {
    S3Error::of_response(S3ErrorKind::Rejected, text)
}
