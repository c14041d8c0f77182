//! Whether a client would rather have a page than JSON.

use axum::http::{HeaderMap, header};

/// Returns whether a client names `text/html` and prefers it to JSON, as browsers do. One that takes
/// anything, such as curl, does not.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let ranges: Vec<(String, f32)> = values
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .map(range)
        .collect();
    let weight = |named: &str| {
        let found = ranges.iter().filter(|(name, _)| name == named);
        found.map(|(_, weight)| *weight).reduce(f32::max)
    };
    let Some(html) = weight("text/html") else {
        return false;
    };
    let any = || weight("application/*").or_else(|| weight("*/*"));
    match weight("application/json") {
        Some(json) => html > json,
        // Naming HTML, and JSON only among everything else, is a preference too.
        None => html > 0.0 && html >= any().unwrap_or(0.0),
    }
}

/// Reads one range and its weight, from 0 to 1. A weight that cannot be read counts as none given.
fn range(text: &str) -> (String, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let weight = parts.find_map(|it| {
        let (key, value) = it.split_once('=')?;
        key.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let weight = weight.and_then(|it| it.parse().ok());
    (
        name,
        weight.filter(|it| (0.0..=1.0).contains(it)).unwrap_or(1.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefers(accept: &str) -> bool {
        let mut headers = HeaderMap::new();
        for value in accept.split('|') {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        prefers_html(&headers)
    }

    #[test]
    fn browsers_get_a_page() {
        for accept in [
            "text/html",
            "Text/HTML; charset=utf-8",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
            "text/html, */*",
            "*/*;q=0.1|text/html;q=0.5",
            "application/json;q=0.8, text/html;level=1; q=0.9",
        ] {
            assert!(prefers(accept), "{accept}");
        }
    }

    #[test]
    fn programs_get_json() {
        assert!(!prefers_html(&HeaderMap::new()));
        for accept in [
            "*/*",
            "",
            "text/*",
            "application/json",
            "application/json, text/plain, */*",
            "text/html, application/json",
            "text/html;q=0.5, */*",
            "text/html;q=0.5, application/*;q=0.6",
            "text/html;q=0",
            "text/html;q=0.0, image/png",
            "text/htmlx",
        ] {
            assert!(!prefers(accept), "{accept}");
        }
    }
}
