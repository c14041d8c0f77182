//! Rules for the pages of `docs/`: links, file names, examples of settings.

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
        if file.path.starts_with("docs/examples/") {
            check_example(files, file, findings);
        }
    }
}

/// Checks that the example of a settings file has each key of the reference, set or commented out.
fn check_example(files: &[SourceFile], example: &SourceFile, findings: &mut Vec<String>) {
    let reference = format!("docs/reference/settings-{}.md", example.stem());
    let rows = find(files, &reference).map_or("", |page| page.text.as_str());
    for row in rows.lines() {
        let Some((key, _)) = row
            .strip_prefix("| `")
            .and_then(|rest| rest.split_once('`'))
        else {
            continue;
        };
        let is_shown = example.text.lines().any(|line| {
            let line = line.trim_start_matches('#');
            line.starts_with(&format!("{key} =")) || line.contains(&format!(".{key}]"))
        });
        if !is_shown {
            findings.push(format!("{} lacks `{key}`", example.path));
        }
    }
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

fn is_kebab_case(stem: &str) -> bool {
    stem.chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::planted::files;
    use super::check;

    fn findings(page: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        check(root, &files([(page, text)]), &mut findings);
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
    fn key_missing_in_the_example_then_found() {
        let files = files([
            (
                "docs/reference/settings-a.md",
                "| `set` |\n| `off` |\n| `table` |\n| `lost` |\n",
            ),
            (
                "docs/examples/a.toml",
                "set = 1\n#off = 2\n[b.table]\n# lost = 3\n",
            ),
        ]);
        let mut findings = Vec::new();
        check(Path::new("."), &files, &mut findings);
        assert_eq!(findings, ["docs/examples/a.toml lacks `lost`"]);
    }

    #[test]
    fn runbook_in_snake_case_then_found() {
        let found = findings("docs/runbooks/lease_expired.md", "");
        assert_eq!(
            found,
            ["docs/runbooks/lease_expired.md is not in kebab case"]
        );
    }
}
