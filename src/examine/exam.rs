//! One examination: the images and what is asked of their features.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::Probe;
use super::images::{Chosen, Labelled};
use crate::cli::{ExitCode, Failure};
use crate::data::Source;
use crate::data::examples::View;
use crate::eval::EvalError;
use crate::eval::knn::{self, Knn, knn};
use crate::eval::linear::{self, Linear, linear};
use crate::train::Swav;

/// Labelled images to learn from and to be judged on. Classes are matched by name; a test image whose class the train
/// images do not have counts as wrong.
///
/// Every result is the same for any number of threads.
#[derive(Debug)]
pub struct Exam<'a> {
    pub(super) train: Chosen<'a>,
    pub(super) test: Chosen<'a>,
    pub(super) view: View,
    pub(super) threads: NonZeroUsize,
    vote: knn::Settings,
    classes: Vec<String>,
    strangers: u64,
}

impl<'a> Exam<'a> {
    /// Chooses the images.
    ///
    /// # Errors
    /// [`ExitCode::Config`]: no image of a source has a label, or the sources have no class in common.
    pub fn new(train: &'a Source, test: &'a Source, probe: &Probe) -> Result<Self, Failure> {
        let mut classes: Vec<String> = train.classes().to_vec();
        let known: BTreeMap<String, u32> = classes.iter().cloned().zip(0..).collect();
        let mut of_test = Vec::with_capacity(test.classes().len());
        for name in test.classes() {
            of_test.push(known.get(name).copied().unwrap_or(classes.len() as u32));
            if !known.contains_key(name) {
                classes.push(name.clone());
            }
        }
        let of_train = (0..train.classes().len() as u32).collect();
        let (mut train, mut test) = (Chosen::new(train, of_train)?, Chosen::new(test, of_test)?);
        let taught: BTreeSet<u32> = train.labels().collect();
        let strangers = test.labels().filter(|label| !taught.contains(label)).count() as u64;
        if strangers == test.labels().count() as u64 {
            let (train, test) = (train.source.place(), test.source.place());
            let what =
                format!("its images have no class in common with those of {train}; use the same folder names or .cls entries in both");
            return Err(Failure::new(ExitCode::Config, format!("{test}: {what}")));
        }
        probe.bank_max.into_iter().for_each(|most| train.cap(most));
        probe.test_max.into_iter().for_each(|most| test.cap(most));
        let threads = NonZeroUsize::new(probe.threads).unwrap_or(NonZeroUsize::MIN);
        let vote = knn::Settings { k: probe.k, temperature: probe.temperature };
        Ok(Self { train, test, view: probe.view, threads, vote, classes, strangers })
    }

    /// Names of the classes by their numbers: those of the train images, then those that only test images have.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Test images of classes that the train images do not have.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Pooled trunk features of the train and the test images. `weights`: at least the trunk's units.
    ///
    /// # Errors
    /// A source cannot be read, or holds nothing that can be decoded.
    pub fn features(&self, job: &Swav, weights: &[Arc<Vec<f32>>]) -> Result<(Labelled, Labelled), Failure> {
        let size = self.view.size as usize;
        let extract = |pixels, n| job.model().features(weights, pixels, [n, 3, size, size], job.device());
        self.extract(self.view, job.model().width(), &extract)
    }

    /// Rows of `dim` values for the train and the test images.
    pub(super) fn extract(
        &self,
        view: View,
        dim: usize,
        extract: &(dyn Fn(Vec<f32>, usize) -> Vec<f32> + Sync),
    ) -> Result<(Labelled, Labelled), Failure> {
        Ok((self.train.features(view, dim, self.threads, extract)?, self.test.features(view, dim, self.threads, extract)?))
    }

    /// kNN of features.
    ///
    /// # Errors
    /// [`ExitCode::Unhealthy`] for features that are not finite, [`ExitCode::Usage`] for a setting out of range.
    pub fn vote(&self, (train, test): &(Labelled, Labelled)) -> Result<Knn, Failure> {
        knn(train.features(), test.features(), &self.vote, self.threads.get()).map_err(failed)
    }

    /// A linear probe on features.
    ///
    /// # Errors
    /// As [`Exam::vote`].
    pub fn probe(&self, (train, test): &(Labelled, Labelled), settings: &linear::Settings) -> Result<Linear, Failure> {
        linear(train.features(), test.features(), settings, self.threads.get()).map_err(failed)
    }
}

fn failed(error: EvalError) -> Failure {
    let code = match error {
        EvalError::NotFinite { .. } => ExitCode::Unhealthy,
        EvalError::Setting { .. } => ExitCode::Usage,
        EvalError::Empty(_) | EvalError::Label { .. } => ExitCode::Config,
        EvalError::Shape { .. } | EvalError::Dim { .. } => ExitCode::Internal,
    };
    Failure::new(code, error)
}
