//! `/beers`, and the first beers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::list::{ListPage, ListReader};
use super::request_key::request_key;
use crate::body::read_object;
use crate::config::Config;
use crate::domain::{Beer, NewBeer};
use crate::load_limit::LoadLimit;
use crate::problem::Problem;
use crate::store::Store;

pub(crate) async fn create(
    State(config): State<Arc<Config>>,
    State(load_limit): State<Arc<LoadLimit>>,
    State(store): State<Arc<Store>>,
    request: Request,
) -> Result<(StatusCode, Json<Beer>), Problem> {
    let invalid = config.services.validation_status;
    let key = request_key(request.headers())?;
    let beer = read_object(&load_limit, request, invalid, NewBeer::read).await?;
    let deadline = Instant::now() + config.http.request_timeout;
    let stored = store.create_beer(key, &beer, deadline).await?;
    Ok((StatusCode::CREATED, Json(stored)))
}

/// Returns beers in the order of their ids.
pub(crate) async fn list(State(reader): State<ListReader>, uri: Uri) -> Result<Response, Problem> {
    let services = &reader.config.services;
    let page = ListPage::read("beers", &uri, services, services.validation_status)?;
    let deadline = Instant::now() + reader.config.http.request_timeout;
    reader
        .answer(&page, |beer: Beer, _config| beer, deadline)
        .await
}

/// Stores those of the first beers that are missing.
pub(crate) async fn seed(
    State(config): State<Arc<Config>>,
    State(store): State<Arc<Store>>,
) -> Result<Json<Value>, Problem> {
    let deadline = Instant::now() + config.http.request_timeout;
    let inserted = store.seed_beers(deadline).await?;
    let message = format!("beers inserted: {}", inserted.len());
    Ok(Json(json!({ "message": message, "inserted": inserted })))
}
