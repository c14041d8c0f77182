//! Lists, one page at a time: `?limit=`, and the cursor in the header `Link`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::FromRef;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::warn;
use url::form_urlencoded;

use crate::answer_memory::AnswerMemory;
use crate::app::state::AppState;
use crate::config::{Config, Services};
use crate::domain::Invalid;
use crate::problem::Problem;
use crate::store::Store;
use crate::store::lists::Listed;

pub(super) const JSON: (HeaderName, HeaderValue) = (
    header::CONTENT_TYPE,
    HeaderValue::from_static("application/json"),
);

/// Maximum number of rows that a client may ask for at once.
const MAX_LIMIT: usize = 1000;

/// Requested page of a list whose rows are ordered by their keys `K`.
#[derive(Debug)]
pub(super) struct ListPage<K> {
    /// The key of the row before the page.
    pub(super) after: Option<K>,
    list: &'static str,
    size: usize,
    path: String,
    others: Vec<(String, String)>,
}

impl<K: Serialize + DeserializeOwned> ListPage<K> {
    /// Parses the requested page of `list`. An invalid parameter is rejected with the status `invalid`.
    pub(super) fn read(
        list: &'static str,
        uri: &Uri,
        services: &Services,
        invalid: StatusCode,
    ) -> Result<Self, Problem> {
        let parameters = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes());
        let mut page = Self {
            after: None,
            list,
            size: services.list_max,
            path: uri.path().to_owned(),
            others: Vec::new(),
        };
        let mut broken = Vec::new();
        for (name, value) in parameters.into_owned() {
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
                    let message = format!("limit must be an integer from 1 to {MAX_LIMIT}");
                    broken.push(Invalid::new("limit", "out-of-range", message));
                }
            }
            page.others.push((name, value));
        }
        if broken.is_empty() {
            Ok(page)
        } else {
            Err(Problem::invalid(invalid, &broken))
        }
    }

    /// Returns whether the whole list is requested.
    pub(super) fn is_whole(&self) -> bool {
        self.after.is_none() && self.others.iter().all(|(name, _)| name != "limit")
    }

    /// Returns the number of rows to fetch. The last of them only shows that there is another page.
    pub(super) fn most(&self) -> i64 {
        i64::try_from(self.size).map_or(i64::MAX, |size| size.saturating_add(1))
    }

    /// Returns the headers that link to the rows after `last`.
    fn headers(&self, last: Option<&K>) -> Result<HeaderMap, Problem> {
        let Some(last) = last else {
            return Ok(HeaderMap::new());
        };
        // A cursor names its list, so that it is rejected for another one.
        let cursor =
            serde_json::to_vec(&(self.list, last)).map_err(|_error| Problem::internal())?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.others);
        query.append_pair("cursor", &URL_SAFE_NO_PAD.encode(cursor));
        let link = format!("<{}?{}>; rel=\"next\"", self.path, query.finish());
        let link = HeaderValue::try_from(link).map_err(|_error| Problem::internal())?;
        Ok(HeaderMap::from_iter([(header::LINK, link)]))
    }
}

/// Reads lists from the database, in as much memory as there is for answers.
#[derive(Clone, Debug)]
pub(crate) struct ListReader {
    pub(super) config: Arc<Config>,
    pub(super) store: Arc<Store>,
    pub(super) answer_memory: Arc<AnswerMemory>,
}

impl FromRef<AppState> for ListReader {
    fn from_ref(state: &AppState) -> Self {
        Self {
            config: Arc::clone(&state.config),
            store: Arc::clone(&state.store),
            answer_memory: Arc::clone(&state.answer_memory),
        }
    }
}

