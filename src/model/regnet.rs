//! RegNetY from design-space numbers: widths, depths and shapes, without a single weight.
//!
//! Source: Radosavovic et al., "Designing Network Design Spaces" (2020), equations 2–4.

use serde::{Deserialize, Serialize};

use super::family;

/// How a stage's width is made a multiple of its group width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// To the nearest multiple, halves to the even one: ClassyVision, vissl, SEER, timm.
    #[default]
    Classy,
    /// `make_divisible`: halves up, and one multiple more where that would lose over a tenth: torchvision.
    Torchvision,
}

/// The numbers that generate a RegNetY.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Blocks in the whole trunk.
    pub depth: usize,
    /// Initial width w_0.
    pub w_0: f64,
    /// Slope w_a of the widths, per block.
    pub w_a: f64,
    /// Ratio w_m between the widths of neighbouring stages.
    pub w_m: f64,
    /// Channels of one group of the 3×3 convolutions.
    pub group_width: usize,
}

/// Stages given one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// Channels of each stage.
    pub widths: Vec<usize>,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Channels of one group of the 3×3 convolutions.
    pub group_width: usize,
}

/// A trunk: a name, the design-space numbers, or the stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Trunk {
    /// A member of the family by name: see [`family::NAMES`].
    Named(String),
    /// Design-space numbers.
    Numbers(Numbers),
    /// Explicit widths and depths.
    Stages(Stages),
}

/// Why a trunk cannot be built: one sentence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrunkError {
    /// No such member.
    #[error("model.trunk = \"{0}\" is no known trunk; known are {known}", known = family::NAMES.join(", "))]
    Unknown(String),
    /// A number is out of its range.
    #[error("model.trunk: {0}")]
    Range(&'static str),
}

/// One stage of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Channels out of each block.
    pub width: usize,
    /// Blocks; the first one halves height and width.
    pub depth: usize,
    /// Channels of one group of its 3×3 convolutions, a divisor of `width`.
    pub group_width: usize,
}

/// One residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Stage, from 1.
    pub stage: usize,
    /// Place in the stage, from 0.
    pub index: usize,
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub width: usize,
    /// Stride of the 3×3 convolution and of the shortcut.
    pub stride: usize,
    /// Groups of the 3×3 convolution.
    pub groups: usize,
    /// Channels between the two layers of squeeze-and-excitation.
    pub squeeze: usize,
}

impl Block {
    /// Whether the shortcut is a convolution of its own.
    pub fn projects(&self) -> bool {
        self.input != self.width || self.stride != 1
    }
}

/// More channels than this in one stage is taken for a slip.
const WIDEST: usize = 1 << 17;

impl Trunk {
    /// The stages, first to last.
    ///
    /// # Errors
    /// [`TrunkError`] for an unknown name or numbers that make no network.
    pub fn stages(&self, rounding: Rounding) -> Result<Vec<Stage>, TrunkError> {
        match self {
            Self::Named(name) => family::member(name).ok_or_else(|| TrunkError::Unknown(name.clone()))?.stages(rounding),
            Self::Numbers(numbers) => generate(numbers, rounding),
            Self::Stages(stages) => explicit(stages, rounding),
        }
    }
}

fn explicit(stages: &Stages, rounding: Rounding) -> Result<Vec<Stage>, TrunkError> {
    if stages.widths.is_empty() || stages.widths.len() != stages.depths.len() {
        return Err(TrunkError::Range("widths and depths must be two lists of the same length, one entry a stage"));
    }
    if stages.depths.iter().any(|&d| d == 0 || d > 1000) {
        return Err(TrunkError::Range("each of depths must be 1 to 1000"));
    }
    if stages.group_width == 0 || stages.widths.iter().any(|&w| w == 0 || w > WIDEST) {
        return Err(TrunkError::Range("widths and group_width must be positive and at most 131072"));
    }
    Ok(stages.widths.iter().zip(&stages.depths).map(|(&width, &depth)| adjusted(width, depth, stages.group_width, rounding)).collect())
}

