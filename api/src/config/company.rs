//! The company whose service this is.

use axum::http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::environment::Environment;

/// The company whose service this is.
#[derive(Clone, Debug)]
pub struct Company {
    /// Its name.
    pub name: String,
    /// Its name as the `X-Company-Name` header carries it.
    pub header: HeaderValue,
}

pub(super) fn read(environment: &Environment) -> Company {
    // Encoded is what a header cannot carry, what a page could take for markup, and the plus, which
    // some decoders take for a space. A space itself is not: it means the same to all of them, and a
    // person reads the name.
    const ENCODED: &AsciiSet = &CONTROLS.add(b'%').add(b'+').add(b'<').add(b'>').add(b'"');
    let name = environment
        .first("COMPANY_NAME")
        .map_or_else(|| "My Company".to_owned(), |it| it.value);
    let encoded = utf8_percent_encode(&name, ENCODED).to_string();
    // What is percent-encoded is ASCII, and so a header value whatever the name was.
    let header = HeaderValue::try_from(encoded)
        .unwrap_or_else(|_never| HeaderValue::from_static("My Company"));
    Company { name, header }
}
