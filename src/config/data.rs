//! `[data]`: the images.

use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[data]`: the images to learn from, and labelled ones to examine what was learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// A folder of images (any depth, no labels needed), a tar, or a folder or brace/glob pattern of tar shards.
    pub train: Option<String>,
    /// The same with labels, kept out of training: what kNN is measured on. Without it nothing is measured.
    pub test: Option<String>,
    /// The run ends when more than this share of the samples cannot be decoded. Default 0.01.
    pub bad_share_max: f64,
    /// Folder for the index of the source; by default it lies beside the run.
    pub cache: Option<String>,
    /// Make the images instead: a procedural data set, rendered on first use. Takes the place of `train` and `test`.
    pub make: Option<Make>,
}

/// `[data.make]`: the procedural data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Make {
    /// Where it is rendered to. Default `data/made`.
    pub dir: String,
    /// Images to train on. Default 8000.
    pub images: u32,
    /// Images to test on. Default 2000.
    pub test: u32,
    /// Side of an image, in pixels. Default 48.
    pub size: u32,
    /// Seed of the rendering. Default 0.
    pub seed: u64,
}

impl Default for Data {
    fn default() -> Self {
        Self { train: None, test: None, bad_share_max: 0.01, cache: None, make: None }
    }
}

impl Default for Make {
    fn default() -> Self {
        Self { dir: "data/made".into(), images: 8000, test: 2000, size: 48, seed: 0 }
    }
}

impl Data {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::require(self.train.is_some() || self.make.is_some(), "data.train", || {
            ("is missing".into(), "add it, give `--data PATH`, or add a table `[data.make]` to have images made".into())
        })?;
        check::exactly_one(&[("data.train", self.train.is_some()), ("data.make", self.make.is_some())])?;
        for (key, path) in [("data.train", &self.train), ("data.test", &self.test), ("data.cache", &self.cache)] {
            check::require(path.as_deref() != Some(""), key, || ("is empty".into(), "give a path".into()))?;
        }
        check::fraction("data.bad_share_max", self.bad_share_max)?;
        let Some(make) = &self.make else { return Ok(()) };
        check::require(self.test.is_none(), "data.test", || {
            ("and `data.make` are both given".into(), "leave it out, the made data has its own test images".into())
        })?;
        check::require(!make.dir.is_empty(), "data.make.dir", || ("is empty".into(), "give a folder".into()))?;
        check::within("data.make.images", make.images, 1, 100_000_000)?;
        check::within("data.make.test", make.test, 0, 100_000_000)?;
        check::within("data.make.size", make.size, 16, 1024)?;
        check::within("data.make.seed", make.seed, 0, i64::MAX as u64)
    }
}
