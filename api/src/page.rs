//! HTML pages for browsers. A page is self-contained, and its policy lets it load nothing else.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("page/style.css");
/// Without an icon in the page, browsers request `/favicon.ico`.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E\
                    %3Cpath fill='%230b57c4' d='M0 5h2V3h4v2h2v2H0z'/%3E%3C/svg%3E";
/// The members of a path that are operations.
const METHODS: [&str; 4] = ["get", "head", "put", "post"];

/// A page, with its headers: among them the policy under which a browser shows it.
pub(crate) type HtmlPage = ([(HeaderName, HeaderValue); 2], Bytes);

/// Lays out a page.
fn page(title: &str, body: &Markup) -> HtmlPage {
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
            body { (body) }
        }
    };
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'none'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy =
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [
        (header::CONTENT_TYPE, html),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, page.into_string().into())
}

/// Returns the page at `/`, which links to all others.
pub(crate) fn home(company: &str, surfaces: &[String]) -> HtmlPage {
    let body = html! {
        main {
            h1 { (company) }
            p { "The API runs." }
            ul {
                li { a href="/docs" { "API documentation" } }
                li { a href="/openapi.json" { "OpenAPI document" } }
                li { a href="/info" { "Settings" } }
                li { a href="/readyz" { "Readiness" } }
                li { a href="/problems" { "Problem types" } }
            }
            p.quiet { "API surfaces: " (surfaces.join(", ")) ". Clients that accept JSON receive JSON here." }
        }
    };
    page(company, &body)
}

/// Returns the page at `/docs`: the operations of an OpenAPI document. Schemas are in the document itself.
pub(crate) fn docs(document: &Value) -> HtmlPage {
    let info = document.get("info").unwrap_or(&Value::Null);
    let body = html! {
        h1 { (string(info, "title")) }
        p { "Version " (string(info, "version")) "; "
            a href="/openapi.json" { "OpenAPI document" } ", "
            a href="/problems" { "problem types" } "." }
        @for paragraph in string(info, "description").split("\n\n") {
            p { (prose(paragraph)) }
        }
        main {
            @for (path, item) in members(document, "/paths") {
                @for (method, operation) in members(item, "").filter(|(method, _)| METHODS.contains(&method.as_str())) {
                    (section(document, path, method, operation))
                }
            }
        }
    };
    page(string(info, "title"), &body)
}

fn section(document: &Value, path: &str, method: &str, operation: &Value) -> Markup {
    html! {
        details id=(string(operation, "operationId")) {
            summary {
                b { (method.to_uppercase()) } " " code { (path) } " " (string(operation, "summary"))
            }
            p { (prose(string(operation, "description"))) }
            ul {
                @for (status, response) in members(operation, "/responses") {
                    li { (status) ": " (prose(string(resolve(document, response), "description"))) }
                }
            }
        }
    }
}

/// Returns the target of a `$ref`, or the value.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value.get("$ref").and_then(Value::as_str);
    let found = target.and_then(|target| document.pointer(target.trim_start_matches('#')));
    found.unwrap_or(value)
}

/// Renders a description, with text between backticks as code.
fn prose(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

fn members<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    of.pointer(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn string<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or("")
}
