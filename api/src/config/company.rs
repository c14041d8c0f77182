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

#[cfg(test)]
mod tests {
    use super::super::environment::from;
    use super::*;

    #[test]
    fn the_company_fits_into_a_header_whatever_its_name() {
        let company = |name| read(&from(&[("COMPANY_NAME", name)]));
        for (name, header) in [
            ("Smith & Sons", "Smith & Sons"),
            ("Bäcker\r\nX: y", "B%C3%A4cker%0D%0AX: y"),
            ("<b>1 + 1</b>", "%3Cb%3E1 %2B 1%3C/b%3E"),
            (" ", "My Company"),
        ] {
            assert_eq!(company(name).header, header, "{name:?}");
        }
        assert_eq!(company("Bäcker").name, "Bäcker");
    }
}
