//! What a browser is shown. A page holds all it needs, and its policy lets it load nothing else.

mod docs;
mod home;
mod shape;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::Date;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

pub(crate) use self::docs::docs;
pub(crate) use self::home::home;
use crate::openapi;

const STYLE: &str = include_str!("page/style.css");
/// A page without one would make browsers ask for `/favicon.ico`.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E\
                    %3Cpath fill='%230b57c4' d='M0 5h2V3h4v2h2v2H0z'/%3E%3C/svg%3E";

/// A page, with the policy that it is shown under.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    html: String,
    policy: HeaderValue,
}

impl Page {
    /// Lays out a page. `script` runs when it has been read.
    fn new(title: &str, body: &Markup, script: &str) -> Self {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    link rel="icon" href=(ICON);
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (body)
                    @if !script.is_empty() {
                        script { (PreEscaped(script)) }
                    }
                }
            }
        };
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            source(STYLE),
            if script.is_empty() {
                "'none'".to_owned()
            } else {
                source(script)
            },
        );
        Self {
            html: page.into_string(),
            // Base 64 is ASCII, and so is the rest.
            policy: HeaderValue::try_from(policy)
                .unwrap_or_else(|_never| HeaderValue::from_static("default-src 'none'")),
        }
    }

    /// Returns the page as it is on one day.
    pub(crate) fn on(&self, today: Date) -> Self {
        Self {
            html: openapi::on(today, &self.html),
            policy: self.policy.clone(),
        }
    }
}

/// Names what stands in a page, so that the browser trusts it and nothing that was slipped in.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/html; charset=utf-8"),
            ),
            (header::CONTENT_SECURITY_POLICY, self.policy),
        ];
        (headers, self.html).into_response()
    }
}
