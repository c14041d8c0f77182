//! Lists, a page at a time: `?limit=`, and a cursor that the header `Link` leads on with.

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::warn;
use url::form_urlencoded;

use super::problems::unavailable;
use crate::App;
use crate::domain::Invalid;
use crate::problem::Problem;
use crate::store::lists::{Listed, Rows};

pub(super) const JSON: (HeaderName, HeaderValue) = (
    header::CONTENT_TYPE,
    HeaderValue::from_static("application/json"),
);

/// The most rows that a client may ask for at once.
const LIMIT_MAX: usize = 1000;

/// The page that a client asks for, of a list whose rows are in the order of their keys `K`.
#[derive(Debug)]
pub(super) struct Page<K> {
    /// The key of the row before the page.
    pub(super) after: Option<K>,
    list: &'static str,
    size: usize,
    path: String,
    others: Vec<(String, String)>,
}

impl<K: Serialize + DeserializeOwned> Page<K> {
    /// Reads which page of `list` a client asks for; one that names no limit gets `list_max` rows.
    ///
    /// # Errors
    ///
    /// Every rule that a parameter breaks.
    pub(super) fn read(
        list: &'static str,
        uri: &Uri,
        list_max: usize,
    ) -> Result<Self, Vec<Invalid>> {
        // Any query is a list of names and values.
        let parameters = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
        let mut page = Self {
            after: None,
            list,
            size: list_max,
            path: uri.path().to_owned(),
            others: Vec::new(),
        };
        let mut broken = Vec::new();
        for (name, value) in parameters.0 {
            if name == "cursor" {
                page.after = decode(list, &value);
                if page.after.is_none() {
                    let message = "cursor must be one that a Link of this list gave";
                    broken.push(Invalid::new("cursor", "not-a-cursor", message));
                }
                continue;
            }
            if name == "limit" {
                page.size = limit(&value).unwrap_or(0);
                if page.size == 0 {
                    let message = format!("limit must be an integer from 1 to {LIMIT_MAX}");
                    broken.push(Invalid::new("limit", "out-of-range", message));
                }
            }
            page.others.push((name, value));
        }
        if broken.is_empty() {
            Ok(page)
        } else {
            Err(broken)
        }
    }

    /// Returns whether the client asks for the list as a whole, and not for a part of it.
    pub(super) fn is_whole(&self) -> bool {
        self.after.is_none() && self.others.iter().all(|(name, _)| name != "limit")
    }

    /// Returns how many rows to fetch. The last of them only shows that there is another page.
    pub(super) fn most(&self) -> i64 {
        i64::try_from(self.size).map_or(i64::MAX, |it| it.saturating_add(1))
    }

    /// Returns the headers that lead to what is behind `last`.
    fn headers(&self, last: Option<&K>) -> HeaderMap {
        let link = last.and_then(|it| HeaderValue::try_from(self.link(it)).ok());
        link.map(|it| (header::LINK, it)).into_iter().collect()
    }

    fn link(&self, last: &K) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.others);
        query.append_pair("cursor", &encode(self.list, last));
        format!("<{}?{}>; rel=\"next\"", self.path, query.finish())
    }
}

/// Reads a page and answers with it. What is short is one answer; of what is long, each page is read
/// when the client has taken the one before.
///
/// # Errors
///
/// A [`Problem`] when the database, or the memory for long answers, is not to be had in time.
pub(super) async fn read_and_answer<T, S>(
    app: &App,
    page: &Page<T::Key>,
    show: fn(T, &App) -> S,
    deadline: Instant,
) -> Result<Response, Problem>
where
    T: Listed,
    S: Serialize + 'static,
{
    let _turn = app.answer_memory.turn(T::turns(), deadline).await?;
    let reading = app.store.page(page.after.as_ref(), page.most(), deadline);
    let Rows { mut rows, is_last } = reading.await.map_err(unavailable)?;
    let has_more = rows.len() > page.size;
    rows.truncate(page.size);
    let left = page.size - rows.len();
    let last = rows.last().map(T::key);
    let (end, next) = if is_last || has_more {
        (last.filter(|_| has_more), None)
    } else {
        let size = i64::try_from(page.size).unwrap_or(i64::MAX);
        let finding = app.store.list_end::<T>(page.after.as_ref(), size, deadline);
        (finding.await.map_err(unavailable)?, last)
    };
    let headers = page.headers(end.as_ref());
    let json = encode_rows(rows, "[", next.is_none(), |it| show(it, app));
    let bytes = app.answer_memory.hold(json, None)?;
    if next.is_none() {
        return Ok((headers, [JSON], bytes).into_response());
    }
    let rest = Rest {
        is_marked: app.store.staleness().is_some(),
        app: app.clone(),
        next,
        end,
        left,
        show,
    };
    let rest = stream::try_unfold(rest, async |mut rest| {
        let page = rest.next_page().await;
        let page = page.inspect_err(|reason| warn!(reason, "list broken off"))?;
        Ok(page.map(|page| (page, rest)))
    });
    let body = Body::from_stream(stream::once(async { Ok::<_, &str>(bytes) }).chain(rest));
    Ok((headers, [JSON], body).into_response())
}

