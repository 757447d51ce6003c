//! Batches of crops for (step, lane): what the runtime's loader actor calls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use everstep_actors::protocol::ids::{Lane, Step};
use everstep_actors::workload::{self, Batch, SourceError};
use serde::{Deserialize, Serialize};

use crate::data::augment::lane::LaneCrops;
use crate::data::augment::recipe::{Crops, RecipeError};
use crate::data::augment::{CropSeed, Cropper};
use crate::data::decode::{DecodeLimits, Rgb, decode};
use crate::data::order::{Batches, Order, TooFewSamples, WINDOW_SHARDS};
use crate::data::random::Random;
use crate::data::source::{ReadError, Source};

/// How many other images are tried in place of a bad one.
const REPLACEMENTS_MAX: usize = 16;
/// Names of bad images that an error shows.
const NAMES_SHOWN: usize = 5;
/// The share of bad images is not judged on fewer images than this (or than the source has).
const SHARE_SEEN_MIN: u64 = 1000;

/// An image that could not be used. One line of `bad-samples.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadSample {
    /// Number in the source.
    pub sample: u64,
    /// Name in the source.
    pub name: String,
    /// Why, as a sentence about "it".
    pub reason: String,
}

/// Told once of each bad image, from the thread that met it.
pub type OnBad = Arc<dyn Fn(&BadSample) + Send + Sync>;

/// What a loader makes of a source.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Seed of the run: order, crops and replacements depend on it.
    pub seed: u64,
    /// Lanes of the global batch.
    pub lanes: u32,
    /// Images of one lane.
    pub images_per_lane: u32,
    /// Crops and augmentation.
    pub crops: Crops,
    /// How large an image may be.
    pub limits: DecodeLimits,
    /// Bad images over images seen (by this process, counted as at least 1000 or the whole source) above which the run ends.
    pub bad_share_max: f64,
    /// Shards that are mixed at a time.
    pub window_shards: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            lanes: 1,
            images_per_lane: 32,
            crops: Crops::default(),
            limits: DecodeLimits::default(),
            bad_share_max: 0.01,
            window_shards: WINDOW_SHARDS,
        }
    }
}

/// A loader cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LoaderError {
    /// A value of the recipe is out of range.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// There is not one full batch.
    #[error("{place}: {problem}")]
    TooFew {
        /// The source.
        place: String,
        /// Sizes and remedy.
        problem: TooFewSamples,
    },
    /// Not a share.
    #[error("the allowed share of bad images is {0}; it must be 0 to 1")]
    Share(f64),
}

/// Decodes and augments lanes' batches. Any number of threads may call [`workload::Source::batch`] at once.
pub struct Loader {
    source: Arc<Source>,
    options: LoaderOptions,
    order: Order,
    batches: Batches,
    on_bad: OnBad,
    tally: Mutex<Tally>,
    croppers: Mutex<Vec<Cropper>>,
}

/// Counts of this process. They decide only whether the run ends, never what a batch holds.
#[derive(Debug, Default)]
struct Tally {
    seen: u64,
    bad: BTreeSet<u64>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("source", &self.source.place()).field("options", &self.options).finish_non_exhaustive()
    }
}

impl Loader {
    /// A loader over a source.
    ///
    /// # Errors
    /// The options do not fit, or the source has fewer images than a global batch.
    pub fn new(source: Arc<Source>, options: LoaderOptions, on_bad: OnBad) -> Result<Self, LoaderError> {
        options.crops.validate()?;
        if !(0.0..=1.0).contains(&options.bad_share_max) {
            return Err(LoaderError::Share(options.bad_share_max));
        }
        let batches = Batches::new(source.len(), options.lanes, options.images_per_lane)
            .map_err(|problem| LoaderError::TooFew { place: source.place().to_owned(), problem })?;
        let order = Order::new(options.seed, &source.shards(), options.window_shards);
        Ok(Self { source, options, order, batches, on_bad, tally: Mutex::default(), croppers: Mutex::default() })
    }

    /// Full global batches of a pass.
    pub fn steps_per_pass(&self) -> u64 {
        self.batches.steps_per_pass()
    }

    /// Distinct bad images that this process has met.
    pub fn bad_samples(&self) -> u64 {
        self.lock_tally().bad.len() as u64
    }

