//! What people and scripts see: data on standard output, narration on standard error.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::Error;

/// Prints one line of data.
pub(crate) fn line(text: &str) {
    // Whoever reads may have had enough (`| head`): what was done was done.
    drop(writeln!(io::stdout(), "{text}"));
}

/// Prints data as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value);
    line(&text.map_err(|_| Error::Internal("the answer cannot be written as JSON"))?);
    Ok(())
}

/// Says what is about to be done, or how far it is.
pub(crate) fn narrate(text: &str) {
    // There is nowhere to report that standard error cannot be written, as with a log on a full disk,
    // and no reason to end with another code for it.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Says what went wrong, and what can be done.
pub(crate) fn complain(error: &str, hint: Option<&str>) {
    narrate(&format!("backup-agent: {error}"));
    if let Some(hint) = hint {
        narrate(&format!("hint: {hint}"));
    }
}

/// Prints why the command line cannot be read, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error) {
    // There is nowhere to report that standard error cannot be written.
    drop(error.print());
}
