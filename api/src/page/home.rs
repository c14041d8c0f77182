//! The page at `/`, for a person who has found the service and wonders what it is.

use maud::html;

use super::Page;

/// Returns the page of this company's service.
pub(crate) fn home(company: &str, surfaces: &[&str]) -> Page {
    let body = html! {
        main {
            h1 { (company) }
            p { "The API runs." }
            nav aria-label="Service" {
                ul {
                    li { a href="/docs" { "What it can do" } }
                    li { a href="/openapi.json" { "The same for programs" } }
                    li { a href="/info" { "How it is set" } }
                    li { a href="/readyz" { "How it is" } }
                    li { a href="/problems" { "What can go wrong" } }
                }
            }
            p.quiet { "It serves " (surfaces.join(", ")) ". A program that asks for JSON here gets it." }
        }
    };
    Page::new(company, &body, "")
}
