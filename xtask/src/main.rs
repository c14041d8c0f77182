//! `cargo xtask`: repository-wide checks and generated references.

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
}

#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command prints its result"
)]
fn main() -> ExitCode {
    let Xtask::Tidy = Xtask::parse();
    // Cargo sets the variable at run time too: checkouts that share a target directory share the program.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&manifest).parent().unwrap_or(Path::new("."));
    match tidy::check(root) {
        Ok(findings) if findings.is_empty() => {
            println!("tidy: no findings");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for finding in findings {
                eprintln!("tidy: {finding}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
