//! `Cargo.toml` files: layers of crates, and dependencies that are used.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;

use super::find;
use crate::source::SourceFile;

/// The crates, lowest first, with the crates that each may use. `lab` and `xtask` start programs instead
/// of using them.
const LAYERS: [(&str, &[&str]); 7] = [
    ("causeway-core", &[]),
    ("causeway-runtime", &["causeway-core"]),
    ("api", &["causeway-core", "causeway-runtime"]),
    ("failover-ctl", &["causeway-core", "causeway-runtime"]),
    ("backup-agent", &["causeway-core", "causeway-runtime"]),
    ("lab", &["causeway-core", "causeway-runtime"]),
    ("xtask", &[]),
];

const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Checks every crate's manifest and the workspace's.
pub(super) fn check(files: &[SourceFile], findings: &mut Vec<String>) -> anyhow::Result<()> {
    let workspace = parse(files, "Cargo.toml")?;
    let mut members = BTreeMap::new();
    for member in array(&workspace, "members") {
        members.insert(member, parse(files, &format!("{member}/Cargo.toml"))?);
    }
    let listed: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    for (name, manifest) in &members {
        if !listed.contains(name) {
            findings.push(format!("`{name}` has no place in `LAYERS` of xtask"));
        }
        for section in SECTIONS {
            for dependency in keys(manifest.get(section)) {
                check_dependency(files, name, section, dependency, findings);
            }
        }
    }
    let table = workspace
        .get("workspace")
        .and_then(|table| table.get("dependencies"));
    for dependency in keys(table) {
        let used = members.values().any(|manifest| {
            SECTIONS
                .iter()
                .any(|section| keys(manifest.get(*section)).any(|key| key == dependency))
        });
        if !used {
            findings.push(format!("Cargo.toml: no crate uses `{dependency}`"));
        }
    }
    Ok(())
}

/// Checks that a crate may use a dependency, and that its sources name it.
fn check_dependency(
    files: &[SourceFile],
    crate_name: &str,
    section: &str,
    dependency: &str,
    findings: &mut Vec<String>,
) {
    let forbidden = LAYERS.iter().any(|(name, _)| *name == dependency)
        && !LAYERS
            .iter()
            .any(|(name, below)| *name == crate_name && below.contains(&dependency));
    if forbidden {
        findings.push(format!(
            "{crate_name}/Cargo.toml uses `{dependency}`, which is not below it"
        ));
    }
    // A dependency that only tests use belongs into `dev-dependencies`.
    let folder = match section {
        "dependencies" => format!("{crate_name}/src/"),
        _ => format!("{crate_name}/"),
    };
    let identifier = dependency.replace('-', "_");
    let used = files
        .iter()
        .filter(|file| file.path.starts_with(&folder))
        .flat_map(|file| &file.tokens)
        .any(|token| token.ident() == Some(&identifier));
    if !used {
        findings.push(format!(
            "{crate_name}/Cargo.toml: `{dependency}` of [{section}] is not used in {folder}"
        ));
    }
}

fn parse(files: &[SourceFile], path: &str) -> anyhow::Result<toml::Table> {
    let file = find(files, path).with_context(|| format!("{path} is not tracked"))?;
    file.text
        .parse()
        .with_context(|| format!("{path} is not TOML"))
}

fn array<'a>(manifest: &'a toml::Table, key: &str) -> impl Iterator<Item = &'a str> {
    manifest
        .get("workspace")
        .and_then(|table| table.get(key))
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
}

fn keys(table: Option<&toml::Value>) -> impl Iterator<Item = &str> {
    table
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(toml::Table::keys)
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::planted::files;
    use super::check;

    fn findings(dependencies: &str, source: &str) -> Vec<String> {
        let root = "[workspace]\nmembers = [\"causeway-runtime\"]\n[workspace.dependencies]\ntokio = \"1\"\n";
        let manifest = format!("[dependencies]\n{dependencies}");
        let files = files([
            ("Cargo.toml", root),
            ("causeway-runtime/Cargo.toml", &manifest),
            ("causeway-runtime/src/lib.rs", source),
        ]);
        let mut findings = Vec::new();
        let result = check(&files, &mut findings);
        assert!(result.is_ok(), "{result:?}");
        findings
    }

    #[test]
    fn dependency_used_then_no_finding() {
        let found = findings(
            "tokio.workspace = true",
            "async fn wait() { tokio::join!() }",
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn dependency_named_only_in_comment_then_unused() {
        let found = findings("tokio.workspace = true", "// tokio::spawn is banned");
        assert_eq!(
            found,
            [
                "causeway-runtime/Cargo.toml: `tokio` of [dependencies] is not used in causeway-runtime/src/"
            ]
        );
    }

    #[test]
    fn workspace_dependency_without_crate_then_unused() {
        let found = findings("", "");
        assert_eq!(found, ["Cargo.toml: no crate uses `tokio`"]);
    }

    #[test]
    fn crate_above_used_then_layer_violated() {
        let found = findings(
            "tokio.workspace = true\napi.workspace = true",
            "use tokio::sync; use api::run;",
        );
        assert_eq!(
            found,
            ["causeway-runtime/Cargo.toml uses `api`, which is not below it"]
        );
    }
}
