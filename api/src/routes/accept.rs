//! Whether a client would rather have a page than JSON.

use axum::http::{HeaderMap, header};

/// Returns whether a client names `text/html` and prefers it to JSON, as browsers do. One that takes
/// anything, such as curl, does not.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let text: Vec<&str> = values.filter_map(|it| it.to_str().ok()).collect();
    let text = text.join(",").to_ascii_lowercase();
    let weight = |named: &str| {
        let of_range = |range: &str| {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let weight = parameters.rsplit_once("q=").map_or("1", |it| it.1);
            (name.trim() == named).then(|| weight.trim().parse().unwrap_or(1.0))
        };
        text.split(',').filter_map(of_range).reduce(f32::max)
    };
    // Naming HTML, and JSON only among everything else, is a preference too.
    let others = || weight("application/*").or_else(|| weight("*/*"));
    match (weight("text/html"), weight("application/json")) {
        (None, _) => false,
        (Some(html), Some(json)) => html > json,
        (Some(html), None) => html > 0.0 && html >= others().unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_named_and_preferred_then_a_page() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, is_page) in [
            (browser, true),
            ("Text/HTML; charset=utf-8", true),
            ("text/html, */*", true),
            ("application/json;q=0.8, text/html;level=1; q=0.9", true),
            ("*/*", false),
            ("", false),
            ("text/*", false),
            ("application/json, text/plain, */*", false),
            ("text/html, application/json", false),
            ("text/html;q=0.5, application/*;q=0.6", false),
            ("text/html;q=0", false),
            ("text/htmlx", false),
        ] {
            let headers = [(header::ACCEPT, accept.parse().unwrap())];
            assert_eq!(
                prefers_html(&headers.into_iter().collect()),
                is_page,
                "{accept}"
            );
        }
    }
}
