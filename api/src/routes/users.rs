//! `/users` and `/users/{id}`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use super::list::{self, JSON, Page};
use super::problems::{not_stored, unavailable};
use super::request_key::request_key;
use crate::App;
use crate::body::read_object;
use crate::cache::{Key, encode};
use crate::domain::{NewUser, User, parse_user_id};
use crate::problem::{Kind, Problem};
use crate::store::Unavailable;
use crate::store::lists::Listed as _;

/// The status for values that break a rule, which the framework of the earlier service chose.
const INVALID: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// Stores a user.
pub(super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Json<User>, Problem> {
    let key = request_key(request.headers())?;
    let user = read_object(&app, request, INVALID, NewUser::read).await?;
    let deadline = Instant::now() + app.request_timeout;
    let store = app.store.clone();
    let storing = async move { store.create_user(key, &user, deadline).await };
    let stored = app.cache.change(storing).await;
    stored.map(Json).map_err(not_stored)
}

/// Returns users in the order of their ids. Only the list as a whole is cached, if it is one page.
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let page =
        Page::read("users", &uri, app.list_max).map_err(|it| Problem::invalid(INVALID, &it))?;
    let deadline = Instant::now() + app.request_timeout;
    // Only who asks the database takes a turn: one that waits for a table stops nobody else.
    let listing = async || {
        let turn = app.answer_memory.turn(User::turns(), deadline).await;
        let _turn = turn.map_err(|_too_many| Unavailable::Busy)?;
        let reading = app.store.page::<User>(None, page.most(), deadline);
        let users = reading.await?;
        users.is_last.then(|| encode(&users.rows)).transpose()
    };
    let (users, source) = if page.is_whole() {
        let reading = app.cache.read(Key::AllUsers, deadline, listing);
        reading.await.map_err(unavailable)?
    } else {
        (None, app.cache.bypass())
    };
    let answer = match users {
        Some(users) => {
            let users = app.answer_memory.hold(users.into_bytes(), None)?;
            ([JSON], users).into_response()
        }
        None => list::read_and_answer(&app, &page, |user: User, _app| user, deadline).await?,
    };
    Ok(([source.header()], answer).into_response())
}

/// Returns one user.
pub(super) async fn get(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // What is percent-encoded may not be UTF-8, and so no number.
    let text = id.map_or_else(|_rejection| String::new(), |Path(text)| text);
    let id = parse_user_id(&text).map_err(|it| Problem::invalid(INVALID, &[it]))?;
    let (user, source) = match id {
        Some(id) => {
            let deadline = Instant::now() + app.request_timeout;
            let finding = async || {
                let user = app.store.user(id, deadline).await?;
                user.as_ref().map(encode).transpose()
            };
            let reading = app.cache.read(Key::User(id), deadline, finding);
            reading.await.map_err(unavailable)?
        }
        None => (None, app.cache.bypass()),
    };
    let answer = match user {
        Some(user) => ([JSON], user).into_response(),
        None => Problem::new(Kind::NotFound, "User not found").into_response(),
    };
    Ok(([source.header()], answer).into_response())
}
