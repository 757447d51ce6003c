//! Sizes and rates as people write them: `40GiB`, `100Gbit`, `312T`.

/// Prefixes by thousands, then by 1024.
const PREFIXES: [(&str, f64); 11] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("k", 1e3),
    ("K", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("", 1.0),
];

/// The number at the start of a text with its prefix taken in, and the unit after them.
fn scaled(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let number = number.parse::<f64>().ok()?;
    let (prefix, factor) = PREFIXES.iter().find(|(prefix, _)| rest.trim_start().starts_with(prefix))?;
    Some((number * factor, &rest.trim_start()[prefix.len()..])).filter(|(value, _)| *value < 1e19)
}

/// Bytes: `40GiB` (by 1024), `36GB` (by 1000), `512M`, `4096`.
///
/// # Errors
/// A sentence without its beginning.
pub fn bytes(text: &str) -> Result<u64, String> {
    let value = scaled(text).filter(|(_, unit)| ["", "B"].contains(unit)).map(|(value, _)| value.round() as u64);
    value.ok_or_else(|| "use bytes with a prefix, such as 40GiB or 512MB".into())
}

/// Bytes a second of a link: `100Gbit` (bits a second), `12.5GB` (bytes a second).
///
/// # Errors
/// As [`bytes()`].
pub fn link(text: &str) -> Result<f64, String> {
    let value = scaled(text).and_then(|(value, unit)| match unit {
        "bit" | "bit/s" | "bps" => Some(value / 8.0),
        "B" | "B/s" => Some(value),
        _ => None,
    });
    value.filter(|value| *value > 0.0).ok_or_else(|| "use a rate such as 100Gbit or 12.5GB".into())
}

/// Floating-point operations a second: `312T`, `19.5TFLOPS`.
///
/// # Errors
/// As [`bytes()`].
pub fn flops(text: &str) -> Result<f64, String> {
    let units = ["", "FLOPS", "FLOP/s", "flops", "FLOP"];
    let value = scaled(text).filter(|(value, unit)| *value > 0.0 && units.contains(unit)).map(|(value, _)| value);
    value.ok_or_else(|| "use operations a second, such as 312T".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(bytes("40GiB"), Ok(42_949_672_960));
        assert_eq!(bytes("36 GB"), Ok(36_000_000_000));
        assert_eq!(bytes("1.5Ki"), Ok(1536));
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(link("100Gbit"), Ok(12.5e9));
        assert_eq!(link("12.5GB/s"), Ok(12.5e9));
        assert_eq!(flops("312T"), Ok(312e12));
        assert_eq!(flops("19.5TFLOPS"), Ok(19.5e12));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "GiB", "40Gibit", "-1GB", "1e9", "4 apples", "99999999999TiB", "1.2.3M"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(link("100").is_err() && link("0Gbit").is_err() && flops("0").is_err() && flops("3GB").is_err());
    }
}
