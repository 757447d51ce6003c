//! RegNetY from design-space numbers: widths, depths and shapes, without a single weight.
//!
//! Source: Radosavovic et al., "Designing Network Design Spaces" (2020), equations 2–4.

use serde::{Deserialize, Serialize};

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
    /// A member of the family by name: see [`NAMES`].
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
    #[error("model.trunk = \"{0}\" is no known trunk; known are {known}", known = NAMES.join(", "))]
    Unknown(String),
    /// A number is out of its range.
    #[error("model.trunk: {0}")]
    Range(&'static str),
}

/// Names of the family, smallest first.
pub const NAMES: [&str; 12] = [
    "toy",
    "regnet_y_400mf",
    "regnet_y_800mf",
    "regnet_y_1_6gf",
    "regnet_y_3_2gf",
    "regnet_y_8gf",
    "regnet_y_16gf",
    "regnet_y_32gf",
    "regnet_y_64gf",
    "regnet_y_128gf",
    "regnet_y_256gf",
    "seer_10b",
];

/// Design-space numbers of a named member: ClassyVision's and vissl's; `regnet_y_256gf` is SEER's.
fn named(name: &str) -> Option<Numbers> {
    let (depth, w_0, w_a, w_m, group_width) = match name {
        "regnet_y_400mf" => (16, 48.0, 27.89, 2.09, 8),
        "regnet_y_800mf" => (14, 56.0, 38.84, 2.4, 16),
        "regnet_y_1_6gf" => (27, 48.0, 20.71, 2.65, 24),
        "regnet_y_3_2gf" => (21, 80.0, 42.63, 2.66, 24),
        "regnet_y_8gf" => (17, 192.0, 76.82, 2.19, 56),
        "regnet_y_16gf" => (18, 200.0, 106.23, 2.48, 112),
        "regnet_y_32gf" => (20, 232.0, 115.89, 2.53, 232),
        "regnet_y_64gf" => (20, 352.0, 147.48, 2.4, 328),
        "regnet_y_128gf" => (27, 456.0, 160.83, 2.52, 264),
        "regnet_y_256gf" => (27, 640.0, 230.83, 2.53, 373),
        "seer_10b" => (27, 1744.0, 620.83, 2.52, 1010),
        _ => return None,
    };
    Some(Numbers { depth, w_0, w_a, w_m, group_width })
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
            Self::Named(name) if name == "toy" => {
                explicit(&Stages { widths: vec![32, 64, 128], depths: vec![1, 2, 1], group_width: 16 }, rounding)
            }
            Self::Named(name) => generate(&named(name).ok_or_else(|| TrunkError::Unknown(name.clone()))?, rounding),
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

    fn widths(name: &str, rounding: Rounding) -> (Vec<usize>, Vec<usize>) {
        let stages = Trunk::Named(name.into()).stages(rounding).unwrap();
        (stages.iter().map(|s| s.width).collect(), stages.iter().map(|s| s.depth).collect())
    }

    #[test]
    fn widths_and_depths_are_the_published_ones() {
        let table: [(&str, [usize; 4], [usize; 4]); 11] = [
            ("regnet_y_400mf", [48, 104, 208, 440], [1, 3, 6, 6]),
            ("regnet_y_800mf", [64, 128, 320, 768], [1, 3, 8, 2]),
            ("regnet_y_1_6gf", [48, 120, 336, 888], [2, 6, 17, 2]),
            ("regnet_y_3_2gf", [72, 216, 576, 1512], [2, 5, 13, 1]),
            ("regnet_y_8gf", [168, 448, 896, 2016], [2, 4, 10, 1]),
            ("regnet_y_16gf", [224, 448, 1232, 3024], [2, 4, 11, 1]),
            ("regnet_y_32gf", [232, 696, 1392, 3712], [2, 5, 12, 1]),
            ("regnet_y_64gf", [328, 984, 1968, 4920], [2, 5, 12, 1]),
            ("regnet_y_128gf", [528, 1056, 2904, 7392], [2, 7, 17, 1]),
            ("regnet_y_256gf", [746, 1492, 4103, 10444], [2, 7, 17, 1]),
            ("seer_10b", [2020, 4040, 11110, 28280], [2, 7, 17, 1]),
        ];
        for (name, w, d) in table {
            assert_eq!(widths(name, Rounding::Classy), (w.to_vec(), d.to_vec()), "{name}");
            let tv = match name {
                "regnet_y_800mf" => [64, 144, 320, 784],
                "regnet_y_8gf" => [224, 448, 896, 2016],
                _ => w,
            };
            assert_eq!(widths(name, Rounding::Torchvision).0, tv, "{name} as torchvision has it");
        }
    }

    #[test]
    fn classy_vision_256gf_has_a_group_width_per_stage() {
        let stages = Trunk::Numbers(Numbers { depth: 27, w_0: 640.0, w_a: 124.47, w_m: 2.04, group_width: 848 });
        let stages = stages.stages(Rounding::Classy).unwrap();
        let shape: Vec<_> = stages.iter().map(|s| (s.width, s.depth, s.group_width)).collect();
        assert_eq!(shape, [(640, 3, 640), (1696, 7, 848), (2544, 16, 848), (5088, 1, 848)]);
    }

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
