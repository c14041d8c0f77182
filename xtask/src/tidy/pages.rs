//! Rules for the pages of `docs/`: links, file names, exit codes.

use std::path::Path;

use super::find;
use crate::source::{SourceFile, has_extension};

/// Checks every page.
pub(super) fn check(root: &Path, files: &[SourceFile], findings: &mut Vec<String>) {
    for file in files {
        if has_extension(&file.path, "md") {
            check_links(root, file, findings);
        }
        if file.path.starts_with("docs/runbooks") && !is_kebab_case(file.stem()) {
            findings.push(format!("{} is not in kebab case", file.path));
        }
    }
    check_exit_codes(files, findings);
}

/// Checks that every relative link leads to a file.
fn check_links(root: &Path, file: &SourceFile, findings: &mut Vec<String>) {
    let page = root.join(&file.path);
    let folder = page.parent().unwrap_or(root);
    for rest in file.text.split("](").skip(1) {
        let Some((target, _)) = rest.split_once(')') else {
            continue;
        };
        let path = target.split('#').next().unwrap_or("");
        let elsewhere = path.contains("://") || path.starts_with("mailto:");
        if path.is_empty() || elsewhere || path.contains(' ') {
            continue;
        }
        if !folder.join(path).exists() {
            findings.push(format!("{}: broken link to `{target}`", file.path));
        }
    }
}

/// Checks that the reference lists every exit code of the programs that declare theirs.
fn check_exit_codes(files: &[SourceFile], findings: &mut Vec<String>) {
    const PAGE: &str = "docs/reference/exit-codes.md";
    let page = find(files, PAGE).map_or("", |page| page.text.as_str());
    for program in ["failover-ctl", "backup-agent"] {
        let heading = format!("\n## {program}\n");
        let section = page.split(&heading).nth(1).unwrap_or("");
        let section = section.split("\n## ").next().unwrap_or("");
        let path = format!("{program}/src/error.rs");
        let codes = find(files, &path).map_or(Vec::new(), |file| exit_codes(&file.text));
        if codes.is_empty() {
            findings.push(format!("{path}: no exit codes found"));
        }
        for code in codes {
            if !section.contains(&format!("| {code} |")) {
                findings.push(format!("{PAGE} lacks exit code {code} of {program}"));
            }
        }
    }
}

/// Returns the numbers in the arms of `fn exit_code`.
fn exit_codes(source: &str) -> Vec<u8> {
    let body = source
        .split("fn exit_code")
        .nth(1)
        .and_then(|rest| rest.split("\n    }\n").next())
        .unwrap_or("");
    body.lines()
        .filter_map(|line| {
            line.split("=> ")
                .nth(1)?
                .trim_end_matches(',')
                .trim()
                .parse()
                .ok()
        })
        .collect()
}

fn is_kebab_case(stem: &str) -> bool {
    stem.chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::planted::files;
    use super::check;

    const SOURCE: &str =
        "impl E {\n    fn exit_code() {\nSelf::A => 3,\n    }\n    fn b() {\n=> 4,\n    }\n}";
    const CODES: &str = "\n## failover-ctl\n| 3 | a |\n## backup-agent\n| 3 | b |";

    fn findings(page: &str, text: &str) -> Vec<String> {
        findings_with_codes(CODES, page, text)
    }

    fn findings_with_codes(codes: &str, page: &str, text: &str) -> Vec<String> {
        let files = files([
            ("failover-ctl/src/error.rs", SOURCE),
            ("backup-agent/src/error.rs", SOURCE),
            ("docs/reference/exit-codes.md", codes),
            (page, text),
        ]);
        let mut findings = Vec::new();
        check(Path::new(env!("CARGO_MANIFEST_DIR")), &files, &mut findings);
        findings
    }

    #[test]
    fn links_that_resolve_then_no_finding() {
        let text = "[a](Cargo.toml) [b](https://example.com/x) [c](#here)";
        assert_eq!(findings("a.md", text), [""; 0]);
    }

    #[test]
    fn broken_link_then_found() {
        let found = findings("a.md", "[a](nowhere.md#there)");
        assert_eq!(found, ["a.md: broken link to `nowhere.md#there`"]);
    }

    #[test]
    fn runbook_in_snake_case_then_found() {
        let found = findings("docs/runbooks/lease_expired.md", "");
        assert_eq!(
            found,
            ["docs/runbooks/lease_expired.md is not in kebab case"]
        );
    }

    #[test]
    fn exit_code_missing_in_its_programs_section_then_found() {
        let codes = "\n## failover-ctl\n| 3 | a |\n## backup-agent\n| 4 | b |";
        assert_eq!(
            findings_with_codes(codes, "a.md", ""),
            ["docs/reference/exit-codes.md lacks exit code 3 of backup-agent"]
        );
    }
}
