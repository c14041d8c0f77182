//! `/openapi.json`, `/docs` and `/info`: the description of this instance.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::about::About;
use crate::config::{Config, option_name};
use crate::page::Page;

/// Returns the OpenAPI document.
pub(crate) async fn document(State(about): State<Arc<About>>) -> impl IntoResponse {
    let json = (header::CONTENT_TYPE, "application/json");
    ([json], about.document.clone())
}

/// Returns the OpenAPI document as a page.
pub(crate) async fn docs(State(about): State<Arc<About>>) -> Page {
    about.docs.clone()
}

/// Returns the settings that clients see the effects of. None of them is secret, or describes the inside
/// of the service.
pub(crate) async fn info(State(config): State<Arc<Config>>) -> Json<Value> {
    let (services, hello) = (&config.services, &config.hello);
    Json(json!({
        "company": services.company.name,
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "surfaces": services.surfaces.iter().map(option_name).collect::<Vec<_>>(),
        "today": hello.today(),
        "settings": {
            "hello_case_insensitive": hello.case_insensitive,
            "hello_leap_day": option_name(&hello.leap_day),
            "list_max": services.list_max,
            "members_keys": option_name(&services.members_keys),
            "validation_status": services.validation_status.as_u16(),
        },
    }))
}
