//! `/beers`, and the beers to begin with.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use tokio::time::Instant;

use super::list::Page;
use super::problems::{not_stored, unavailable};
use super::request_key::request_key;
use crate::App;
use crate::body::json_object;
use crate::domain::{Beer, NewBeer};
use crate::problem::Problem;

#[derive(Serialize)]
pub(super) struct Seeded {
    message: String,
    inserted: Vec<Beer>,
}

/// Stores a beer.
pub(super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<(StatusCode, Json<Beer>), Problem> {
    let invalid = app.validation_status;
    let key = request_key(request.headers())?;
    let body = json_object(request, invalid).await?;
    let beer = NewBeer::read(&body).map_err(|it| Problem::invalid(invalid, &it))?;
    let deadline = Instant::now() + app.request_timeout;
    let stored = app.store.create_beer(key, &beer, deadline).await;
    let stored = stored.map_err(not_stored)?;
    Ok((StatusCode::CREATED, Json(stored)))
}

/// Returns beers in the order of their ids.
pub(super) async fn list(
    State(app): State<App>,
    uri: Uri,
) -> Result<(HeaderMap, Json<Vec<Beer>>), Problem> {
    let page = Page::read("beers", &uri, app.list_max)
        .map_err(|it| Problem::invalid(app.validation_status, &it))?;
    let deadline = Instant::now() + app.request_timeout;
    let listing = app
        .store
        .beers(page.after.unwrap_or(0), page.most(), deadline);
    let mut beers = listing.await.map_err(unavailable)?;
    let headers = page.cut(&mut beers, |it| it.id);
    Ok((headers, Json(beers)))
}

/// Stores the beers to begin with, as far as they are not there.
pub(super) async fn seed(State(app): State<App>) -> Result<Json<Seeded>, Problem> {
    let deadline = Instant::now() + app.request_timeout;
    let inserted = app.store.seed_beers(deadline).await.map_err(unavailable)?;
    let message = match inserted.len() {
        0 => "every beer was there already".to_owned(),
        1 => "1 beer inserted".to_owned(),
        count => format!("{count} beers inserted"),
    };
    Ok(Json(Seeded { message, inserted }))
}
