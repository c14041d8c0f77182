//! `/users` and `/users/{id}`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use tokio::time::Instant;

use super::list::Page;
use super::problems::{not_stored, unavailable};
use super::request_key::request_key;
use crate::App;
use crate::body::json_object;
use crate::domain::{NewUser, User, parse_user_id};
use crate::problem::{Kind, Problem};

/// The status for values that break a rule, which the framework of the earlier service chose.
const INVALID: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// Stores a user.
pub(super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Json<User>, Problem> {
    let key = request_key(request.headers())?;
    let body = json_object(request, INVALID).await?;
    let user = NewUser::read(&body).map_err(|it| Problem::invalid(INVALID, &it))?;
    let deadline = Instant::now() + app.request_timeout;
    let stored = app.store.create_user(key, &user, deadline).await;
    stored.map(Json).map_err(not_stored)
}

/// Returns users in the order of their ids.
pub(super) async fn list(
    State(app): State<App>,
    uri: Uri,
) -> Result<(HeaderMap, Json<Vec<User>>), Problem> {
    let page =
        Page::read("users", &uri, app.list_max).map_err(|it| Problem::invalid(INVALID, &it))?;
    let deadline = Instant::now() + app.request_timeout;
    let listing = app
        .store
        .users(page.after.unwrap_or(0), page.most(), deadline);
    let mut users = listing.await.map_err(unavailable)?;
    let headers = page.cut(&mut users, |it| it.id);
    Ok((headers, Json(users)))
}

/// Returns one user.
pub(super) async fn get(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<User>, Problem> {
    // What is percent-encoded may not be UTF-8, and so no number.
    let text = id.map_or_else(|_rejection| String::new(), |Path(text)| text);
    let id = parse_user_id(&text).map_err(|it| Problem::invalid(INVALID, &[it]))?;
    let unknown = || Problem::new(Kind::NotFound, "User not found");
    let deadline = Instant::now() + app.request_timeout;
    let found = app.store.user(id.ok_or_else(unknown)?, deadline).await;
    found.map_err(unavailable)?.map(Json).ok_or_else(unknown)
}
