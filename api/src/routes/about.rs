//! `/openapi.json`, `/docs` and `/info`: what this instance is and what it can do.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::hello::today;
use crate::App;
use crate::config::{Case, Config, option_name};
use crate::openapi;
use crate::page::{self, Page};

/// What the service says of itself. It follows from the settings, and so is written once.
#[derive(Debug)]
pub(crate) struct About {
    document: Bytes,
    docs: Page,
    home: Page,
}

impl About {
    /// Writes everything down.
    ///
    /// # Errors
    ///
    /// When the source of the document is not JSON.
    pub(crate) fn new(config: &Config) -> Result<Self, serde_json::Error> {
        let document: Value = openapi::document(config, today(&config.hello))?;
        let surfaces: Vec<String> = config.surfaces.iter().map(option_name).collect();
        Ok(Self {
            document: serde_json::to_vec(&document)?.into(),
            docs: page::docs(&document),
            home: page::home(&config.company.name, &surfaces),
        })
    }

    /// Returns the page at `/`.
    pub(super) fn home(&self) -> Page {
        self.home.clone()
    }
}

/// Returns the OpenAPI document.
pub(super) async fn document(State(app): State<App>) -> impl IntoResponse {
    let json = (header::CONTENT_TYPE, "application/json");
    ([json], app.about.document.clone())
}

/// Returns the same as a page.
pub(super) async fn docs(State(app): State<App>) -> Page {
    app.about.docs.clone()
}

/// Returns what this instance is, and what a client may have to know of its settings. None of them is
/// secret, nor tells of the inside.
pub(super) async fn info(State(app): State<App>) -> Json<Value> {
    Json(json!({
        "company": app.company.name,
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "surfaces": app.surfaces.iter().map(option_name).collect::<Vec<_>>(),
        "today": today(&app.hello),
        "settings": {
            "hello_case_insensitive": app.hello.case == Case::Insensitive,
            "hello_leap_day": option_name(&app.hello.leap_day),
            "list_max": app.list_max,
            "members_keys": option_name(&app.members_keys),
            "validation_status": app.validation_status.as_u16(),
        },
    }))
}
