//! What no linter knows: which crate may use which, what must be in the reference, what must not be
//! anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The crates, lowest first. A crate uses what stands before it, and `lab` and `xtask` start programs
/// instead of using them.
const LAYERS: [(&str, &[&str]); 7] = [
    ("causeway-core", &[]),
    ("causeway-runtime", &["causeway-core"]),
    ("api", &["causeway-core", "causeway-runtime"]),
    ("failover-ctl", &["causeway-core", "causeway-runtime"]),
    ("backup-agent", &["causeway-core", "causeway-runtime"]),
    ("lab", &["causeway-core", "causeway-runtime"]),
    ("xtask", &[]),
];

/// Names of files and modules that say nothing of what is in them.
const NAMELESS: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "types"];

/// A file above this length is two ideas, or one that should be looked at again.
const LONGEST: usize = 700;

/// How a test that is not run is marked; in two parts, so that this line is not one.
const IGNORED: &str = concat!("#[", "ignore");

/// Returns what is not as it should be.
///
/// # Errors
///
/// When the repository cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = tracked(root)?;
    let mut found = Vec::new();
    layers(root, &mut found)?;
    for file in &files {
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue; // Not text.
        };
        match file.extension().and_then(|it| it.to_str()) {
            Some("rs") => source(file, &text, &mut found),
            Some("md") => links(root, file, &text, &mut found),
            _ => {}
        }
    }
    exit_codes(root, &mut found)?;
    runbooks_are_named(&files, &mut found);
    Ok(found)
}

fn tracked(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listing = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z"])
        .output()?;
    ensure!(listing.status.success(), "git could not list the files");
    let text = String::from_utf8(listing.stdout).context("a file name is not UTF-8")?;
    Ok(text
        .split('\0')
        .filter(|it| !it.is_empty())
        .map(PathBuf::from)
        .collect())
}

fn layers(root: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
    let crates: BTreeSet<&str> = LAYERS.iter().map(|it| it.0).collect();
    for (name, below) in LAYERS {
        let path = root.join(name).join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
        let manifest: toml::Table = text.parse()?;
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let used = manifest.get(section).and_then(toml::Value::as_table);
            for it in used.into_iter().flat_map(toml::Table::keys) {
                if crates.contains(it.as_str()) && !below.contains(&it.as_str()) {
                    found.push(format!(
                        "{name}/Cargo.toml uses `{it}`, which is not below it"
                    ));
                }
            }
        }
    }
    Ok(())
}

fn source(file: &Path, text: &str, found: &mut Vec<String>) {
    let shown = file.display();
    if !text.starts_with("//!") {
        found.push(format!(
            "{shown} does not open with the idea it holds (`//! …`)"
        ));
    }
    let stem = file
        .file_stem()
        .and_then(|it| it.to_str())
        .unwrap_or_default();
    if NAMELESS.contains(&stem) {
        found.push(format!(
            "{shown} is named for nothing: name it for the idea it holds"
        ));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        found.push(format!(
            "{shown} has {lines} lines, more than {LONGEST}: is it two ideas?"
        ));
    }
    if text.contains(IGNORED) {
        found.push(format!("{shown} has an ignored test: run it, or delete it"));
    }
}

/// Every relative link leads somewhere.
fn links(root: &Path, file: &Path, text: &str, found: &mut Vec<String>) {
    let here = root.join(file);
    let folder = here.parent().unwrap_or(root);
    for rest in text.split("](").skip(1) {
        let Some((target, _)) = rest.split_once(')') else {
            continue;
        };
        let path = target.split('#').next().unwrap_or_default();
        if path.is_empty()
            || path.contains("://")
            || path.starts_with("mailto:")
            || path.contains(' ')
        {
            continue;
        }
        if !folder.join(path).exists() {
            found.push(format!(
                "{}: the link to `{target}` leads nowhere",
                file.display()
            ));
        }
    }
}

/// Every exit code of `failover-ctl` is in the reference.
fn exit_codes(root: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
    let page = fs::read_to_string(root.join("docs/reference/exit-codes.md"))
        .context("no docs/reference/exit-codes.md")?;
    let source = fs::read_to_string(root.join("failover-ctl/src/error.rs"))?;
    let body = source
        .split("fn exit_code")
        .nth(1)
        .and_then(|it| it.split("fn hint").next());
    let codes = body.unwrap_or_default().lines().filter_map(|line| {
        line.split("=> ")
            .nth(1)?
            .trim_end_matches(',')
            .trim()
            .parse::<u8>()
            .ok()
    });
    let mut any = false;
    for code in codes {
        any = true;
        if !page.contains(&format!("| {code} |")) {
            found.push(format!(
                "docs/reference/exit-codes.md lacks exit code {code} of failover-ctl"
            ));
        }
    }
    if !any {
        found.push(
            "failover-ctl/src/error.rs: no exit codes were found, so this check is blind"
                .to_owned(),
        );
    }
    Ok(())
}

/// A runbook is named like its alert, in kebab case.
fn runbooks_are_named(files: &[PathBuf], found: &mut Vec<String>) {
    for file in files.iter().filter(|it| it.starts_with("docs/runbooks")) {
        let stem = file
            .file_stem()
            .and_then(|it| it.to_str())
            .unwrap_or_default();
        let kebab = stem
            .chars()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-');
        if !kebab {
            found.push(format!("{} is not in kebab case", file.display()));
        }
    }
}
