//! `/users` and `/users/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use super::list::{JSON, ListPage, ListReader};
use super::request_key::request_key;
use crate::body::read_object;
use crate::cache::{Cache, Key, encode};
use crate::config::Config;
use crate::domain::{NewUser, User, parse_user_id};
use crate::load_limit::LoadLimit;
use crate::problem::{Kind, Problem};
use crate::store::lists::Listed as _;
use crate::store::{DatabaseError, Store};

/// The status for values that break a rule, chosen by the framework of the earlier service.
const INVALID: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

pub(crate) async fn create(
    State(config): State<Arc<Config>>,
    State(load_limit): State<Arc<LoadLimit>>,
    State(store): State<Arc<Store>>,
    State(cache): State<Arc<Cache>>,
    request: Request,
) -> Result<Json<User>, Problem> {
    let key = request_key(request.headers())?;
    let user = read_object(&load_limit, request, INVALID, NewUser::read).await?;
    let deadline = Instant::now() + config.http.request_timeout;
    let storing = async move { store.create_user(key, &user, deadline).await };
    Ok(Json(cache.change(storing).await?))
}

/// Returns users in the order of their ids. Only the whole list is cached, if it fits into one page.
pub(crate) async fn list(
    State(reader): State<ListReader>,
    State(cache): State<Arc<Cache>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let ListReader {
        config,
        store,
        answer_memory,
    } = &reader;
    let page = ListPage::read("users", &uri, &config.services, INVALID)?;
    let deadline = Instant::now() + config.http.request_timeout;
    // Only a request that queries the database takes a turn, so that a locked table delays no other.
    let listing = async || {
        let turn = answer_memory
            .wait_for_turn(User::page_limit(), deadline)
            .await;
        let _turn = turn.map_err(|_too_many| DatabaseError::Busy)?;
        let (users, is_last) = store.page::<User>(None, page.most(), deadline).await?;
        is_last.then(|| encode(&users)).transpose()
    };
    let (users, source) = if page.is_whole() {
        cache.read(Key::AllUsers, deadline, listing).await?
    } else {
        (None, cache.bypass())
    };
    let answer = match users {
        Some(users) => {
            let users = answer_memory.count_bytes(users.into_bytes(), None)?;
            ([JSON], users).into_response()
        }
        None => {
            reader
                .answer(&page, |user: User, _config| user, deadline)
                .await?
        }
    };
    Ok(([source.header()], answer).into_response())
}

pub(crate) async fn get(
    State(config): State<Arc<Config>>,
    State(store): State<Arc<Store>>,
    State(cache): State<Arc<Cache>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // Percent-encoded bytes that are not UTF-8 are no number.
    let text = id.map_or_else(|_rejection| String::new(), |Path(text)| text);
    let id = parse_user_id(&text).map_err(|broken| Problem::invalid(INVALID, &[broken]))?;
    let (user, source) = match id {
        Some(id) => {
            let deadline = Instant::now() + config.http.request_timeout;
            let finding = async || {
                let user = store.user(id, deadline).await?;
                user.as_ref().map(encode).transpose()
            };
            cache.read(Key::User(id), deadline, finding).await?
        }
        None => (None, cache.bypass()),
    };
    let answer = match user {
        Some(user) => ([JSON], user).into_response(),
        None => Problem::new(Kind::NotFound, "User not found").into_response(),
    };
    Ok(([source.header()], answer).into_response())
}