    /// The samples that one lane draws at one step, each with its pass: what is decoded, unless an image is bad.
    pub fn drawn(&self, step: Step, lane: Lane) -> Vec<(u64, u64)> {
        let positions = (0..self.options.images_per_lane).map(|slot| self.batches.position(step.0, lane.0, slot));
        positions.map(|(pass, position)| (pass, self.order.sample(pass, position))).collect()
    }

    /// The crops of one lane at one step and the samples that they were really cut from.
    ///
    /// # Errors
    /// The data cannot be read, or too much of it is bad.
    pub fn crops(&self, step: Step, lane: Lane) -> Result<(Vec<u64>, LaneCrops), SourceError> {
        let images = self.options.images_per_lane;
        let mut crops = LaneCrops::zeros(&self.options.crops, images as usize);
        let mut samples = Vec::with_capacity(images as usize);
        let mut cropper = self.croppers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        for slot in 0..images {
            let (pass, position) = self.batches.position(step.0, lane.0, slot);
            let (sample, image) = self.usable(pass, self.order.sample(pass, position))?;
            let seed = CropSeed { seed: self.options.seed, pass, sample };
            cropper.crops(&image, &self.options.crops, seed, &mut crops, slot as usize);
            samples.push(sample);
        }
        self.croppers.lock().unwrap_or_else(PoisonError::into_inner).push(cropper);
        Ok((samples, crops))
    }

    /// The image of a sample, or of the first usable one of its replacements: those are a pure function of (seed, pass, sample).
    fn usable(&self, pass: u64, sample: u64) -> Result<(u64, Rgb), SourceError> {
        self.lock_tally().seen += 1;
        let mut random = Random::new("replacement", &[self.options.seed, pass, sample]);
        let mut candidate = sample;
        for _ in 0..=REPLACEMENTS_MAX {
            match self.decode(candidate)? {
                Ok(image) => return Ok((candidate, image)),
                Err(reason) => self.report(candidate, reason)?,
            }
            // Two draws reach every sample of sources above 2³² images as well.
            let wide = u128::from(random.below(u32::MAX)) << 32 | u128::from(random.below(u32::MAX));
            candidate = ((wide * u128::from(self.source.len())) >> 64) as u64;
        }
        let name = self.source.name(sample);
        let problem = format!("{}: neither {name} nor {REPLACEMENTS_MAX} images tried in its place can be used", self.source.place());
        Err(SourceError(format!("{problem}; {}", self.remedy())))
    }

    /// The image, or why it is bad. Failures that may differ between machines are errors of the run instead: a
    /// replacement that only one rank makes would change the results.
    fn decode(&self, sample: u64) -> Result<Result<Rgb, String>, SourceError> {
        match self.source.bytes(sample) {
            Ok(bytes) => Ok(decode(&bytes, &self.options.limits).map_err(|error| error.to_string())),
            Err(error @ ReadError::TooLarge { .. }) => Ok(Err(error.to_string())),
            Err(error) => Err(SourceError(error.to_string())),
        }
    }

    fn report(&self, sample: u64, reason: String) -> Result<(), SourceError> {
        let mut tally = self.lock_tally();
        if !tally.bad.insert(sample) {
            return Ok(());
        }
        let seen = tally.seen.max(SHARE_SEEN_MIN).min(self.source.len());
        let bad = tally.bad.len() as u64;
        let names: Vec<&str> = tally.bad.iter().rev().take(NAMES_SHOWN).map(|&sample| self.source.name(sample)).collect();
        let too_many = bad as f64 > self.options.bad_share_max * seen as f64;
        let problem = too_many.then(|| format!("{bad} of {seen} images cannot be used, for instance {}", names.join(", ")));
        drop(tally);
        (self.on_bad)(&BadSample { sample, name: self.source.name(sample).to_owned(), reason });
        problem.map_or(Ok(()), |problem| Err(SourceError(format!("{}: {problem}; {}", self.source.place(), self.remedy()))))
    }

    fn remedy(&self) -> String {
        format!("repair or remove them, or raise the allowed share of {}", self.options.bad_share_max)
    }

    fn lock_tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl workload::Source for Loader {
    /// `data` is a [`LaneCrops`].
    fn batch(&self, step: Step, lane: Lane) -> Result<Batch, SourceError> {
        let (samples, crops) = self.crops(step, lane)?;
        Ok(Batch { samples, data: Box::new(crops) })
    }
}

#[cfg(test)]
mod tests;
