//! Programs of others that are written in Python, where `scripts/setup` puts them.

use std::path::{Path, PathBuf};

/// Returns where a program of `.venv` is.
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
