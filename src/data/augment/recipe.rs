//! What crops a run cuts and how it changes them: the `[crops]` section of a config.

use serde::{Deserialize, Serialize};

/// Largest sigma of a blur: its kernel is truncated at three sigma, and kernels are compiled up to radius 9.
pub const SIGMA_MAX: f32 = 3.0;
/// Largest side of a crop in pixels.
pub const SIZE_MAX: u32 = 1024;

/// Crop groups and normalisation. The defaults are SwAV's recipe: 2 × 224 and 6 × 96.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crops {
    /// Groups of crops; crops are numbered through them in order.
    pub groups: Vec<GroupRecipe>,
    /// Mean of red, green and blue that is subtracted from values in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue by which the rest is divided.
    pub std: [f32; 3],
}

/// Crops of one size and how each is changed, in this order: crop, flip, jitter, grayscale, blur.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupRecipe {
    /// Crops of this group per image.
    pub count: u32,
    /// Side of a crop in pixels.
    pub size: u32,
    /// Smallest and largest share of the image's area that a crop covers.
    pub scale: [f32; 2],
    /// Smallest and largest width / height of the region that is cut.
    pub aspect: [f32; 2],
    /// Probability of a horizontal flip.
    pub flip: f32,
    /// Colour jitter.
    pub jitter: Jitter,
    /// Probability that a crop loses its colour.
    pub grayscale: f32,
    /// Gaussian blur.
    pub blur: Blur,
}

/// Colour jitter as in torchvision: four changes in random order, factors uniform within the strengths.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jitter {
    /// Probability that a crop is jittered at all.
    pub p: f32,
    /// Brightness is multiplied by 1 ± this.
    pub brightness: f32,
    /// The distance to the mean gray is multiplied by 1 ± this.
    pub contrast: f32,
    /// The distance to gray is multiplied by 1 ± this.
    pub saturation: f32,
    /// Hue moves by ± this, in turns (0.5 is half the colour circle).
    pub hue: f32,
}

/// Gaussian blur.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Blur {
    /// Probability that a crop is blurred.
    pub p: f32,
    /// Smallest and largest sigma in pixels of the crop.
    pub sigma: [f32; 2],
}

impl Default for Crops {
    fn default() -> Self {
        Self {
            groups: vec![GroupRecipe::default(), GroupRecipe { count: 6, size: 96, scale: [0.05, 0.14], ..GroupRecipe::default() }],
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

impl Default for GroupRecipe {
    fn default() -> Self {
        Self {
            count: 2,
            size: 224,
            scale: [0.14, 1.0],
            aspect: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.5,
            jitter: Jitter::default(),
            grayscale: 0.2,
            blur: Blur::default(),
        }
    }
}

impl Default for Jitter {
    fn default() -> Self {
        Self { p: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 }
    }
}

impl Default for Blur {
    fn default() -> Self {
        Self { p: 0.5, sigma: [0.1, 2.0] }
    }
}

/// A key of `[crops]` with a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("crops.{key}: {problem}")]
pub struct RecipeError {
    /// The key below `crops`.
    pub key: String,
    /// What is wrong and what is allowed.
    pub problem: &'static str,
}

impl Crops {
    /// Crops per image over all groups.
    pub fn count(&self) -> u32 {
        self.groups.iter().map(|group| group.count).sum()
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the first key that is out of range and what is allowed.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let check =
            |good: bool, key: &str, problem: &'static str| if good { Ok(()) } else { Err(RecipeError { key: key.to_owned(), problem }) };
        let images = (1..=64).contains(&self.groups.len()) && self.groups.iter().map(|group| u64::from(group.count)).sum::<u64>() <= 1024;
        check(images, "groups", "needs 1 to 64 groups with at most 1024 crops together")?;
        check(self.mean.iter().all(|v| v.is_finite()), "mean", "needs three finite numbers")?;
        check(self.std.iter().all(|v| v.is_finite() && *v > 0.0), "std", "needs three numbers above 0")?;
        for (i, group) in self.groups.iter().enumerate() {
            let check = |good: bool, key: &str, problem| check(good, &format!("groups[{i}].{key}"), problem);
            let probability = |p: f32| (0.0..=1.0).contains(&p);
            let Jitter { p, brightness, contrast, saturation, hue } = group.jitter;
            let [low, high] = group.scale;
            let [narrow, wide] = group.aspect;
            let [sharp, soft] = group.blur.sigma;
            check(group.count > 0, "count", "must be at least 1")?;
            check((1..=SIZE_MAX).contains(&group.size), "size", "must be 1 to 1024 pixels")?;
            check(0.0 < low && low <= high && high <= 1.0, "scale", "needs two shares of the area, 0 < smallest <= largest <= 1")?;
            check(0.01 <= narrow && narrow <= wide && wide <= 100.0, "aspect", "needs two ratios, 0.01 <= smallest <= largest <= 100")?;
            check(probability(group.flip), "flip", "must be a probability, 0 to 1")?;
            check(probability(group.grayscale), "grayscale", "must be a probability, 0 to 1")?;
            check(probability(p), "jitter.p", "must be a probability, 0 to 1")?;
            for (key, strength) in [("jitter.brightness", brightness), ("jitter.contrast", contrast), ("jitter.saturation", saturation)] {
                check((0.0..=10.0).contains(&strength), key, "must be 0 to 10")?;
            }
            check((0.0..=0.5).contains(&hue), "jitter.hue", "must be 0 to 0.5 turns")?;
            check(probability(group.blur.p), "blur.p", "must be a probability, 0 to 1")?;
            check(0.0 < sharp && sharp <= soft && soft <= SIGMA_MAX, "blur.sigma", "needs two numbers, 0 < smallest <= largest <= 3")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_recipe_and_unknown_keys_are_refused() {
        let crops: Crops = toml::from_str("").unwrap();
        assert_eq!(crops, Crops::default());
        assert_eq!(crops.count(), 8);
        assert_eq!((crops.groups[1].size, crops.groups[1].scale, crops.std[0]), (96, [0.05, 0.14], 0.229));
        crops.validate().unwrap();
        assert!(toml::from_str::<Crops>("[[groups]]\nsiz = 3").unwrap_err().to_string().contains("siz"));
        let text = toml::to_string(&crops).unwrap();
        assert_eq!(toml::from_str::<Crops>(&text).unwrap(), crops);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let refused = |change: fn(&mut Crops)| {
            let mut crops = Crops::default();
            change(&mut crops);
            crops.validate().unwrap_err().key
        };
        assert_eq!(refused(|c| c.groups.clear()), "groups");
        assert_eq!(refused(|c| c.std[1] = 0.0), "std");
        assert_eq!(refused(|c| c.groups[1].scale = [0.5, 0.2]), "groups[1].scale");
        assert_eq!(refused(|c| c.groups[0].jitter.hue = 0.6), "groups[0].jitter.hue");
        assert_eq!(refused(|c| c.groups[0].blur.sigma = [0.1, f32::NAN]), "groups[0].blur.sigma");
        assert_eq!(refused(|c| c.groups[0].size = 0), "groups[0].size");
    }
}
