//! One examination: the images, how they are seen, and how neighbours vote.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::images::{Chosen, Labelled};
use crate::cli::{ExitCode, Failure};
use crate::config::Recipe;
use crate::data::Source;
use crate::data::examples::View;
use crate::eval::EvalError;
use crate::eval::knn::{self, Knn, knn};
use crate::eval::linear::{self, Linear, linear};
use crate::setup;
use crate::train::Swav;

/// Labelled images to learn from and to be judged on. Classes are matched by name; a test image whose class the train
/// images do not have counts as wrong.
///
/// Every result is the same for any number of threads.
#[derive(Debug)]
pub struct Exam {
    pub(super) train: Chosen,
    pub(super) test: Chosen,
    pub(super) view: View,
    pub(super) knn: knn::Settings,
    pub(super) threads: NonZeroUsize,
    classes: Vec<String>,
}

impl Exam {
    /// An exam of the recipe's view, k and temperature. `bank_max` caps the train images (a fixed choice) to keep it cheap.
    ///
    /// # Errors
    /// [`ExitCode::Config`]: no image of a source has a label, or the sources have no class in common.
    pub fn new(
        recipe: &Recipe,
        train: Arc<Source>,
        test: Arc<Source>,
        bank_max: Option<usize>,
        threads: NonZeroUsize,
    ) -> Result<Self, Failure> {
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
        let (mut train, test) = (Chosen::new(train, of_train)?, Chosen::new(test, of_test)?);
        let taught: BTreeSet<u32> = train.labels().collect();
        if !test.labels().any(|label| taught.contains(&label)) {
            let (train, test) = (train.source.place(), test.source.place());
            let what =
                format!("its images have no class in common with those of {train}; use the same folder names or .cls entries in both");
            return Err(Failure::new(ExitCode::Config, format!("{test}: {what}")));
        }
        bank_max.into_iter().for_each(|most| train.cap(most));
        let knn = knn::Settings { k: recipe.eval.k as usize, temperature: recipe.eval.temperature };
        Ok(Self { train, test, view: setup::view(recipe), knn, threads, classes })
    }

    /// The same exam with another vote.
    #[must_use]
    pub fn with_vote(mut self, vote: knn::Settings) -> Self {
        self.knn = vote;
        self
    }

    /// Names of the classes by their numbers: those of the train images, then those that only test images have.
    pub fn classes(&self) -> &[String] {
        &self.classes
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

    /// kNN of a network's trunk.
    ///
    /// # Errors
    /// As [`Exam::features`] and [`Exam::vote`].
    pub fn knn(&self, job: &Swav, weights: &[Arc<Vec<f32>>]) -> Result<Knn, Failure> {
        self.vote(&self.features(job, weights)?)
    }

    /// kNN of features.
    ///
    /// # Errors
    /// [`ExitCode::Unhealthy`] for features that are not finite, [`ExitCode::Usage`] for a setting out of range.
    pub fn vote(&self, (train, test): &(Labelled, Labelled)) -> Result<Knn, Failure> {
        knn(train.features(), test.features(), &self.knn, self.threads.get()).map_err(failed)
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
