//! The model's section of the config.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::regnet::{Rounding, Trunk};

/// Section `[model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The trunk: a name (`"regnet_y_400mf"`), design-space numbers
    /// (`{ depth, w_0, w_a, w_m, group_width }`) or stages (`{ widths, depths, group_width }`).
    pub trunk: Trunk,
    /// How stage widths become multiples of the group width: `"classy"` (SEER, timm) or `"torchvision"`.
    pub rounding: Rounding,
    /// Width of squeeze-and-excitation relative to a block's input; 0.25 in RegNetY.
    pub se_ratio: f64,
    /// Channels of the stem.
    pub stem_width: usize,
    /// Stride of the stem's 3×3 convolution: 2, or 1 for very small images.
    pub stem_stride: usize,
    /// Layers of the projection head after the trunk, without the trunk's own width:
    /// `[8192, 8192, 256]` is SEER's. The last one is the dimension of the embedding.
    pub head: Vec<usize>,
    /// Whether the head has batch norm after each hidden layer (SwAV: yes; SEER: no).
    pub head_bn: bool,
    /// Number of prototypes.
    pub prototypes: usize,
    /// Which lanes share batch-norm moments: `"lane"`, `"group:N"` (N neighbouring lanes) or `"all"`.
    pub sync: Sync,
    /// Neighbouring units are merged until they hold this many values; fewer, larger units mean fewer messages.
    pub unit_min: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            trunk: Trunk::Named("toy".into()),
            rounding: Rounding::Classy,
            se_ratio: 0.25,
            stem_width: 32,
            stem_stride: 2,
            head: vec![256, 64],
            head_bn: true,
            prototypes: 128,
            sync: Sync::All,
            unit_min: 65_536,
        }
    }
}

/// Which lanes share batch-norm moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Each lane by itself.
    Lane,
    /// Groups of this many neighbouring lanes; the last group may be smaller.
    Group(u32),
    /// All lanes together.
    All,
}

impl Sync {
    /// The lanes that share moments with `lane`.
    pub fn group(self, lane: u32, lanes: u32) -> std::ops::Range<u32> {
        match self {
            Self::Lane => lane..lane + 1,
            Self::Group(n) => lane / n * n..(lane / n * n).saturating_add(n).min(lanes),
            Self::All => 0..lanes,
        }
    }
}

impl Serialize for Sync {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Lane => serializer.serialize_str("lane"),
            Self::Group(n) => serializer.collect_str(&format_args!("group:{n}")),
            Self::All => serializer.serialize_str("all"),
        }
    }
}

impl<'de> Deserialize<'de> for Sync {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let group = || text.strip_prefix("group:")?.parse().ok().filter(|n| *n > 0).map(Self::Group);
        match text.as_str() {
            "lane" => Ok(Self::Lane),
            "all" => Ok(Self::All),
            _ => group().ok_or_else(|| {
                serde::de::Error::custom(format_args!("sync = \"{text}\" must be \"lane\", \"all\" or \"group:N\" with N of 1 or more"))
            }),
        }
    }
}

/// Which units' forward is computed again in the backward pass. It changes no bit of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompute {
    /// All, each from its own input.
    Always,
    /// None: every unit keeps its graph.
    #[default]
    Never,
    /// As few as let a lane's step fit into so many bytes.
    Within(u64),
    /// All, in at most so many runs of units of which only the first one's input is kept.
    Segments(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_form_of_trunk_and_sync() {
        let config: Config = toml::from_str("trunk = \"regnet_y_8gf\"\nsync = \"group:8\"").unwrap();
        assert_eq!((config.trunk, config.sync), (Trunk::Named("regnet_y_8gf".into()), Sync::Group(8)));
        let config: Config = toml::from_str("trunk = { widths = [8], depths = [1], group_width = 8 }").unwrap();
        assert!(matches!(config.trunk, Trunk::Stages(_)));
        let config: Config = toml::from_str("trunk = { depth = 6, w_0 = 32, w_a = 25.6, w_m = 2, group_width = 16 }").unwrap();
        assert!(matches!(config.trunk, Trunk::Numbers(_)));
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn refuses_unknown_keys_and_groups_of_none() {
        assert!(toml::from_str::<Config>("prototype = 3").is_err());
        assert!(toml::from_str::<Config>("sync = \"group:0\"").is_err());
        assert!(toml::from_str::<Config>("trunk = { widths = [8], depths = [1], group_width = 8, extra = 1 }").is_err());
    }

    #[test]
    fn groups_cover_the_lanes() {
        assert_eq!(Sync::Group(4).group(5, 6), 4..6);
        assert_eq!(Sync::Lane.group(5, 6), 5..6);
        assert_eq!(Sync::All.group(5, 6), 0..6);
    }
}
