//! `/openapi.json`, `/docs` and `/info`: the description of this instance.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::config::{Config, option_name};
use crate::openapi;
use crate::page::{self, HtmlPage};

/// The description of this instance. It depends on the settings only, and is written once.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) document: Bytes,
    /// The page at `/docs`.
    pub(crate) docs: HtmlPage,
    /// The page at `/`.
    pub(crate) home: HtmlPage,
}

impl About {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let document = openapi::document(config, config.hello.today())?;
        let services = &config.services;
        let surfaces: Vec<String> = services.surfaces.iter().map(option_name).collect();
        Ok(Self {
            document: serde_json::to_vec(&document)?.into(),
            docs: page::docs(&document),
            home: page::home(&services.company.name, &surfaces),
        })
    }
}

pub(crate) async fn document(State(about): State<Arc<About>>) -> impl IntoResponse {
    let json = (header::CONTENT_TYPE, "application/json");
    ([json], about.document.clone())
}

/// Returns the OpenAPI document as a page.
pub(crate) async fn docs(State(about): State<Arc<About>>) -> HtmlPage {
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
