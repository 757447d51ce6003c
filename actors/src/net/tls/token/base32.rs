//! Bytes as letters and digits that people can copy.

/// RFC 4648, in small letters: none that looks like another.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The digits of some bytes, without padding.
pub(super) fn base32(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
    let digit = |n: usize| (0..5).fold(0, |value, at| value << 1 | usize::from(bit(n * 5 + at)));
    (0..(bytes.len() * 8).div_ceil(5)).map(|n| char::from(DIGITS[digit(n)])).collect()
}

/// The bytes of some digits; `None` where there is a character that is no digit, or bits are left that are not 0.
pub(super) fn base32_back(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() * 5 / 8), 0u32, 0);
    for char in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == char.to_ascii_lowercase())?;
        (bits, held) = (bits << 5 | digit as u32, held + 5);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0 && held < 5).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_digits_come_back() {
        for length in [0, 1, 2, 3, 4, 5, 16, 56] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 37 + 11) as u8).collect();
            assert_eq!(base32_back(&base32(&bytes)), Some(bytes));
        }
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32_back("mzxw6ytboj"), None, "bits that are left over");
        assert_eq!(base32_back("m1"), None);
    }
}