impl ListReader {
    /// Reads a page and answers with it. A short list is one answer; of a long one, each page is read
    /// once the client has received the one before.
    pub(super) async fn answer<T, S>(
        &self,
        page: &ListPage<T::Key>,
        view: fn(T, &Config) -> S,
        deadline: Instant,
    ) -> Result<Response, Problem>
    where
        T: Listed,
        S: Serialize + 'static,
    {
        let _turn = self
            .answer_memory
            .wait_for_turn(T::page_limit(), deadline)
            .await?;
        let reading = self.store.page(page.after.as_ref(), page.most(), deadline);
        let (mut rows, is_last) = reading.await?;
        let has_more = rows.len() > page.size;
        rows.truncate(page.size);
        let left = page.size - rows.len();
        let last = rows.last().map(T::key);
        let (end, next) = if is_last || has_more {
            (last.filter(|_| has_more), None)
        } else {
            let size = i64::try_from(page.size).unwrap_or(i64::MAX);
            let after = page.after.as_ref();
            let finding = self.store.list_end::<T>(after, size, deadline);
            (finding.await?, last)
        };
        let headers = page.headers(end.as_ref())?;
        let json = encode_rows(rows, "[", next.is_none(), |row| view(row, &self.config))?;
        let bytes = self.answer_memory.count_bytes(json, None)?;
        if next.is_none() {
            return Ok((headers, [JSON], bytes).into_response());
        }
        let rest = RemainingPages {
            reader: self.clone(),
            next,
            end,
            left,
            view,
        };
        let rest = stream::try_unfold(rest, async |mut rest| {
            let page = rest.next_page().await;
            let page = page.inspect_err(|reason| warn!(reason, "list aborted"))?;
            Ok(page.map(|page| (page, rest)))
        });
        let body = Body::from_stream(stream::once(async { Ok::<_, &str>(bytes) }).chain(rest));
        Ok((headers, [JSON], body).into_response())
    }
}

/// The pages of a list after those that were sent. The head has been sent as well, so anything that
/// would contradict it aborts the list: the connection is reset, and the client sees that rows are
/// missing.
struct RemainingPages<T: Listed, S> {
    reader: ListReader,
    /// The key before the next page.
    next: Option<T::Key>,
    /// The key after which the `Link` continues.
    end: Option<T::Key>,
    left: usize,
    view: fn(T, &Config) -> S,
}

impl<T: Listed, S: Serialize> RemainingPages<T, S> {
    async fn next_page(&mut self) -> Result<Option<Bytes>, &'static str> {
        let Some(after) = self.next.take() else {
            return Ok(None);
        };
        let name = |problem: Problem| problem.kind.describe().0;
        let ListReader {
            config,
            store,
            answer_memory,
        } = &self.reader;
        let deadline = Instant::now() + config.http.request_timeout;
        let room = answer_memory.reserve_page(deadline).await.map_err(name)?;
        let turn = answer_memory.wait_for_turn(T::page_limit(), deadline).await;
        let _turn = turn.map_err(name)?;
        let reading = store.page::<T>(Some(&after), i64::MAX, deadline);
        let read = reading.await.map_err(|error| name(error.into()));
        let (mut rows, is_last) = read?;
        let found = rows.len();
        rows.retain(|row| self.end.as_ref().is_none_or(|end| row.key() <= *end));
        let last = rows.last().map(T::key);
        let is_at_end = rows.len() < found || (last.is_some() && last == self.end);
        let Some(left) = self.left.checked_sub(rows.len()) else {
            return Err("rows were stored meanwhile, and there is no link to the last of them");
        };
        self.left = left;
        self.next = last.filter(|_| !is_last && !is_at_end);
        let opening = if rows.is_empty() { "" } else { "," };
        let json = encode_rows(rows, opening, self.next.is_none(), |row| {
            (self.view)(row, config)
        });
        let json = json.map_err(name)?;
        let bytes = answer_memory.count_bytes(json, Some(room));
        bytes.map(Some).map_err(name)
    }
}

/// Encodes rows as a part of an array.
fn encode_rows<T, S: Serialize>(
    rows: Vec<T>,
    opening: &str,
    is_last: bool,
    view: impl Fn(T) -> S,
) -> Result<Vec<u8>, Problem> {
    let mut json = opening.as_bytes().to_vec();
    for (index, row) in rows.into_iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        let written = serde_json::to_writer(&mut json, &view(row));
        written.map_err(|_error| Problem::internal())?;
    }
    if is_last {
        json.push(b']');
    }
    Ok(json)
}

fn limit(text: &str) -> Option<usize> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit: usize = is_digits.then(|| text.parse().ok()).flatten()?;
    (1..=MAX_LIMIT).contains(&limit).then_some(limit)
}

fn decode<K: DeserializeOwned>(list: &str, cursor: &str) -> Option<K> {
    let json = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (of, key): (String, K) = serde_json::from_slice(&json).ok()?;
    (of == list).then_some(key)
}
