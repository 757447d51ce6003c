//! `[model]`: trunk, head and prototypes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// Trunks with a name.
pub(crate) const TRUNKS: [&str; 14] = [
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
    "regnet_y_256gf_classy",
    "regnet_y_256gf",
    "seer_3b",
    "seer_10b",
];

/// `[model]`: a RegNetY trunk (by name, by design-space numbers or by stages), a projection head and prototypes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// A trunk by name (`"regnet_y_400mf"`, …, `"seer_10b"`). Give one of `trunk`, `design` and `stages`.
    pub trunk: Option<String>,
    /// A trunk by the numbers of the RegNet design space.
    pub design: Option<Design>,
    /// A trunk by the widths and depths of its stages.
    pub stages: Option<Stages>,
    /// How stage widths are made multiples of the group width. Default `"torchvision"`.
    pub rounding: Rounding,
    /// Stride of the stem: 2, or 1 for small images. Default 2.
    pub stem_stride: u32,
    /// Widths of the projection head after the trunk; the last is that of the features. Default `[2048, 128]`.
    pub head: Vec<u32>,
    /// Batch norm after the hidden layers of the head. Default true.
    pub head_bn: bool,
    /// Number of prototypes, K. Default 3000.
    pub prototypes: u32,
    /// Lanes that share batch-norm statistics: `"lane"`, `"group:N"` or `"all"`. Default `"all"`.
    pub sync: Sync,
    /// A file of weights that the run begins from instead of random ones: safetensors or a PyTorch checkpoint, with the names of timm, torchvision,
    /// transformers or vissl. What it does not hold (the projection head, as a rule) begins from the seed.
    pub init: Option<String>,
}

/// `[model.design]`: the numbers of the RegNet design space (Radosavovic et al. 2020).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// Number of blocks.
    pub depth: u32,
    /// Width of the first block.
    pub w_0: u32,
    /// Slope of the widths.
    pub w_a: f64,
    /// Quantisation of the widths.
    pub w_m: f64,
    /// Channels of a group of the grouped convolutions.
    pub group_width: u32,
}

/// `[model.stages]`: a trunk by its stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// Channels of each stage; multiples of the group width.
    pub widths: Vec<u32>,
    /// Blocks of each stage.
    pub depths: Vec<u32>,
    /// Channels of a group of the grouped convolutions.
    pub group_width: u32,
}

/// How stage widths are made multiples of the group width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// Never more than a tenth below the unrounded width.
    #[default]
    Torchvision,
    /// The nearest multiple, half to even, as the SEER models.
    Seer,
}

/// Lanes that share batch-norm statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sync {
    /// Each lane for itself.
    Lane,
    /// Groups of this many neighbouring lanes.
    Group(u32),
    /// The whole global batch.
    #[default]
    All,
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane => write!(f, "lane"),
            Self::Group(lanes) => write!(f, "group:{lanes}"),
            Self::All => write!(f, "all"),
        }
    }
}

impl From<Sync> for String {
    fn from(sync: Sync) -> Self {
        sync.to_string()
    }
}

impl TryFrom<String> for Sync {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let group = || text.strip_prefix("group:")?.parse().ok().filter(|lanes| *lanes > 0).map(Self::Group);
        match text.as_str() {
            "lane" => Ok(Self::Lane),
            "all" => Ok(Self::All),
            _ => group().ok_or_else(|| format!("is \"{text}\", which names no lanes: use \"lane\", \"group:N\" or \"all\"")),
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            trunk: None,
            design: None,
            stages: None,
            rounding: Rounding::default(),
            stem_stride: 2,
            head: vec![2048, 128],
            head_bn: true,
            prototypes: 3000,
            sync: Sync::default(),
            init: None,
        }
    }
}

impl Model {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::exactly_one(&[
            ("model.trunk", self.trunk.is_some()),
            ("model.design", self.design.is_some()),
            ("model.stages", self.stages.is_some()),
        ])?;
        if let Some(trunk) = &self.trunk {
            check::require(TRUNKS.contains(&trunk.as_str()), "model.trunk", || {
                (format!("is \"{trunk}\", which names no trunk"), format!("use one of {}", TRUNKS.join(", ")))
            })?;
        }
        self.design.as_ref().map_or(Ok(()), Design::check)?;
        self.stages.as_ref().map_or(Ok(()), Stages::check)?;
        check::require(self.init.as_deref() != Some(""), "model.init", || ("is empty".into(), "give a file, or leave it out".into()))?;
        check::within("model.stem_stride", self.stem_stride, 1, 2)?;
        check::require(!self.head.is_empty(), "model.head", || ("is empty".into(), "give at least the width of the features".into()))?;
        self.head.iter().try_for_each(|width| check::within("model.head", *width, 1, 1 << 20))?;
        check::within("model.prototypes", self.prototypes, 2, 10_000_000)
    }
}

impl Design {
    fn check(&self) -> Result<(), Invalid> {
        check::within("model.design.depth", self.depth, 1, 200)?;
        check::within("model.design.w_0", self.w_0, 8, 1 << 16)?;
        check::require(self.w_0.is_multiple_of(8), "model.design.w_0", || (format!("is {}", self.w_0), "use a multiple of 8".into()))?;
        check::within("model.design.w_a", self.w_a, 0.0, 65_536.0)?;
        check::require(self.w_m > 1.0 && self.w_m <= 64.0, "model.design.w_m", || {
            (format!("is {}", self.w_m), "use a value above 1, at most 64".into())
        })?;
        check::within("model.design.group_width", self.group_width, 1, 1 << 16)
    }
}

impl Stages {
    fn check(&self) -> Result<(), Invalid> {
        let (widths, depths) = (self.widths.len(), self.depths.len());
        check::within("model.stages.widths", widths, 1, 16).map_err(|invalid| Invalid {
            problem: format!("has {widths} stages"),
            remedy: "use 1 to 16".into(),
            ..invalid
        })?;
        check::require(widths == depths, "model.stages.depths", || {
            (format!("has {depths} stages and `widths` has {widths}"), "give both for each stage".into())
        })?;
        check::within("model.stages.group_width", self.group_width, 1, 1 << 16)?;
        for width in &self.widths {
            check::within("model.stages.widths", *width, 1, 1 << 17)?;
            check::require(width.is_multiple_of(self.group_width), "model.stages.widths", || {
                (format!("holds {width}, no multiple of `group_width` {}", self.group_width), "use multiples of it".into())
            })?;
        }
        self.depths.iter().try_for_each(|depth| check::within("model.stages.depths", *depth, 1, 200))
    }
}