/// What a list has behind the pages that were sent. Its head has been sent as well, so whatever would
/// belie that breaks the list off: its connection is reset, and the client knows that it has not all.
struct Rest<T: Listed, S> {
    app: App,
    /// The key before the next page.
    next: Option<T::Key>,
    /// The key that the `Link` leads on from.
    end: Option<T::Key>,
    left: usize,
    /// Whether the head says that the rows may be a standby's.
    is_marked: bool,
    show: fn(T, &App) -> S,
}

impl<T: Listed, S: Serialize> Rest<T, S> {
    async fn next_page(&mut self) -> Result<Option<Bytes>, &'static str> {
        let Some(after) = self.next.take() else {
            return Ok(None);
        };
        let name = |problem: Problem| problem.kind().describe().0;
        let app = &self.app;
        let deadline = Instant::now() + app.request_timeout;
        let room = app.answer_memory.room(deadline).await.map_err(name)?;
        let _turn = app
            .answer_memory
            .turn(T::turns(), deadline)
            .await
            .map_err(name)?;
        let reading = app.store.page::<T>(Some(&after), i64::MAX, deadline);
        let read = reading.await.map_err(|it| name(unavailable(it)))?;
        if app.store.staleness().is_some() && !self.is_marked {
            return Err("the primary was lost, and a standby may lack rows");
        }
        let Rows { mut rows, is_last } = read;
        let found = rows.len();
        rows.retain(|it| self.end.as_ref().is_none_or(|end| it.key() <= *end));
        let last = rows.last().map(T::key);
        let is_at_end = rows.len() < found || (last.is_some() && last == self.end);
        let Some(left) = self.left.checked_sub(rows.len()) else {
            return Err("rows were stored meanwhile, and there is no link to the last of them");
        };
        self.left = left;
        self.next = last.filter(|_| !is_last && !is_at_end);
        let opening = if rows.is_empty() { "" } else { "," };
        let json = encode_rows(rows, opening, self.next.is_none(), |it| {
            (self.show)(it, app)
        });
        app.answer_memory
            .hold(json, Some(room))
            .map(Some)
            .map_err(name)
    }
}

/// Writes rows as a part of an array.
fn encode_rows<T, S: Serialize>(
    rows: Vec<T>,
    opening: &str,
    is_last: bool,
    show: impl Fn(T) -> S,
) -> Vec<u8> {
    let mut json = opening.as_bytes().to_vec();
    for (index, row) in rows.into_iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        // Rows always become JSON, and memory takes all of it.
        serde_json::to_writer(&mut json, &show(row)).ok();
    }
    if is_last {
        json.push(b']');
    }
    json
}

fn limit(text: &str) -> Option<usize> {
    let is_digits = text.bytes().all(|it| it.is_ascii_digit());
    let limit: usize = is_digits.then(|| text.parse().ok()).flatten()?;
    (1..=LIMIT_MAX).contains(&limit).then_some(limit)
}

/// A cursor names its list, so that one of another list is not mistaken for a place in this one.
fn encode<K: Serialize>(list: &str, key: &K) -> String {
    // Names, numbers and times always become JSON.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(list, key)).unwrap_or_default())
}

fn decode<K: DeserializeOwned>(list: &str, cursor: &str) -> Option<K> {
    let json = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (of, key): (String, K) = serde_json::from_slice(&json).ok()?;
    (of == list).then_some(key)
}