/// Equations 2 to 4: u_j = w_0 + w_a·j, quantised to w_0·w_m^k in steps of 8; equal neighbours are a stage.
fn generate(numbers: &Numbers, rounding: Rounding) -> Result<Vec<Stage>, TrunkError> {
    if numbers.depth == 0 || numbers.depth > 1000 {
        return Err(TrunkError::Range("depth must be 1 to 1000"));
    }
    if !(numbers.w_0 >= 8.0 && numbers.w_a >= 0.0 && numbers.w_m > 1.0 && numbers.group_width > 0) {
        return Err(TrunkError::Range("w_0 must be at least 8, w_a not negative, w_m above 1 and group_width positive"));
    }
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for j in 0..numbers.depth {
        let u = numbers.w_0 + numbers.w_a * j as f64;
        let k = ((u / numbers.w_0).ln() / numbers.w_m.ln()).round_ties_even();
        let width = (numbers.w_0 * numbers.w_m.powf(k) / 8.0).round_ties_even() * 8.0;
        if width > WIDEST as f64 {
            return Err(TrunkError::Range("these numbers make a stage of more than 131072 channels; lower w_a, w_0 or depth"));
        }
        match runs.last_mut() {
            Some((last, depth)) if *last == width as usize => *depth += 1,
            _ => runs.push((width as usize, 1)),
        }
    }
    Ok(runs.into_iter().map(|(width, depth)| adjusted(width, depth, numbers.group_width, rounding)).collect())
}

/// A width made a multiple of min(group width, width).
fn adjusted(width: usize, depth: usize, group_width: usize, rounding: Rounding) -> Stage {
    let group_width = group_width.min(width);
    let multiples = width as f64 / group_width as f64;
    let rounded = match rounding {
        Rounding::Classy => multiples.round_ties_even() as usize * group_width,
        Rounding::Torchvision => {
            let near = ((width + group_width / 2) / group_width * group_width).max(group_width);
            if (near as f64) < 0.9 * width as f64 { near + group_width } else { near }
        }
    };
    Stage { width: rounded, depth, group_width }
}

/// The blocks of stages whose first input has `stem` channels.
pub fn blocks(stages: &[Stage], stem: usize, se_ratio: f64) -> Vec<Block> {
    let mut input = stem;
    let mut blocks = Vec::new();
    for (stage, shape) in stages.iter().enumerate() {
        for index in 0..shape.depth {
            blocks.push(Block {
                stage: stage + 1,
                index,
                input,
                width: shape.width,
                stride: if index == 0 { 2 } else { 1 },
                groups: shape.width / shape.group_width,
                squeeze: ((se_ratio * input as f64).round_ties_even() as usize).max(1),
            });
            input = shape.width;
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_scaled_down_10b_make_the_toy() {
        let numbers = Trunk::Numbers(Numbers { depth: 4, w_0: 32.0, w_a: 25.6, w_m: 2.0, group_width: 16 });
        let stages = numbers.stages(Rounding::Classy).unwrap();
        assert_eq!(stages.iter().map(|s| s.width).collect::<Vec<_>>(), [32, 64, 128]);
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        let error = Trunk::Named("resnet50".into()).stages(Rounding::Classy).unwrap_err();
        assert!(error.to_string().contains("resnet50") && error.to_string().contains("regnet_y_400mf"));
        for numbers in
            [(0, 32.0, 1.0, 2.0, 8), (4, 32.0, 1.0, 1.0, 8), (4, 32.0, 1e9, 2.0, 8), (4, f64::NAN, 1.0, 2.0, 8), (4, 32.0, 1.0, 2.0, 0)]
        {
            let (depth, w_0, w_a, w_m, group_width) = numbers;
            assert!(Trunk::Numbers(Numbers { depth, w_0, w_a, w_m, group_width }).stages(Rounding::Classy).is_err(), "{numbers:?}");
        }
        let uneven = Trunk::Stages(Stages { widths: vec![8, 16], depths: vec![1], group_width: 8 });
        assert!(uneven.stages(Rounding::Classy).is_err());
    }
}
