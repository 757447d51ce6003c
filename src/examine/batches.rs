//! Work on many images. A batch holds the same images whatever the number of threads.

use std::num::NonZeroUsize;

use super::parallel::in_order;
use crate::cli::{ExitCode, Failure};
use crate::data::Source;
use crate::data::examples::{ExampleBatch, View, examples_of};

/// Pixels of a batch, about: what its feature maps take in memory follows from them.
const PIXELS: u64 = 1 << 20;
/// Images of a batch at most.
const IMAGES_MAX: u64 = 64;

/// Calls `work` with the views of all `samples`, a batch at a time; the results in the order of the batches.
///
/// # Errors
/// The source cannot be read.
pub(super) fn over_batches<T: Send>(
    source: &Source,
    samples: &[u64],
    view: View,
    threads: NonZeroUsize,
    work: impl Fn(ExampleBatch) -> T + Sync,
) -> Result<Vec<T>, Failure> {
    let images = (PIXELS / u64::from(view.size).pow(2).max(1)).clamp(4, IMAGES_MAX) as usize;
    let batches: Vec<&[u64]> = samples.chunks(images).collect();
    let one = |samples: &&[u64]| {
        let size = NonZeroUsize::new(samples.len()).unwrap_or(NonZeroUsize::MIN);
        // Threads share batches out, not images.
        let batch = examples_of(source, samples.to_vec(), view, size, NonZeroUsize::MIN).next();
        batch.unwrap_or_else(|| Ok(ExampleBatch::default())).map(&work)
    };
    in_order(&batches, threads, one).map_err(|error| Failure::new(ExitCode::Failed, error))
}
