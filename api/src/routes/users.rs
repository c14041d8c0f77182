//! `/users` and `/users/{id}`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use super::list::{self, Page};
use super::problems::{not_stored, unavailable};
use super::request_key::request_key;
use crate::App;
use crate::body::read_object;
use crate::cache::Key;
use crate::domain::{NewUser, User, parse_user_id};
use crate::problem::{Kind, Problem};
use crate::store::Rows;

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

/// Returns users in the order of their ids. Only the list as a whole is cached.
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let page =
        Page::read("users", &uri, app.list_max).map_err(|it| Problem::invalid(INVALID, &it))?;
    if !page.is_whole() {
        let answer = list::read_and_answer(&app, &page, |user: User, _app| user).await?;
        return Ok(([app.cache.bypass().header()], answer).into_response());
    }
    let deadline = Instant::now() + app.request_timeout;
    let _turn = app.answer_memory.turn(deadline).await?;
    let listing = || app.store.page::<User>(None, page.most(), deadline);
    // What does not fit into one page is not kept: it would be memory without a limit.
    let fits = |users: &Rows<User>| matches!(users, Rows::Last(_));
    let reading = app.cache.read(Key::AllUsers, deadline, listing, fits);
    let (first, source) = reading.await.map_err(unavailable)?;
    let answer = list::answer(&app, &page, first, |user, _app| user, deadline).await?;
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
    let unknown = || Problem::new(Kind::NotFound, "User not found");
    let Some(id) = id else {
        return Ok(([app.cache.bypass().header()], unknown()).into_response());
    };
    let deadline = Instant::now() + app.request_timeout;
    let finding = || app.store.user(id, deadline);
    let reading = app
        .cache
        .read(Key::User(id), deadline, finding, Option::is_some);
    let (user, source) = reading.await.map_err(unavailable)?;
    let answer = match user {
        Some(user) => Json(user).into_response(),
        None => unknown().into_response(),
    };
    Ok(([source.header()], answer).into_response())
}
