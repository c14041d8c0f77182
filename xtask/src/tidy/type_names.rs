//! Type names that are unique in the workspace, so that a search for one ends in one file.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::Delimiter;

use crate::source::{SourceFile, Token};

/// Names that each crate may use once.
const ONCE_PER_CRATE: [&str; 6] = ["Error", "Config", "Client", "Cli", "Command", "Metrics"];

/// Checks the `pub` and `pub(…)` types of every crate's `src`.
pub(super) fn check(files: &[SourceFile], findings: &mut Vec<String>) {
    for (name, paths) in duplicates(files) {
        let paths = paths.join(", ");
        findings.push(format!("`{name}` is declared in {paths}"));
    }
}

/// Returns the names that several files declare, with the files.
fn duplicates(files: &[SourceFile]) -> BTreeMap<&str, Vec<&str>> {
    let mut declarations: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        if file.path.split('/').nth(1) == Some("src") {
            for name in public_types(&file.tokens) {
                declarations.entry(name).or_default().push(&file.path);
            }
        }
    }
    declarations.retain(|name, paths| {
        if ONCE_PER_CRATE.contains(name) {
            let crates: BTreeSet<_> = paths.iter().map(|path| path.split('/').next()).collect();
            paths.len() > crates.len()
        } else {
            paths.len() > 1
        }
    });
    declarations
}

/// Returns the names of the types that other files can use.
fn public_types(tokens: &[Token]) -> impl Iterator<Item = &str> {
    tokens.iter().enumerate().filter_map(|(index, token)| {
        if token.ident() != Some("pub") {
            return None;
        }
        let mut rest = tokens.get(index + 1..)?;
        if rest.first() == Some(&Token::Open(Delimiter::Parenthesis)) {
            let close = Token::Close(Delimiter::Parenthesis);
            let end = rest.iter().position(|token| *token == close)?;
            rest = rest.get(end + 1..)?;
        }
        match rest.first()?.ident()? {
            "struct" | "enum" | "trait" | "type" | "union" => rest.get(1)?.ident(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::planted::files;
    use super::check;

    fn findings(first: (&str, &str), second: (&str, &str)) -> Vec<String> {
        let mut findings = Vec::new();
        check(&files([first, second]), &mut findings);
        findings
    }

    #[test]
    fn type_declared_in_two_crates_then_found() {
        let found = findings(
            ("api/src/a.rs", "pub(crate) struct Lease;"),
            ("lab/src/b.rs", "pub enum Lease {}"),
        );
        assert_eq!(found, ["`Lease` is declared in api/src/a.rs, lab/src/b.rs"]);
    }

    #[test]
    fn private_type_or_test_then_no_finding() {
        let found = findings(
            ("api/src/a.rs", "pub(crate) struct Lease; struct Row;"),
            ("api/tests/b.rs", "pub struct Lease; pub struct Row;"),
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn error_in_two_crates_then_no_finding() {
        let found = findings(
            ("api/src/a.rs", "pub(crate) enum Error {}"),
            ("lab/src/b.rs", "pub(crate) enum Error {}"),
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn error_twice_in_one_crate_then_found() {
        let found = findings(
            ("api/src/a.rs", "pub(crate) enum Error {}"),
            ("api/src/b.rs", "pub(super) enum Error {}"),
        );
        assert_eq!(found, ["`Error` is declared in api/src/a.rs, api/src/b.rs"]);
    }
}
