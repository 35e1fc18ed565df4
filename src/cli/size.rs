//! Sizes as people write them.

use crate::spelling::quoted;

/// Reads `4096`, `64K`, `16KiB`, `1M`, `2G`: binary multiples.
///
/// # Errors
/// Says what is wrong with the text.
pub(super) fn parse(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("unknown unit {}: use K, M or G", quoted(unit))),
    };
    let number: usize = digits.trim().parse().map_err(|_| "a size is a number with a unit, like 256K".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// Bytes in decimal units with four significant digits.
pub(super) fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A number of things: `1 file`, `2 files`.
pub(super) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_and_refuses_nonsense() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("64K"), Ok(65_536));
        assert_eq!(parse("1MiB"), Ok(1 << 20));
        assert!(parse("many").is_err());
        assert!(parse("1X").is_err());
        assert!(parse("99999999999999999999").is_err());
        assert!(parse("18446744073709551615K").is_err());
    }

    #[test]
    fn writes_sizes() {
        assert_eq!(human(999), "999 B");
        assert_eq!(human(1000), "1.0 kB");
        assert_eq!(human(2_723_000_000), "2.7 GB");
    }
}
