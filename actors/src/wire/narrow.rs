//! Values in 16 bits on the wire: rounding to nearest, ties to even, and two of them in the place of one f32.

use std::ops::Range;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use crate::protocol::numbers::Dtype;
use crate::protocol::tree::Round;

/// Which values of a vector are in 16 bits: those below an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Narrow {
    dtype: Dtype,
    below: usize,
}

impl Narrow {
    /// Of a unit's vector the values below `below` are of `dtype`.
    pub fn new(dtype: Dtype, below: usize) -> Self {
        let below = if dtype == Dtype::F32 { 0 } else { below };
        Self { dtype, below }
    }

    /// The same for a range of the vector.
    pub fn within(self, range: &Range<usize>) -> Self {
        Self { below: self.below.clamp(range.start, range.end) - range.start, ..self }
    }

    /// Whether nothing is rounded.
    pub fn is_plain(self) -> bool {
        self.below == 0
    }

    /// f32 words that `values` values take.
    pub fn words(self, values: usize) -> usize {
        let below = self.below.min(values);
        below.div_ceil(2) + values - below
    }

    /// The values, the narrow ones rounded and two in a word, low half first.
    pub fn pack(self, values: &[f32]) -> Vec<f32> {
        let (narrow, wide) = values.split_at(self.below.min(values.len()));
        let mut bits = vec![0u16; narrow.len().next_multiple_of(2)];
        let into = &mut bits[..narrow.len()];
        match self.dtype {
            Dtype::BF16 => into.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(narrow),
            Dtype::F16 => into.reinterpret_cast_mut::<f16>().convert_from_f32_slice(narrow),
            Dtype::F32 => {}
        }
        let words = bits.chunks_exact(2).map(|pair| f32::from_bits(u32::from(pair[0]) | u32::from(pair[1]) << 16));
        words.chain(wide.iter().copied()).collect()
    }

    /// `values` values out of what [`Narrow::pack`] made; `None` when the number of words does not fit.
    pub fn unpack(self, words: Vec<f32>, values: usize) -> Option<Vec<f32>> {
        if words.len() != self.words(values) {
            return None;
        }
        if self.is_plain() {
            return Some(words);
        }
        let below = self.below.min(values);
        let (narrow, wide) = words.split_at(below.div_ceil(2));
        let mut bits: Vec<u16> = narrow.iter().flat_map(|word| [word.to_bits() as u16, (word.to_bits() >> 16) as u16]).collect();
        bits.truncate(below);
        let mut out = vec![0.0; values];
        match self.dtype {
            Dtype::BF16 => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(&mut out[..below]),
            Dtype::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(&mut out[..below]),
            Dtype::F32 => {}
        }
        out[below..].copy_from_slice(wide);
        Some(out)
    }
}

impl Round<f32> for Narrow {
    fn round(&self, values: &mut [f32]) {
        let below = self.below.min(values.len());
        match self.dtype {
            Dtype::F32 => {}
            Dtype::BF16 => values[..below].iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32()),
            Dtype::F16 => values[..below].iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32()),
        }
    }
    fn is_exact(&self) -> bool {
        self.is_plain()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What arrives is what rounding gives, so that who has a copy and who receives one see the same bits.
        #[test]
        fn packing_is_rounding(bits in prop::collection::vec(any::<u32>(), 0..40), below in 0usize..50, kind in 0usize..3, start in 0usize..20) {
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).filter(|value| !value.is_nan()).collect();
            let range = start..start + values.len();
            let narrow = Narrow::new([Dtype::F32, Dtype::BF16, Dtype::F16][kind], below).within(&range);
            let mut rounded = values.clone();
            narrow.round(&mut rounded);
            let words = narrow.pack(&values);
            prop_assert_eq!(words.len(), narrow.words(values.len()));
            let unpacked = narrow.unpack(words.clone(), values.len()).unwrap();
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&unpacked), bits(&rounded));
            prop_assert_eq!(bits(&narrow.unpack(narrow.pack(&rounded), values.len()).unwrap()), bits(&rounded));
            let kept = below.clamp(range.start, range.end) - range.start;
            prop_assert_eq!(bits(&rounded[kept..]), bits(&values[kept..]));
            prop_assert!(narrow.unpack(words, values.len() + 2).is_none());
        }
    }

    #[test]
    fn numbers_that_are_not_finite_stay_so() {
        for dtype in [Dtype::BF16, Dtype::F16] {
            let narrow = Narrow::new(dtype, 3);
            let back = narrow.unpack(narrow.pack(&[f32::NAN, f32::INFINITY, 1e30]), 3).unwrap();
            assert!(back[0].is_nan() && back[1] == f32::INFINITY);
            assert_eq!(back[2].is_finite(), dtype == Dtype::BF16);
        }
    }
}
