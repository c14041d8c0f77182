//! Type names that are unique in the workspace, so that a search for one ends in one file.

use std::collections::BTreeMap;

use proc_macro2::Delimiter;

use crate::source::{SourceFile, Token};

/// Names that each crate may use once.
const ONCE_PER_CRATE: [&str; 6] = ["Error", "Config", "Client", "Cli", "Command", "Metrics"];

/// Names that several files still declare. Names leave this list; none joins it.
const NOT_YET_UNIQUE: [&str; 75] = [
    "Acknowledged",
    "Act",
    "Answer",
    "Asked",
    "Backup",
    "Bucket",
    "Cache",
    "Candidate",
    "Claim",
    "Clear",
    "Condition",
    "Connection",
    "Connections",
    "Database",
    "Directory",
    "Edge",
    "Ended",
    "Entry",
    "Event",
    "Failure",
    "Found",
    "Held",
    "History",
    "Identity",
    "Kind",
    "Known",
    "Lane",
    "Layout",
    "Limits",
    "Look",
    "Lsn",
    "Name",
    "Options",
    "Order",
    "Outcome",
    "Page",
    "Path",
    "Place",
    "Plan",
    "Primary",
    "Problem",
    "Progress",
    "Promise",
    "Property",
    "Records",
    "Redis",
    "Refusal",
    "Rejoin",
    "Report",
    "Request",
    "Restore",
    "Row",
    "Run",
    "Scope",
    "Server",
    "Service",
    "Settings",
    "Shared",
    "Shown",
    "Source",
    "Span",
    "Standing",
    "State",
    "Stated",
    "Step",
    "Store",
    "StoreError",
    "Stored",
    "Target",
    "Unreadable",
    "Unusable",
    "Verdict",
    "View",
    "Violation",
    "Written",
];

/// Checks the `pub` and `pub(…)` types of every crate's `src`.
pub(super) fn check(files: &[SourceFile], findings: &mut Vec<String>) {
    let mut declarations: BTreeMap<&str, Vec<&SourceFile>> = BTreeMap::new();
    for file in files {
        if file.path.split('/').nth(1) == Some("src") {
            for name in public_types(&file.tokens) {
                declarations.entry(name).or_default().push(file);
            }
        }
    }
    for (name, mut files) in declarations {
        let paths = files
            .iter()
            .map(|file| file.path.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let all = files.len();
        if ONCE_PER_CRATE.contains(&name) {
            files.dedup_by_key(|file| file.crate_name().to_owned());
        }
        let unique = if ONCE_PER_CRATE.contains(&name) {
            files.len() == all
        } else {
            all == 1
        };
        if !unique && !NOT_YET_UNIQUE.contains(&name) {
            findings.push(format!("`{name}` is declared in {paths}"));
        }
    }
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
