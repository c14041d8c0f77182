//! Third-party Python programs, installed by `scripts/setup`.

use std::path::{Path, PathBuf};

/// Returns the path of a program in `.venv`.
pub(crate) fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("CAUSEWAY_VENV").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv"),
        PathBuf::from,
    );
    let program = folder.join("bin").join(name);
    assert!(
        program.exists(),
        "`{}` is missing: run `make setup`, or name a Python environment in `CAUSEWAY_VENV`",
        program.display()
    );
    program
}
