//! `everstep data make`: a procedural image dataset, rendered from a seed.
//!
//! Ten classes, each an outline with a pattern that repeats over the whole object, so that most crops show it. Colour, pose, background
//! and light are drawn without regard to the class, so raw pixels and colour histograms tell little of it. What all crops of an image share
//! is what SwAV learns first; so mean colour, brightness and contrast hardly differ between images, and vary within each instead. A *region*
//! shifts background and light and is spread unevenly over the classes.
//!
//! The folder holds WebDataset shards `{split}-{000000}.tar` (for each image `NNNNNNNN.jpg`, `.cls` with the class name, `.json` with its
//! [`Attributes`]), `classes.txt` and `dataset.json`. The bytes of the shards depend on the [`Spec`] only (with one build of the program:
//! another platform's `sin` may differ in the last bit).

mod field;
mod paint;
mod scene;
mod shape;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use image::RgbImage;
use serde::{Deserialize, Serialize};

pub use scene::{Attributes, BACKGROUNDS, HOME_SHARE, LIGHTS, REGIONS};
pub use shape::CLASSES;
pub use write::make;

/// What to make; two equal specs give equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// Seed of everything drawn.
    pub seed: u64,
    /// Images of the train split, at least 1.
    pub train: usize,
    /// Images of the test split, 0 for none.
    pub test: usize,
    /// Width and height in pixels, 16 to 1024.
    pub size: u32,
    /// Images a shard (the last of a split may hold fewer), at least 1.
    pub shard_images: usize,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
}

impl Default for Spec {
    fn default() -> Self {
        Self { seed: 0, train: 20_000, test: 2_000, size: 40, shard_images: 1_000, quality: 90 }
    }
}

impl Spec {
    /// The most images a split may have: entry names have eight digits.
    pub const MOST_IMAGES: usize = 100_000_000;

    /// Checks the bounds named at the fields.
    ///
    /// # Errors
    /// [`MakeError::Spec`] names the first field out of bounds.
    pub fn check(&self) -> Result<(), MakeError> {
        let bounds: [(&'static str, u64, u64, u64); 5] = [
            ("train", self.train as u64, 1, Self::MOST_IMAGES as u64),
            ("test", self.test as u64, 0, Self::MOST_IMAGES as u64),
            ("size", u64::from(self.size), 16, 1024),
            ("shard_images", self.shard_images as u64, 1, Self::MOST_IMAGES as u64),
            ("quality", u64::from(self.quality), 1, 100),
        ];
        match bounds.into_iter().find(|&(_, value, low, high)| value < low || value > high) {
            Some((field, value, low, high)) => Err(MakeError::Spec { field, value, low, high }),
            None => Ok(()),
        }
    }

    /// Number of images of a split.
    pub fn images(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Test => self.test,
        }
    }
}

/// The part of the dataset an image belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training and as the bank of kNN.
    Train = 0,
    /// For queries.
    Test = 1,
}

impl Split {
    /// Both splits, in the order they are written.
    pub const ALL: [Self; 2] = [Self::Train, Self::Test];

    /// The name shards begin with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// What [`make`] left on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Shards of the train split, in order.
    pub train: Vec<PathBuf>,
    /// Shards of the test split, in order.
    pub test: Vec<PathBuf>,
    /// False if the same dataset was there already.
    pub fresh: bool,
}

/// Why no dataset was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The spec asks for what cannot be made: change it.
    #[error("`{field} = {value}` of the dataset to make is out of bounds: give {low} to {high}")]
    Spec {
        /// Field of [`Spec`].
        field: &'static str,
        /// Its value.
        value: u64,
        /// Least allowed.
        low: u64,
        /// Most allowed.
        high: u64,
    },
    /// The folder holds something else: name another or remove it.
    #[error("{} {holds}: name another folder, or remove this one", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        holds: &'static str,
    },
    /// The file system refused.
    #[error("cannot write the dataset at {}: {source}; check the permissions and the free space there", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// One image of the dataset.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The pixels, before JPEG.
    pub image: RgbImage,
    /// Index into [`CLASSES`].
    pub label: usize,
    /// The sidecar.
    pub attributes: Attributes,
}

/// Renders image `index` of a split. Indexes beyond the spec's counts are valid and give further images of the same kind.
pub fn render(spec: &Spec, split: Split, index: usize) -> Sample {
    let scene = scene::Scene::draw(spec.seed, split, index);
    Sample { image: scene.paint(spec.size), label: scene.form.class, attributes: scene.attributes() }
}

/// A sheet of train images: a row for each class with its first `columns` images, 2 pixels of white between them.
pub fn contact_sheet(spec: &Spec, columns: u32) -> RgbImage {
    const GAP: u32 = 2;
    let pitch = spec.size + GAP;
    let mut sheet = RgbImage::from_pixel(columns * pitch + GAP, CLASSES.len() as u32 * pitch + GAP, image::Rgb([255; 3]));
    // Every ten images hold each class once, so column c of all rows comes from the c-th ten.
    for index in 0..columns as usize * CLASSES.len() {
        let sample = render(spec, Split::Train, index);
        let (column, row) = ((index / CLASSES.len()) as u32, sample.label as u32);
        image::imageops::replace(&mut sheet, &sample.image, i64::from(GAP + column * pitch), i64::from(GAP + row * pitch));
    }
    sheet
}
