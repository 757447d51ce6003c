//! Labelled images as rows of features.

use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::Serialize;

use super::batches::over_batches;
use crate::cli::{ExitCode, Failure};
use crate::data::Source;
use crate::data::examples::{ExampleBatch, View};
use crate::data::index::OpenError;
use crate::data::loader::BadSample;
use crate::data::random::key;
use crate::eval::Features;

/// Opens images for reading; nothing is cached.
///
/// # Errors
/// [`ExitCode::NotFound`] when there is nothing of that name, [`ExitCode::Config`] when it holds no images or is damaged.
pub fn open_source(place: &str) -> Result<Arc<Source>, Failure> {
    Source::open(place, None).map(Arc::new).map_err(|error| {
        let missing = matches!(error, OpenError::Missing(_) | OpenError::NoMatch(_) | OpenError::ShardMissing { .. });
        Failure::new(if missing { ExitCode::NotFound } else { ExitCode::Config }, error)
    })
}

/// Images of a source that were not used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LeftOut {
    /// Images without a label.
    pub unlabelled: u64,
    /// Images that cannot be decoded.
    pub unreadable: Vec<BadSample>,
}

/// Rows of features with their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// `[labels.len(), dim]`.
    pub values: Vec<f32>,
    /// Features an image.
    pub dim: usize,
    /// Class of each image, counted from 0 as the exam numbers them.
    pub labels: Vec<u32>,
    /// What was not used.
    pub left_out: LeftOut,
}

impl Labelled {
    /// For [`crate::eval`].
    pub fn features(&self) -> Features<'_> {
        Features { values: &self.values, dim: self.dim, labels: &self.labels }
    }
}

/// The labelled images of a source.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    pub(super) source: &'a Source,
    samples: Vec<u64>,
    /// The exam's number of each of the source's classes.
    numbers: Vec<u32>,
    unlabelled: u64,
}

impl<'a> Chosen<'a> {
    /// All labelled images; `numbers[class]` is the exam's number of the source's class.
    ///
    /// # Errors
    /// No image has a label.
    pub(super) fn new(source: &'a Source, numbers: Vec<u32>) -> Result<Self, Failure> {
        let samples: Vec<u64> = (0..source.len()).filter(|sample| source.label(*sample).is_some()).collect();
        if samples.is_empty() {
            let what = "none of its images has a label; put them into folders named by class, or add .cls files";
            return Err(Failure::new(ExitCode::Config, format!("{}: {what}", source.place())));
        }
        let unlabelled = source.len() - samples.len() as u64;
        Ok(Self { source, samples, numbers, unlabelled })
    }

    /// Keeps at most `most` images, which a hash of their numbers chooses: no order of classes in the source can bias it.
    pub(super) fn cap(&mut self, most: usize) {
        if self.samples.len() > most {
            shuffle(&mut self.samples);
            self.samples.truncate(most.max(1));
            self.samples.sort_unstable();
        }
    }

    /// The class of each image as the exam numbers them.
    pub(super) fn labels(&self) -> impl Iterator<Item = u32> + '_ {
        self.samples.iter().filter_map(|sample| self.number(self.source.label(*sample)))
    }

    fn number(&self, label: Option<u32>) -> Option<u32> {
        self.numbers.get(label? as usize).copied()
    }

    /// Features of the images: `extract` makes rows of `dim` values from the `[n, 3, size, size]` pixels of n images.
    ///
    /// # Errors
    /// The source cannot be read, or no image of it can be decoded.
    pub(super) fn features(
        &self,
        view: View,
        dim: usize,
        threads: NonZeroUsize,
        extract: &(dyn Fn(Vec<f32>, usize) -> Vec<f32> + Sync),
    ) -> Result<Labelled, Failure> {
        let parts = over_batches(self.source, &self.samples, view, threads, |mut batch: ExampleBatch| {
            let pixels = std::mem::take(&mut batch.pixels);
            let values = if batch.samples.is_empty() { Vec::new() } else { extract(pixels, batch.samples.len()) };
            (values, batch)
        })?;
        let left_out = LeftOut { unlabelled: self.unlabelled, ..LeftOut::default() };
        let mut all = Labelled { values: Vec::with_capacity(self.samples.len() * dim), dim, labels: Vec::new(), left_out };
        for (values, batch) in parts {
            all.values.extend(values);
            all.labels.extend(batch.labels.into_iter().filter_map(|label| self.number(label)));
            all.left_out.unreadable.extend(batch.bad);
        }
        match all.left_out.unreadable.first() {
            Some(bad) if all.labels.is_empty() => {
                let what = format!("none of its labelled images can be decoded, for instance {}: {}", bad.name, bad.reason);
                Err(Failure::new(ExitCode::Config, format!("{}: {what}", self.source.place())))
            }
            _ => Ok(all),
        }
    }

    /// At most `most` of the images, shuffled: classes are mixed whatever the order of the source.
    pub(super) fn shuffled(&self, most: usize) -> Vec<u64> {
        let mut samples = self.samples.clone();
        shuffle(&mut samples);
        samples.truncate(most);
        samples
    }
}

/// Into an order that depends on the numbers alone.
fn shuffle(samples: &mut [u64]) {
    samples.sort_by_cached_key(|sample| *key("chosen", &[*sample]).as_bytes());
}
