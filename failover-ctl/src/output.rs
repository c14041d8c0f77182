//! Output: data to standard output, progress and errors to standard error.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this module is where the program prints"
)]

use crate::error::Error;

/// Prints data to standard output.
pub(crate) fn data(text: &str) {
    println!("{text}");
}

/// Prints progress to standard error.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Prints an error with its causes and hint.
pub(crate) fn failure(failure: &Error) {
    eprintln!("error: {}", causeway_runtime::telemetry::chain(failure));
    if let Some(hint) = failure.hint() {
        eprintln!("hint: {hint}");
    }
}
