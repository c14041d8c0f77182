//! The checks that only the whole repository can show.

mod tidy;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

/// Work on the repository itself.
#[derive(Debug, Parser)]
enum Xtask {
    /// Check the rules that no linter knows.
    Tidy,
}

#[expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command prints what it found"
)]
fn main() -> ExitCode {
    let Xtask::Tidy = Xtask::parse();
    // Cargo says it at run time too: the program may have been built in another checkout, where they
    // share a target directory.
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&manifest).parent().unwrap_or(Path::new("."));
    match tidy::check(root) {
        Ok(found) if found.is_empty() => {
            println!("tidy: nothing to say");
            ExitCode::SUCCESS
        }
        Ok(found) => {
            for it in found {
                eprintln!("tidy: {it}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
