//! `cargo xtask`: repository-wide checks and generated references.

mod reference_pages;
mod source;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

/// Work on the repository itself.
#[derive(Debug, Parser)]
enum Xtask {
    /// Check the rules that no linter checks.
    Tidy,
    /// Write the generated pages of `docs/reference`, man pages and completions.
    Gen {
        /// Only check that the pages are up to date.
        #[arg(long)]
        check: bool,
    },
}

#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command prints its result"
)]
fn main() -> ExitCode {
    // Cargo sets the variable at run time too: checkouts that share a target directory share the program.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&manifest).parent().unwrap_or(Path::new("."));
    let findings = match Xtask::parse() {
        Xtask::Tidy => tidy::check(root),
        Xtask::Gen { check } => reference_pages::generate(root, check),
    };
    match findings {
        Ok(findings) if findings.is_empty() => {
            println!("xtask: no findings");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for finding in findings {
                eprintln!("xtask: {finding}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
