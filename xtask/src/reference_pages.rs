//! `docs/reference/cli-*.md`, man pages and completions, as the programs write them.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, ensure};

/// Programs that have a reference.
const PROGRAMS: [&str; 4] = ["api", "backup-agent", "failover-ctl", "lab"];

/// Writes the generated pages of `docs/reference`, or returns those that are stale. Man pages and
/// completions are not committed: they are written to `target/reference`.
///
/// # Errors
///
/// When a program cannot be built or run, or a page cannot be written.
pub(crate) fn generate(root: &Path, check: bool) -> anyhow::Result<Vec<String>> {
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let build = ["build", "--quiet", "--workspace", "--bins"];
    let status = Command::new(cargo).current_dir(root).args(build).status()?;
    ensure!(status.success(), "the programs could not be built");
    let xtask = env::current_exe()?;
    let programs = xtask.parent().context("xtask is in no directory")?;
    let output = programs.with_file_name("reference");
    let mut findings = Vec::new();
    for name in PROGRAMS {
        // Without the environment, because help shows the values of variables.
        let status = Command::new(programs.join(name))
            .env_clear()
            .arg("reference")
            .arg(&output)
            .status()
            .with_context(|| format!("`{name}` could not be started"))?;
        ensure!(status.success(), "`{name} reference` failed");
        let page = format!("cli-{name}.md");
        let generated = fs::read_to_string(output.join(&page))?;
        let committed = root.join("docs/reference").join(&page);
        if fs::read_to_string(&committed).is_ok_and(|text| text == generated) {
            continue;
        }
        if check {
            findings.push(format!(
                "docs/reference/{page} is stale: run `cargo xtask gen`"
            ));
        } else {
            fs::write(committed, generated)?;
        }
    }
    Ok(findings)
}
