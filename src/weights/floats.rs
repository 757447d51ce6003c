//! Stored numbers as f32.

/// Kinds of floating-point numbers in files. Whole numbers (counts of batches) are not weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    BF16,
}

impl Kind {
    pub(super) fn of_safetensors(name: &str) -> Option<Self> {
        match name {
            "F64" => Some(Self::F64),
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::BF16),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// Little-endian bytes as f32: exact but for f64, which is rounded to the nearest.
pub(super) fn floats(bytes: &[u8], kind: Kind) -> Vec<f32> {
    match kind {
        Kind::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Kind::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Kind::F16 => bytes.as_chunks::<2>().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect(),
        Kind::BF16 => bytes.as_chunks::<2>().0.iter().map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)).collect(),
    }
}

/// IEEE 754 binary16: one bit of sign, five of exponent, ten of fraction.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        // Subnormal: fraction · 2⁻²⁴, which f32 holds exactly.
        0 => f32::from_bits((fraction as f32 / 16_777_216.0).to_bits() | sign),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_exactly() {
        let numbers = [0.0f32, -1.5, 65504.0, 6.103_515_6e-5, 5.960_464_5e-8];
        let f16: Vec<u8> = [0x0000u16, 0xbe00, 0x7bff, 0x0400, 0x0001].iter().flat_map(|bits| bits.to_le_bytes()).collect();
        assert_eq!(floats(&f16, Kind::F16), numbers);
        assert_eq!(floats(&0x7c00u16.to_le_bytes(), Kind::F16), [f32::INFINITY]);
        assert!(floats(&0x7e00u16.to_le_bytes(), Kind::F16)[0].is_nan());
        assert_eq!(floats(&0xbfc0u16.to_le_bytes(), Kind::BF16), [-1.5]);
        assert_eq!(floats(&(-0.1f64).to_le_bytes(), Kind::F64), [-0.1f32]);
        assert_eq!(floats(&0.1f32.to_le_bytes(), Kind::F32), [0.1f32]);
    }
}
