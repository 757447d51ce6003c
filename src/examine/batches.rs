//! Work on many images by some threads. A batch holds the same images whatever the number of threads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let one = |samples: &[u64]| {
        let size = NonZeroUsize::new(samples.len()).unwrap_or(NonZeroUsize::MIN);
        let batch = examples_of(source, samples.to_vec(), view, size, NonZeroUsize::MIN).next();
        batch.unwrap_or_else(|| Ok(ExampleBatch::default())).map(&work)
    };
    let thread = || {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(samples) = batches.get(number) else { break };
            let result = one(samples);
            stop.fetch_or(result.is_err(), Ordering::Relaxed);
            done.push((number, result));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.get().min(batches.len())).map(|_| scope.spawn(thread)).collect();
        let mut done = thread();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result.map_err(|error| Failure::new(ExitCode::Failed, error))).collect()
}
