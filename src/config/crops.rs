//! `[crops]`: the crops of an image and their augmentation.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[crops]`: multi-crop and augmentation, in the order crop, flip, jitter, grayscale, blur, normalise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crops {
    /// Groups of crops of one size; the first holds the crops that codes are computed from. Default 2 x 224 and 6 x 96.
    pub group: Vec<Group>,
    /// All crops are padded with zeros at the bottom and the right to the largest size and go through the trunk together, as SEER's 10 billion were
    /// trained: batch norm and squeeze-and-excitation see the padding, the last pooling does not. Otherwise each size goes through by itself. Default false.
    pub padded: bool,
    /// Chance of a horizontal flip. Default 0.5.
    pub flip: f64,
    /// Colour jitter.
    pub jitter: Jitter,
    /// Chance of losing the colours. Default 0.2.
    pub grayscale: f64,
    /// Chance of a Gaussian blur. Default 0.5.
    pub blur: f64,
    /// Standard deviation of the blur in pixels, drawn uniformly from this range. Default `[0.1, 2.0]`.
    pub blur_sigma: [f64; 2],
    /// Mean of red, green and blue, of values in 0..1. Default that of ImageNet.
    pub mean: [f64; 3],
    /// Standard deviation of red, green and blue. Default that of ImageNet.
    pub std: [f64; 3],
}

/// `[[crops.group]]`: crops of one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// How many of them an image gives.
    pub count: u32,
    /// Side in pixels after resizing.
    pub size: u32,
    /// Share of the image's area that a crop takes, from and to.
    pub scale: [f64; 2],
}

/// `[crops.jitter]`: colour jitter; each part is scaled by `strength`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jitter {
    /// Chance that a crop is jittered at all. Default 0.8.
    pub chance: f64,
    /// Scales the four parts below. Default 1.
    pub strength: f64,
    /// Brightness is multiplied by 1 +- this. Default 0.8.
    pub brightness: f64,
    /// Contrast is multiplied by 1 +- this. Default 0.8.
    pub contrast: f64,
    /// Saturation is multiplied by 1 +- this. Default 0.8.
    pub saturation: f64,
    /// Hue is turned by +- this share of the circle. Default 0.2.
    pub hue: f64,
}

impl Default for Crops {
    fn default() -> Self {
        Self {
            group: vec![Group { count: 2, size: 224, scale: [0.14, 1.0] }, Group { count: 6, size: 96, scale: [0.05, 0.14] }],
            padded: false,
            flip: 0.5,
            jitter: Jitter::default(),
            grayscale: 0.2,
            blur: 0.5,
            blur_sigma: [0.1, 2.0],
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

impl Default for Jitter {
    fn default() -> Self {
        Self { chance: 0.8, strength: 1.0, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 }
    }
}

impl Crops {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::require(!self.group.is_empty(), "crops.group", || ("is empty".into(), "add a table `[[crops.group]]`".into()))?;
        check::require(self.group.len() <= 16, "crops.group", || (format!("has {} tables", self.group.len()), "use at most 16".into()))?;
        for (index, group) in self.group.iter().enumerate() {
            let key = |name: &str| format!("crops.group.{index}.{name}");
            check::within(&key("count"), group.count, 1, 64)?;
            check::within(&key("size"), group.size, 8, 2048)?;
            let [from, to] = group.scale;
            check::require(from > 0.0 && from <= to && to <= 1.0, &key("scale"), || {
                (format!("is [{from}, {to}]"), "use shares of the area with 0 < from <= to <= 1".into())
            })?;
        }
        for (key, value) in [("flip", self.flip), ("grayscale", self.grayscale), ("blur", self.blur), ("jitter.chance", self.jitter.chance)]
        {
            check::fraction(&format!("crops.{key}"), value)?;
        }
        let Jitter { strength, brightness, contrast, saturation, hue, .. } = self.jitter;
        for (key, value) in [("strength", strength), ("brightness", brightness), ("contrast", contrast), ("saturation", saturation)] {
            check::not_negative(&format!("crops.jitter.{key}"), value)?;
        }
        check::within("crops.jitter.hue", hue, 0.0, 0.5)?;
        check::within("crops.jitter.strength", strength * hue, 0.0, 0.5)
            .map_err(|invalid| Invalid { problem: format!("times `crops.jitter.hue` is {}", strength * hue), ..invalid })?;
        let [from, to] = self.blur_sigma;
        check::require(from > 0.0 && from <= to && to <= 64.0, "crops.blur_sigma", || {
            (format!("is [{from}, {to}]"), "use pixels with 0 < from <= to <= 64".into())
        })?;
        self.mean.iter().try_for_each(|value| check::fraction("crops.mean", *value))?;
        self.std.iter().try_for_each(|value| check::positive("crops.std", *value))
    }
}
