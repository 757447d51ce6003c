//! What a run has learned: its states read back from the store, and how good their features are.
//!
//! [`Run`] opens a run for reading. An [`Exam`] holds labelled images to learn from and to be judged on; [`knn_of`] and [`baselines`]
//! measure a trunk, and what needs no learning (the same trunk at random init, raw pixels, colours), on them.

mod baseline;
mod batches;
mod exam;
mod images;
mod parallel;
mod prototypes;
mod run;
mod subject;

pub use baseline::{Baselines, CALIBRATION_IMAGES, PIXELS_SIDE_MAX, random_init};
pub use exam::Exam;
pub use images::{Labelled, LeftOut, open_source};
pub(crate) use parallel::in_order;
pub use prototypes::{PrototypeUse, prototype_use};
pub use run::{RECIPE_KEY, Run, Weights};
pub use subject::Subject;

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::cli::Failure;
use crate::config::Recipe;
use crate::data::Source;
use crate::data::examples::View;
use crate::setup;

/// How images are seen and how neighbours vote. Results are the same for any number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    /// The view of an image.
    pub view: View,
    /// Neighbours that vote.
    pub k: usize,
    /// A vote weighs exp(cosine / temperature).
    pub temperature: f64,
    /// Threads that work on it; 0 counts as 1.
    pub threads: usize,
    /// Train images at most, a fixed choice among all; `None` takes all.
    pub bank_max: Option<usize>,
    /// Test images at most, a fixed choice among all; `None` takes all.
    pub test_max: Option<usize>,
}

impl Probe {
    /// As the recipe has it: all images, as many threads as the machine runs at once.
    pub fn of(recipe: &Recipe) -> Self {
        Self {
            view: setup::view(recipe),
            k: recipe.eval.k as usize,
            temperature: recipe.eval.temperature,
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            bank_max: None,
            test_max: None,
        }
    }
}

/// kNN accuracy of a trunk, in percent. `weights`: at least the trunk's units.
///
/// # Errors
/// As [`Exam::new`], [`Exam::features`] and [`Exam::vote`].
pub fn knn_of(run: &Run, weights: &[Arc<Vec<f32>>], train: &Source, test: &Source, probe: &Probe) -> Result<f64, Failure> {
    let exam = Exam::new(train, test, probe)?;
    Ok(exam.vote(&exam.features(run.job(), weights)?)?.top1)
}

/// kNN accuracy of what learned nothing, on the same images with the same vote.
///
/// # Errors
/// As [`knn_of`].
pub fn baselines(run: &Run, train: &Source, test: &Source, probe: &Probe) -> Result<Baselines, Failure> {
    Exam::new(train, test, probe)?.baselines(run.job())
}
