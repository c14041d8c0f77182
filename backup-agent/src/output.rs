//! Output: data on standard output, progress on standard error.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::Error;

/// Prints one line of data.
pub(crate) fn line(text: &str) {
    // The reader may have closed the pipe (`| head`), which is no error.
    drop(writeln!(io::stdout(), "{text}"));
}

/// Prints data as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value);
    line(&text.map_err(|_| Error::Internal("the result cannot be written as JSON"))?);
    Ok(())
}

/// Prints progress.
pub(crate) fn print_progress(text: &str) {
    // An error of writing to standard error, such as a log on a full disk, cannot be reported, and
    // does not change the exit code.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Prints an error and its remedy.
pub(crate) fn print_error(error: &str, hint: Option<&str>) {
    print_progress(&format!("backup-agent: {error}"));
    if let Some(hint) = hint {
        print_progress(&format!("hint: {hint}"));
    }
}

/// Prints a usage error, or the requested help.
pub(crate) fn usage(error: &clap::Error) {
    // An error of writing to standard error cannot be reported.
    drop(error.print());
}
