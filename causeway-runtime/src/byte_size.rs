//! Sizes in bytes as text, with binary units.

use bytesize::ByteSize;

/// Parses a number of bytes, with or without a unit such as `KiB`, `MiB` or `GiB`.
///
/// # Errors
///
/// A message for the command line: the text is not a size, or it exceeds 64 bits.
pub fn parse(text: &str) -> Result<u64, String> {
    let size = text.trim().parse::<ByteSize>().ok();
    // The crate turns a larger size into the maximum.
    size.filter(|size| *size < ByteSize(u64::MAX))
        .map(|size| size.as_u64())
        .ok_or_else(|| {
            format!("`{text}` is not an amount: write bytes, or `64KiB`, `4MiB`, `1GiB`")
        })
}

/// Formats a number of bytes with one decimal and its unit.
pub fn format(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_with_or_without_unit_then_bytes() {
        assert_eq!(parse("17"), Ok(17));
        assert_eq!(parse("17B"), Ok(17));
        assert_eq!(parse("64 KiB"), Ok(64 << 10));
        assert_eq!(parse("4MiB"), Ok(4 << 20));
        assert_eq!(parse("1GiB"), Ok(1 << 30));
    }

    #[test]
    fn no_size_then_message_with_examples() {
        for text in [
            "",
            "4 apples",
            "-1",
            "99999999999GiB",
            "99999999999999999999",
        ] {
            assert_eq!(
                parse(text),
                Err(format!(
                    "`{text}` is not an amount: write bytes, or `64KiB`, `4MiB`, `1GiB`"
                ))
            );
        }
    }

    #[test]
    fn bytes_then_readable_unit() {
        let sizes = [0, 1023, 1024, 5 << 19, 3 << 29, 1 << 40];
        let texts = ["0 B", "1023 B", "1.0 KiB", "2.5 MiB", "1.5 GiB", "1.0 TiB"];
        assert_eq!(sizes.map(format), texts);
    }
}
