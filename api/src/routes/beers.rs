//! `/beers`, and the beers to begin with.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::list::{self, Page};
use super::problems::{not_stored, unavailable};
use super::request_key::request_key;
use crate::App;
use crate::body::read_object;
use crate::domain::{Beer, NewBeer};
use crate::problem::Problem;

/// Stores a beer.
pub(super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<(StatusCode, Json<Beer>), Problem> {
    let invalid = app.validation_status;
    let key = request_key(request.headers())?;
    let beer = read_object(&app, request, invalid, NewBeer::read).await?;
    let deadline = Instant::now() + app.request_timeout;
    let stored = app.store.create_beer(key, &beer, deadline).await;
    let stored = stored.map_err(not_stored)?;
    Ok((StatusCode::CREATED, Json(stored)))
}

/// Returns beers in the order of their ids.
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let page = Page::read("beers", &uri, app.list_max)
        .map_err(|it| Problem::invalid(app.validation_status, &it))?;
    let deadline = Instant::now() + app.request_timeout;
    list::read_and_answer(&app, &page, |beer: Beer, _app| beer, deadline).await
}

/// Stores the beers to begin with, as far as they are not there.
pub(super) async fn seed(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let deadline = Instant::now() + app.request_timeout;
    let inserted = app.store.seed_beers(deadline).await.map_err(unavailable)?;
    let message = match inserted.len() {
        0 => "every beer was there already".to_owned(),
        1 => "1 beer inserted".to_owned(),
        count => format!("{count} beers inserted"),
    };
    Ok(Json(json!({ "message": message, "inserted": inserted })))
}
