//! Rules for each Rust file: opening line, name, length, ignored tests.

use crate::source::SourceFile;

/// Names that say nothing about the contents.
const MEANINGLESS_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "types"];

/// At most one file in ten is longer.
const USUAL_MAX_LINES: usize = 400;

/// No file is longer.
const MAX_LINES: usize = 700;

/// The only file that names the crate of the backoff.
const RETRY_MODULE: &str = "causeway-runtime/src/retry.rs";

/// Path into that crate, in two parts so that this line is not one.
const BACKOFF: &str = concat!("backoff", "::");

/// Marker of a test that does not run, in two parts so that this line is not one.
const IGNORED: &str = concat!("#[", "ignore");

/// Checks every Rust file.
pub(super) fn check(files: &[SourceFile], findings: &mut Vec<String>) {
    let mut count = 0;
    let mut long = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let path = &file.path;
        if !file.text.starts_with("//!") {
            findings.push(format!("{path} does not start with `//! …`"));
        }
        if MEANINGLESS_NAMES.contains(&file.stem()) {
            findings.push(format!("{path} is not named for its contents"));
        }
        if file.text.contains(IGNORED) {
            findings.push(format!("{path} has an ignored test: run it, or delete it"));
        }
        if file.text.contains(BACKOFF) && path != RETRY_MODULE {
            findings.push(format!(
                "{path} names the crate `backoff`: use `causeway_runtime::retry`"
            ));
        }
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            findings.push(format!("{path} has {lines} lines, more than {MAX_LINES}"));
        }
        count += 1;
        if lines > USUAL_MAX_LINES {
            long.push((lines, path.as_str()));
        }
    }
    if long.len() > count / 10 {
        long.sort_unstable();
        let (lines, longest) = long.last().copied().unwrap_or((0, ""));
        findings.push(format!(
            "{} of {count} Rust files have more than {USUAL_MAX_LINES} lines, at most one in ten may; \
             the longest is {longest} with {lines}",
            long.len()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::files;
    use super::{BACKOFF, IGNORED, RETRY_MODULE, check};

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&files([(path, text)]), &mut findings);
        findings
    }

    #[test]
    fn ordinary_file_then_no_finding() {
        assert_eq!(findings("api/src/a.rs", "//! A.\n"), [""; 0]);
    }

    #[test]
    fn no_opening_line_then_found() {
        let found = findings("api/src/a.rs", "use std::fs;\n");
        assert_eq!(found, ["api/src/a.rs does not start with `//! …`"]);
    }

    #[test]
    fn meaningless_name_then_found() {
        let found = findings("api/src/utils.rs", "//! Utils.\n");
        assert_eq!(found, ["api/src/utils.rs is not named for its contents"]);
    }

    #[test]
    fn ignored_test_then_found() {
        let found = findings(
            "api/src/a.rs",
            &format!("//! A.\n{IGNORED}]\nfn a() {{}}\n"),
        );
        assert_eq!(
            found,
            ["api/src/a.rs has an ignored test: run it, or delete it"]
        );
    }

    #[test]
    fn backoff_named_outside_of_retry_then_found() {
        let text = format!("//! A.\nuse {BACKOFF}ExponentialBackoff;\n");
        assert_eq!(findings(RETRY_MODULE, &text), [""; 0]);
        assert_eq!(
            findings("api/src/a.rs", &text),
            ["api/src/a.rs names the crate `backoff`: use `causeway_runtime::retry`"]
        );
    }

    #[test]
    fn more_than_one_file_in_ten_long_then_found() {
        let found = findings("api/src/a.rs", &"//! A.\n".repeat(401));
        assert_eq!(
            found,
            [
                "1 of 1 Rust files have more than 400 lines, at most one in ten may; \
              the longest is api/src/a.rs with 401"
            ]
        );
    }

    #[test]
    fn very_long_file_then_found() {
        let found = findings("api/src/a.rs", &"//! A.\n".repeat(701));
        assert_eq!(
            found.first().map(String::as_str),
            Some("api/src/a.rs has 701 lines, more than 700")
        );
    }
}
