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

/// Parses a number of bytes, with or without the unit `KiB`, `MiB` or `GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("B", 0)];
    let unit = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    let wrong = || format!("`{text}` is not an amount: write bytes, or `64KiB`, `4MiB`, `1GiB`");
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Formats a number of bytes with a unit.
pub(crate) fn amount(bytes: u64) -> String {
    let units = [("GiB", 30_u32), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in units {
        if bytes >= 1 << shift {
            let tenths = (bytes * 10) >> shift;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amount_with_or_without_unit_then_bytes() {
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        assert_eq!(bytes("17"), Ok(17));
        assert!(bytes("4 apples").is_err());
        assert!(bytes("99999999999GiB").is_err());
        assert_eq!(amount(5 << 19), "2.5 MiB");
    }
}
