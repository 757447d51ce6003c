//! What a run has learned: its states read back from the store, and how good their features are.
//!
//! [`Run`] opens a run for reading. [`Exam`] holds labelled images to learn from and to be judged on, and measures a network or what
//! needs no learning (the same network at random init, raw pixels, colours) on them by kNN.

mod baseline;
mod batches;
mod exam;
mod images;
mod run;
#[cfg(test)]
pub(crate) mod tests;

pub use baseline::{Baselines, CALIBRATION_IMAGES, PIXELS_SIDE_MAX, random_init};
pub use exam::Exam;
pub use images::{Labelled, LeftOut, open_source};
pub use run::{RECIPE_KEY, Run, Verified};

use std::num::NonZeroUsize;

/// Threads that an examination takes when nobody says otherwise: as many as the machine runs at once.
pub fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
