//! Output: data to standard output, progress and errors to standard error.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this module is where the program prints"
)]

use crate::error::Error;

/// Prints data to standard output.
pub(crate) fn print_data(text: &str) {
    println!("{text}");
}

/// Prints progress to standard error.
pub(crate) fn print_progress(text: &str) {
    eprintln!("{text}");
}

/// Prints an error with its causes and hint.
pub(crate) fn print_error(error: &Error) {
    eprintln!("error: {}", causeway_runtime::telemetry::chain(error));
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
}
