//! `/openapi.json`, `/docs` and `/info`: what this instance is and what it can do.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use jiff::civil::Date;
use serde::Serialize;
use serde_json::Value;

use super::hello::today;
use crate::App;
use crate::config::{Case, Config, Surface};
use crate::domain::LeapDay;
use crate::openapi;
use crate::page::{self, Page};

/// What the service says of itself. It follows from the settings, and so is written once; only what
/// is true for a day is filled in later.
#[derive(Debug)]
pub(crate) struct About {
    document: String,
    docs: Page,
    home: Page,
}

#[derive(Serialize)]
pub(super) struct Info<'a> {
    company: &'a str,
    name: &'static str,
    version: &'static str,
    surfaces: Vec<&'static str>,
    today: Date,
    settings: Settings,
}

/// What a client may have to know of the settings. None of them is secret, nor tells of the inside.
#[derive(Serialize)]
struct Settings {
    hello_case_insensitive: bool,
    hello_leap_day: &'static str,
    list_max: usize,
    members_keys: &'static str,
    validation_status: u16,
}

impl About {
    /// Writes everything down.
    ///
    /// # Errors
    ///
    /// When the source of the document is not JSON.
    pub(crate) fn new(config: &Config) -> Result<Self, serde_json::Error> {
        let document: Value = openapi::document(config)?;
        let surfaces: Vec<&str> = config.surfaces.iter().map(|it| it.name()).collect();
        Ok(Self {
            document: serde_json::to_string(&document)?,
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
    ([json], openapi::on(today(&app.hello), &app.about.document))
}

/// Returns the same as a page.
pub(super) async fn docs(State(app): State<App>) -> Page {
    app.about.docs.on(today(&app.hello))
}

/// Returns what this instance is.
pub(super) async fn info(State(app): State<App>) -> impl IntoResponse {
    Json(Info {
        company: &app.company.name,
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        surfaces: app.surfaces.iter().copied().map(Surface::name).collect(),
        today: today(&app.hello),
        settings: Settings {
            hello_case_insensitive: app.hello.case == Case::Insensitive,
            hello_leap_day: match app.hello.leap_day {
                LeapDay::February28 => "feb28",
                LeapDay::March1 => "mar1",
            },
            list_max: app.list_max,
            members_keys: app.members_keys.name(),
            validation_status: app.validation_status.as_u16(),
        },
    })
    .into_response()
}
